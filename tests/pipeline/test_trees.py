"""Plain folders are listed as they lie."""

import os

import pytest

from deblur_jax.errors import UserError
from deblur_jax.pipeline import trees


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(examples):
    return [(e.name, e.sequence, e.frame) for e in examples]


def test_pairs_at_the_top_are_sequences_of_their_own(tmp_path):
    touch(tmp_path, "blur/b.jpg", "blur/a10.png", "blur/a9.png", "sharp/a9.png", "sharp/a10.png", "sharp/b.png")
    found = trees.pairs(tmp_path)["train"]
    assert listed(found) == [("a9", "a9", 0), ("a10", "a10", 0), ("b", "b", 0)]
    assert (found[2].blur, found[2].sharp) == (tmp_path / "blur/b.jpg", tmp_path / "sharp/b.png")


def test_pairs_in_folders_are_frames_with_the_numbers_of_their_files(tmp_path):
    touch(
        tmp_path, *(f"{s}/{k}/x/{f}.png" for s in ("train", "val") for k in ("input", "target") for f in ("007", "9"))
    )
    assert {s: listed(e) for s, e in trees.pairs(tmp_path).items()} == {
        split: [("x/007", "x", 7), ("x/9", "x", 9)] for split in ("train", "val")
    }
    assert trees.kind_of(tmp_path) == "pairs"


def test_blur_and_sharp_in_every_sequences_folder(tmp_path):
    touch(tmp_path, *(f"test/GOPR1/{k}/000047.png" for k in ("blur", "sharp")))
    assert listed(trees.pairs(tmp_path)["test"]) == [("GOPR1/000047", "GOPR1", 47)]


def test_a_missing_partner_is_listed_where_it_should_be(tmp_path):
    touch(tmp_path, "blur/a.png", "sharp/a.png", "sharp/only.png")
    assert trees.pairs(tmp_path)["train"][1].blur == tmp_path / "blur/only.png"


def test_photos_and_clips(tmp_path):
    touch(tmp_path / "p", "b/2.jpg", "b/10.jpg", "a.TIF", "notes.txt", ".hidden.png", "__MACOSX/a.png")
    assert [e.name for e in trees.photos(tmp_path / "p")["train"]] == ["a", "b/2", "b/10"]
    assert trees.kind_of(tmp_path / "p") == "photos"
    touch(tmp_path / "c", "val/x.mp4", "train/y.MOV")
    assert trees.clips(tmp_path / "c") == {"train": [tmp_path / "c/train/y.MOV"], "val": [tmp_path / "c/val/x.mp4"]}
    assert trees.kind_of(tmp_path / "c") == "clips"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no pictures and no video clips"),
        (["notes.txt"], "holds no pictures and no video clips"),
        (["a.png", "b.mp4"], r"holds photos \(a.png\), clips \(b.mp4\); give each kind a folder"),
        (["blur/a.png", "b.png"], "give each kind a folder of its own"),
        (["plan.json", "x.array_record-00000-of-00001"], "was not finished; run the same"),
        (["dataset_info.json"], "without frames.json"),
    ],
)
def test_other_folders_are_refused(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=message):
        trees.kind_of(tmp_path)


@pytest.mark.parametrize(
    ("list_", "files", "message"),
    [
        (trees.pairs, ["blur/a.png"], "has blur/ and no sharp/ beside it"),
        (trees.pairs, ["blur/a.png", "blur/a.jpg", "sharp/a.png"], "two pictures have this name"),
        (trees.pairs, ["train/blur/a.png", "train/sharp/a.png", "more/b.png"], "b.png: lies beside train/"),
        (trees.photos, ["train_blur/000/1.png"], "one lies in train_blur/"),
        (trees.clips, ["a.png"], "holds no video clips"),
        (trees.clips, ["blur/a.mp4", "sharp/a.mp4"], r"one lies in blur/ \(blur/a.mp4\); name a folder of sharp ones"),
        (trees.clips, ["train/input/a.mp4", "train/target/a.mp4"], "one lies in input/"),
    ],
)
def test_wrong_arrangements_are_named(tmp_path, list_, files, message):
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=message):
        list_(tmp_path)


def test_a_link_to_a_folder_above_lists_nothing_twice(tmp_path):
    touch(tmp_path / "photos", "a.png", "b/c.png")
    (tmp_path / "photos/again").symlink_to(".")
    assert [e.name for e in trees.photos(tmp_path / "photos")["train"]] == ["a", "b/c"]
    touch(tmp_path / "pairs", *(f"{split}/x/{side}/1.png" for split in ("train", "val") for side in ("blur", "sharp")))
    for place in ("train/again", "train/x/blur/again"):
        (tmp_path / "pairs" / place).symlink_to(tmp_path / "pairs")
    assert {s: listed(e) for s, e in trees.pairs(tmp_path / "pairs").items()} == {
        split: [("x/1", "x", 1)] for split in ("train", "val")
    }
    assert trees.kind_of(tmp_path / "pairs") == "pairs"


def test_a_folder_elsewhere_is_followed(tmp_path):
    touch(tmp_path, "elsewhere/a.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/b").symlink_to(tmp_path / "elsewhere")
    assert [e.name for e in trees.photos(tmp_path / "photos")["train"]] == ["b/a"]


@pytest.mark.parametrize("closed", [".", "train", "train/blur/x", "train/y"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, closed):
    """Tests may run as root, whom no right stops."""
    touch(tmp_path, "train/blur/x/1.png", "train/sharp/x/1.png", "train/y/notes.txt")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(tmp_path / closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for list_ in (trees.kind_of, trees.pairs):
        with pytest.raises(UserError, match=f"^{tmp_path / closed}: cannot be read: Permission denied; "):
            list_(tmp_path)


def test_names_that_are_no_text_have_their_place_too():
    assert trees.place("\udcff.png") != trees.place("\udcfe.png")
