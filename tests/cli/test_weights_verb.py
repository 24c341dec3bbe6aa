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
    assert [row[:2] for row in rows[:2]] == [["nano", "bundled"], ["small", "bundled"]]
    assert [row[:2] for row in rows[2:4]] == [["nano+small", "bundled"], ["mine", "yours"]]
    assert rows[3][2:] == [f"{file.stat().st_size / 2**20:.1f}", "MiB", "nano"]
    assert out.splitlines()[4].startswith("deblur weights fetch maxim-gopro gets MAXIM")
    code, out, _ = said("show", "mine")
    assert json.loads(out) == {"network": "nano", "variant": {}, "merged": True, "data": "noise"}
    assert said("remove", "mine") == (0, "", "")
    assert "mine" not in said("list")[1]
    assert said("remove", "mine")[0] == 2


def test_a_list_for_programs(said, nano):
    said("add", nano("mine.safetensors"))
    _, out, _ = said("list", "--json")
    *bundled, mine = json.loads(out)
    assert [row["name"] for row in bundled] == ["nano", "small", "nano+small"]
    for row in bundled:
        assert row["summary"].startswith(f"{row['name'].capitalize()}: ")
    assert (mine["name"], mine["whose"], mine["network"], mine["summary"]) == ("mine", "yours", "nano", "")


def test_a_broken_set_hides_no_other(said, nano, tmp_path):
    said("add", nano(), "--as", "mine")
    said("add", nano(), "--as", "other")
    (tmp_path / "data" / "deblur_jax" / "weights" / "mine.safetensors").write_bytes(b"nothing")
    code, out, err = said("list")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["nano", "small", "nano+small", "other"]
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
        (["import", "none.safetensors", "--as", "/tmp/x"], "'/tmp/x' cannot be a name"),
        (["import", "none.safetensors", "--as", "nano"], "nano: the name of a network"),
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


def test_an_import_goes_under_its_name_and_nowhere_else(said, nano, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_text("precious")
    assert said("import", nano(), "--as", other.with_suffix(""))[0] == 2
    assert other.read_text() == "precious"
    assert said("import", nano(), "--as", "mine")[:2] == (0, f"{tmp_path}/data/deblur_jax/weights/mine.safetensors\n")


def test_the_scores_of_a_report_go_into_the_card(nano, tmp_path, capsys):
    model = nano("mild.safetensors")
    groups = {"blur": [{"name": "shake moderate", "pictures": 2, "rows": {}}]}
    groups["blur"][0]["rows"] = {
        "blurry": {"psnr": {"mean": 22.0}},
        "a": {"psnr": {"gain": 0.5, "gain_interval": [0.4, 0.6]}, "better": 1.0, "worst_gain": 0.4},
    }
    rows = {"blurry": {}, "a": {"network": "nano", "weights": str(model)}}
    report = {"rows": rows, "data": "/somewhere/grid", "pictures_scored": 2, "version": "0", "groups": groups}
    (tmp_path / "report.json").write_text(json.dumps(report))
    pack = ["weights", "pack", str(model), "-o", str(tmp_path / "packed.safetensors"), "--report"]
    assert main([*pack, str(tmp_path / "report.json")]) == 0
    said = store.load(tmp_path / "packed.safetensors").card["evaluation"]
    assert said["data"] == "grid"
    shake = said["groups"]["blur"]["shake moderate"]
    assert shake == {
        "pictures": 2,
        "blurry": 22.0,
        "gain": 0.5,
        "interval": [0.4, 0.6],
        "better": 1.0,
        "worst_gain": 0.4,
    }
    for broken, words in (({**report, "rows": {}}, "the report has no row of"), ({"rows": rows}, "not a report.json")):
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        assert main([*pack, str(tmp_path / "broken.json"), "--overwrite"]) == 2
        assert words in capsys.readouterr().err
