"""Which pictures are meant by the words on a command line."""

import os
import shutil
import subprocess
import sys

import pytest

from deblur_jax.errors import UserError
from deblur_jax.restore.inputs import Found, collect, is_clip, is_pattern


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "a/9.jpg",
        "a/10.JPG",
        "a/b/x.png",
        "a/notes.txt",
        "a/.hidden.jpg",
        "a/.trash/y.jpg",
        "one.odd",
        "c.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def paths(found):
    return [item.path.as_posix() for item in found]


def test_folders_are_searched_and_other_files_counted(tree):
    found = collect(["a"])
    assert paths(found) == ["a/9.jpg", "a/10.JPG", "a/b/x.png"]
    assert found.skipped == 1
    assert {item.root.as_posix() for item in found} == {"a"}


def test_files_are_taken_as_named_whatever_their_suffix(tree):
    found = collect(["one.odd", tree / "c.png"])
    assert found == [Found(tree.__class__("one.odd"), tree.__class__(".")), Found(tree / "c.png", tree)]
    assert found.skipped == 0


def test_patterns_and_their_folder(tree):
    assert paths(collect(["a/*.[jJ]*"])) == ["a/9.jpg", "a/10.JPG"]
    found = collect(["a/**/*"])
    assert sorted(paths(found)) == ["a/10.JPG", "a/9.jpg", "a/b/x.png"]
    assert {item.root.as_posix() for item in found} == {"a"}
    assert found.skipped == 1
    with pytest.raises(UserError, match=r"^a/\*.gif: matches no files$"):
        collect(["a/*.gif"])


def test_a_name_with_brackets_is_a_file_if_there_is_one(tree):
    (tree / "[1].png").write_bytes(b"")
    assert paths(collect(["[1].png"])) == ["[1].png"]


def test_everything_comes_once(tree):
    (tree / "link.png").symlink_to("c.png")
    (tree / "a" / "loop").symlink_to(tree)
    assert paths(collect(["c.png", "./c.png", "link.png", tree / "c.png"])) == ["c.png"]
    found = collect(["a", "a/b", "a/9.jpg"])
    assert paths(found).count("a/9.jpg") == 1
    assert len({path.resolve() for path in (item.path for item in found)}) == len(found)


def test_links_to_nothing_are_left_to_be_found_wrong(tree):
    for name in ("a/loop.jpg", "dangling.jpg"):
        (tree / name).symlink_to(name.replace("a/", ""))
    assert paths(collect(["a", "dangling.jpg"])) == ["a/9.jpg", "a/10.JPG", "a/b/x.png", "a/loop.jpg", "dangling.jpg"]


def test_names_that_only_look_like_numbered_pictures(tree):
    for name in ("my%20dog.jpg", "50%discount.jpg"):
        assert is_pattern(name)
        (tree / name).touch()
        assert not is_pattern(name)
        assert not is_clip(tree / name)
    assert not is_pattern("my%20dog-sharp.mp4")
    assert is_pattern(tree / "%05d.png")


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads all without setpriv")
def test_folders_that_cannot_be_read_are_named(tree):
    """By another process, which gives up root's rights if it has them."""
    (tree / "a/b").chmod(0)
    code = "from deblur_jax.restore.inputs import *; f = collect(['a']); print(len(f), f.unread)\n"
    code += "try: collect(['a/b/x.png'])\nexcept Exception as error: print(error)"
    without = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    try:
        said = subprocess.run([*without, sys.executable, "-c", code], capture_output=True, text=True)
    finally:
        (tree / "a/b").chmod(0o755)
    assert said.stdout.splitlines() == ["2 ['a/b: Permission denied']", "a/b/x.png: Permission denied"], said.stderr


def test_what_does_not_exist_is_said(tree):
    with pytest.raises(UserError, match=r"^nothing.jpg: no such file or directory$"):
        collect(["c.png", "nothing.jpg"])


def test_other_suffixes_can_be_asked_for(tree):
    found = collect(["a"], suffixes=(".txt",))
    assert paths(found) == ["a/notes.txt"]
    assert found.skipped == 3
