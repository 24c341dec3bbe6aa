"""`deblur weights`: what it prints, and its exit codes."""

import json

import pytest

from deblur_jax.cli import main
from deblur_jax.weights import store


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Runs the verb with a folder of its own; returns exit code, output and errors."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def said(*arguments):
        code = main(["weights", *map(str, arguments)])
        return code, *capsys.readouterr()

    return said


def test_add_list_show_remove(said, nano, tmp_path):
    file = tmp_path / "data" / "deblur_jax" / "weights" / "mine.safetensors"
    assert said("add", nano(), "--as", "mine") == (0, f"{file}\n", "")
    code, out, err = said("list")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert [row[:2] for row in rows[:2]] == [["nano", "bundled"], ["mine", "yours"]]
    assert rows[1][2:] == [f"{file.stat().st_size / 2**20:.1f}", "MiB", "nano"]
    assert out.splitlines()[2].startswith("deblur weights fetch maxim-gopro gets MAXIM")
    code, out, _ = said("show", "mine")
    assert json.loads(out) == {"network": "nano", "variant": {}, "merged": True, "data": "noise"}
    assert said("remove", "mine") == (0, "", "")
    assert "mine" not in said("list")[1]
    assert said("remove", "mine")[0] == 2


def test_a_list_for_programs(said, nano):
    said("add", nano("mine.safetensors"))
    _, out, _ = said("list", "--json")
    bundled, mine = json.loads(out)
    assert bundled["name"] == "nano"
    assert bundled["summary"].startswith("a first Nano")
    assert (mine["name"], mine["whose"], mine["network"], mine["summary"]) == ("mine", "yours", "nano", "")


def test_a_broken_set_hides_no_other(said, nano, tmp_path):
    said("add", nano(), "--as", "mine")
    said("add", nano(), "--as", "other")
    (tmp_path / "data" / "deblur_jax" / "weights" / "mine.safetensors").write_bytes(b"nothing")
    code, out, err = said("list")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["nano", "other"]
    assert "mine.safetensors: not a whole safetensors file" in err
    assert err.count("\n") == 1


def test_weights_that_a_later_version_comes_with_hide_the_users(said, nano, monkeypatch):
    said("add", nano(), "--as", "mine")
    monkeypatch.setattr(store, "bundled", lambda: ["nano", "mine"])
    monkeypatch.setattr(store, "BUNDLED", nano("mine.safetensors").parent)
    nano("nano.safetensors")
    assert [(row["name"], row["whose"]) for row in json.loads(said("list", "--json")[1])] == [
        ("nano", "bundled"),
        ("mine", "bundled"),
        ("mine", "hidden"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "none.safetensors"], "none.safetensors: No such file or directory"),
        (["add", "none.safetensors", "--as", "a/b"], "'a/b' cannot be a name"),
        (["add", "none.safetensors", "--as", "small"], "small: the name of a network"),
        (["add", "none.safetensors", "--sha256", "12"], "--sha256 must be 64 hexadecimal digits"),
        (["remove", "other"], "other: no weights of yours are called so (there are none)"),
        (["show", "other"], "other: no such weights file or training workdir"),
        (["show", "maxim-gopro"], "deblur weights fetch maxim-gopro gets them"),
        (["fetch", "other"], "other: not among what can be fetched, which is maxim-gopro"),
    ],
)
def test_mistakes_are_one_line(said, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
