"""The user's own weights: added whole or not at all, found by name, and noticed when they are damaged."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from deblur_jax import weights
from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.restore.restorer import Restorer
from deblur_jax.weights import library, published, store


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "deblur_jax" / "weights"


def inside(folder):
    return sorted(file.name for file in folder.rglob("*")) if folder.exists() else []


def test_the_folder_is_the_users(tmp_path, monkeypatch):
    assert library.folder() == tmp_path / "data" / "deblur_jax" / "weights"
    monkeypatch.setenv("HOME", str(tmp_path))
    for other in ("", "relative/folder"):
        monkeypatch.setenv("XDG_DATA_HOME", other)
        assert library.folder() == tmp_path / ".local" / "share" / "deblur_jax" / "weights"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert library.folder() == tmp_path / ".local" / "share" / "deblur_jax" / "weights"


def test_without_a_home_what_comes_with_the_package_is_found_all_the_same(monkeypatch):
    def homeless():
        raise RuntimeError

    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setattr(Path, "home", homeless)
    assert weights.resolve("nano").network == "nano"
    assert library.names() == []
    with pytest.raises(UserError, match="set XDG_DATA_HOME to a folder"):
        library.folder()


def test_added_weights_are_found_by_name(nano, folder):
    file = nano()
    assert library.add(file, name="mine", sha256=hashlib.sha256(file.read_bytes()).hexdigest().upper())
    assert library.names() == ["mine"]
    assert library.path("mine") == folder / "mine.safetensors"
    assert library.path("mine").read_bytes() == file.read_bytes()
    assert inside(folder) == ["mine.safetensors", "mine.sha256"]
    file.unlink()
    assert weights.resolve("mine").card == weights.find("mine").card == {"data": "noise"}
    picture = np.full((16, 16, 3), 0.5, np.float32)
    assert Restorer("mine").restore(picture).shape == picture.shape
    library.remove("mine")
    assert library.names() == inside(folder) == []


def test_the_note_is_what_other_programs_read(nano, folder):
    library.add(nano("own-name.safetensors"))
    done = subprocess.run(["sha256sum", "-c", "own-name.sha256"], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "own-name.safetensors: OK\n"


def test_a_file_in_the_working_folder_goes_first(nano, tmp_path, monkeypatch):
    library.add(nano(), name="mine")
    weights.save(
        tmp_path / "mine", network="nano", params=weights.load(nano()).params, card={"is": "a file"}, merged=True
    )
    monkeypatch.chdir(tmp_path)
    assert weights.resolve("mine").card == {"is": "a file"}


def test_a_taken_name_is_refused_unless_overwrite(nano, folder):
    first, second = nano("first.safetensors", seed=1), nano("second.safetensors", seed=2)
    library.add(first, name="mine")
    with pytest.raises(UserError, match=r"mine\.safetensors: exists already; --overwrite replaces it"):
        library.add(second, name="mine")
    assert library.path("mine").read_bytes() == first.read_bytes()
    library.add(second, name="mine", overwrite=True)
    assert library.path("mine").read_bytes() == second.read_bytes()
    assert len((folder / "mine.sha256").read_text().splitlines()) == 1
    library.check("mine")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a.b", "A", "-a", "a b", "a\n", "a" * 65, "ä"])
def test_names_that_are_no_safe_file_names(nano, folder, name):
    with pytest.raises(UserError, match="cannot be a name: a to z, digits, - and _ only"):
        library.add(nano(), name=name)
    assert not inside(folder)


@pytest.mark.parametrize("name", ["nano", "small", "deepdeblur"])
def test_networks_keep_their_names(nano, folder, name):
    for overwrite in (False, True):
        with pytest.raises(UserError, match="the name of a network that comes with the package; give another"):
            library.add(nano(), name=name, overwrite=overwrite)
    assert not inside(folder)


def test_only_weights_of_this_project_get_in(nano, tmp_path, folder):
    cut, other = tmp_path / "cut.safetensors", tmp_path / "other.safetensors"
    cut.write_bytes(nano().read_bytes()[:-8])
    other.write_text("{}")
    for file, message in {
        tmp_path / "none.safetensors": "none.safetensors: No such file",
        tmp_path: "Is a directory",
        cut: "cut.safetensors: not a whole safetensors file",
        other: "other.safetensors: not a whole safetensors file",
    }.items():
        with pytest.raises(UserError, match=message):
            library.add(file, name="mine")
    assert not inside(folder)


def test_weights_must_fit_their_network(nano, folder, monkeypatch):
    file = nano()
    monkeypatch.setitem(zoo.NETWORKS, "nano", zoo.NETWORKS["small"])
    with pytest.raises(UserError, match="does not fit nano"):
        library.add(file, name="mine")
    assert not inside(folder)


def test_the_checksum_that_is_asked_for(nano, folder):
    for sha256, message in {
        "12": "must be 64 hexadecimal digits, not '12'",
        "0" * 64: "not the file that was meant",
    }.items():
        with pytest.raises(UserError, match=message):
            library.add(nano(), name="mine", sha256=sha256)
    assert not inside(folder)


def test_damage_is_noticed(nano, folder):
    library.add(nano(), name="mine")
    file = folder / "mine.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1  # one bit of one weight: still a set of weights, which fits
    file.write_bytes(whole)
    store.load(file)
    for find in (weights.resolve, weights.find, library.check, Restorer):
        with pytest.raises(UserError, match=r"mine\.safetensors: damaged, its sha256 is not .* weights remove mine"):
            find("mine")
    (folder / "mine.sha256").unlink()
    with pytest.raises(UserError, match="has no checksum beside it"):
        weights.resolve("mine")
    library.add(nano(), name="mine", overwrite=True)
    library.check("mine")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_no_set(nano, folder, overwrite):
    (folder / "mine.safetensors").mkdir(parents=True)
    assert library.names() == []
    with pytest.raises(UserError, match=r"mine\.safetensors: cannot be written: Is a directory"):
        library.add(nano(), name="mine", overwrite=overwrite)
    assert inside(folder) == ["mine.safetensors"]


def test_a_listed_set_is_one_line_whatever_its_card_holds(nano, tmp_path, capsys):
    file, params = tmp_path / "odd.safetensors", weights.load(nano()).params
    odd = {"summary": "red\x1b[31m\nand \x9bblue"}
    weights.save(file, network="nano", params=params, card=odd, merged=True)
    library.add(file)
    assert main(["weights", "list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.split("\n") if line.startswith("odd ")]
    assert line.endswith("  red [31m and  blue")


def test_a_card_nested_too_deep_hides_no_other(nano, folder, capsys):
    library.add(nano(), name="mine")
    card = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    about = {"format": "deblur_jax 1", "network": "nano", "merged": "true", "card": card}
    save_file({"a": np.zeros(1)}, folder / "deep.safetensors", metadata=about)
    assert main(["weights", "list"]) == 1
    said = capsys.readouterr()
    assert "deep.safetensors: not a set of weights that deblur_jax wrote, or damaged" in said.err
    assert "\nmine " in said.out


def test_names_that_are_not_there(nano):
    library.add(nano(), name="mine")
    for act in (library.path, library.remove, library.check, library.load):
        with pytest.raises(UserError, match=r"other: no weights of yours are called so \(mine\)"):
            act("other")
    with pytest.raises(UserError, match=r"no such weights file .* \(there are nano, small, nano\+small, mine\)"):
        weights.resolve("other")
    with pytest.raises(
        UserError, match=r"its weights do not come with the package \(there are nano, small, nano\+small, mine\)"
    ):
        weights.resolve("large")
    with pytest.raises(UserError, match="deblur weights fetch maxim-gopro gets them"):
        weights.resolve("maxim-gopro")
    assert published.hint("large") == ""


def test_a_folder_that_cannot_be_made(nano, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be made: Not a directory"):
        library.add(nano(), name="mine")
    assert library.names() == []


def full_disk_after(kibibytes, *arguments):
    """The command where no file can be larger than that."""
    limited = ["sh", "-c", f'ulimit -f {2 * kibibytes}; exec "$@"', "sh", sys.executable, "-m", "deblur_jax"]
    # What JAX compiles is a file too.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION_CACHE")}
    return subprocess.run([*limited, *map(str, arguments)], capture_output=True, text=True, env=environment)


def test_on_a_full_disk_nothing_is_half_installed(folder):
    """With the bundled weights: the process has no small Nano."""
    source = store.BUNDLED / "nano.safetensors"
    done = full_disk_after(1000, "weights", "add", source, "--as", "mine")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"deblur weights: {folder / 'mine.safetensors'}: cannot be written: File too large\n"
    assert not inside(folder)


def test_on_a_full_disk_what_was_there_stays(folder, random_variables, tmp_path):
    params = random_variables(zoo.get("nano").deployed())["params"]
    other = tmp_path / "other.safetensors"
    weights.save(other, network="nano", params=params, card={}, merged=True)
    library.add(store.BUNDLED / "nano.safetensors", name="mine")
    note = (folder / "mine.sha256").read_bytes()
    done = full_disk_after(1000, "weights", "add", other, "--as", "mine", "--overwrite")
    assert done.returncode == 2
    library.check("mine")
    assert (folder / "mine.sha256").read_bytes() == note
    assert inside(folder) == ["mine.safetensors", "mine.sha256"]


@pytest.mark.parametrize("after", range(3))
def test_killed_at_any_moment_of_replacing_the_set_is_good(nano, monkeypatch, after):
    """Killed: not even what is done on an error is done."""
    first, second = nano("first.safetensors", seed=1), nano("second.safetensors", seed=2)
    library.add(first, name="mine")
    written, write = [], library.write_whole

    def dies(path, data):
        if len(written) >= after:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    monkeypatch.setattr(library, "write_whole", dies)
    monkeypatch.setattr(library, "_take_back", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        library.add(second, name="mine", overwrite=True)
    library.check("mine")
    assert library.path("mine").read_bytes() == (second if after == 2 else first).read_bytes()


def test_weights_that_are_no_file_yet(nano, folder):
    found = weights.load(nano())
    assert library.keep(found, "made") == folder / "made.safetensors"
    assert weights.resolve("made").card == found.card
    with pytest.raises(UserError, match="exists already"):
        library.keep(found, "made")
    assert inside(folder) == ["made.safetensors", "made.sha256"]
