"""Each dataset in miniature, as its README draws the tree: prepared, read through TFDS, the bytes are the files'."""

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from deblur_jax import metrics
from deblur_jax.errors import UserError
from deblur_jax.pipeline import builders, checks, prepare
from deblur_jax.restore.images import decode_image

DATA = Path(__file__).parents[2] / "data"
J = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
R = "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref"

# (dataset, config, blurred files of one sequence and their sharp ones per split, sequence, frames, files beside them)
TREES = {
    "reds blur": {
        "train": ("train/train_{}/017/0000000{}.png", ("blur", "sharp"), "017"),
        "val": ("val/val_{}/029/0000000{}.png", ("blur", "sharp"), "029"),
    },
    "reds blur_jpeg": {"val": ("val_{}/004/0000000{}", ("blur_jpeg jpg", "sharp png"), "004")},
    "reds blur_comp": {"train": ("train_{}/239/0000000{}.png", ("blur_comp", "sharp"), "239")},
    "gopro blur": {
        "train": ("train/GOPR0372_07_00/{}/00004{}.png", ("blur", "sharp"), "GOPR0372_07_00"),
        "test": ("GOPRO_Large/test/GOPR0881_11_01/{}/00023{}.png", ("blur", "sharp"), "GOPR0881_11_01"),
    },
    "gopro blur_gamma": {"train": ("train/GOPR0884_11_00/{}/00010{}.png", ("blur_gamma", "sharp"), "GOPR0884_11_00")},
    "hide": {
        "train": ("{}/{}fromGOPR0950.png", ("train", "GT"), "GOPR0950"),
        "test": ("{}/{}fromGOPR1096.MP4.png", ("test/test-close-ups", "GT"), "GOPR1096"),
    },
    "realblur j": {"train": (f"{J}/scene002/{{}}_{{}}.png", ("blur/blur", "gt/gt"), "scene002")},
    "realblur r": {"test": (f"{R}/scene230/{{}}_{{}}.png", ("blur/blur", "gt/gt"), "scene230")},
    "mc_blur rhm": {"train": ("motion_avg/Train/{}/{}.png", ("blurry", "sharp"), None)},
    "mc_blur uhdm": {"test": ("Conv/Test/{}/{}.png", ("blurry", "sharp"), None)},
    "mc_blur lsd": {"test": ("defocus_crop/Test/{}/{}.jpg", ("blurry", "sharp"), None)},
    "visdrone det": {"val": ("VisDrone2019-DET-val/{}/000000{}_d_0001.jpg", ("images",), None)},
    "visdrone vid": {"test": ("VisDrone2019-VID-test-dev/{}/uav1_v/000000{}.jpg", ("sequences",), "uav1_v")},
    "pairs pairs": {"val": ("val/{}/walk/{}.png", ("blur", "sharp"), "walk")},
    "pairs photos": {"train": ("{}/{}.jpg", ("holiday",), None)},
}


@pytest.fixture(scope="session")
def pictures():
    """Encoded 1280x720 pictures, each of another colour, as the published size is checked."""
    return {
        suffix: [cv2.imencode(suffix, np.full((720, 1280, 3), 60 + 9 * i, np.uint8))[1].tobytes() for i in range(20)]
        for suffix in (".png", ".jpg")
    }


def grow(root, tree, pictures):
    """Writes the files; gives the expected (sequence, frame, blur, sharp) of each split."""
    expected, number = {}, 0
    for split, (pattern, sides, sequence) in tree.items():
        rows = []
        for frame in range(1, 4):
            paths = []
            for side in sides:
                folder, _, ending = side.partition(" ")
                path = root / (pattern.format(folder, frame) + (f".{ending}" if ending else ""))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pictures[path.suffix][number := (number + 1) % 20])
                paths.append(path)
            stem = paths[-1].stem if root / "holiday" != paths[-1].parent else f"holiday/{paths[-1].stem}"
            digits = int("".join(c for c in paths[-1].stem.split("from")[0] if c.isdigit()))
            rows.append((sequence or stem, digits if sequence else 0, *([None, *paths][-2:])))
        expected[split] = rows
    return expected


@pytest.mark.parametrize("dataset", TREES)
def test_a_dataset_in_miniature(tmp_path, pictures, dataset, monkeypatch):
    name, _, config = dataset.partition(" ")
    if name == "reds":  # four frames a sequence: the true number is below
        monkeypatch.setattr(sys.modules[builders.find_builder(DATA / name).__module__], "FRAMES", 4)
    root, tree = tmp_path / "raw", TREES[dataset]
    if name == "gopro":
        # The archive's own folder is the root where it is there.
        tree = {split: (row[0].removeprefix("GOPRO_Large/"), *row[1:]) for split, row in tree.items()}
    expected = grow(root, tree, pictures)
    if name == "realblur":
        for split, rows in expected.items():
            lines = [f"{sharp.relative_to(root)} {blur.relative_to(root)} \n" for *_, blur, sharp in rows]
            (root / f"RealBlur_{config.upper()}_{split}_list.txt").write_text("".join(lines))
    options = {"config": config or None, "allow_partial": True}
    if name != "pairs":
        with pytest.raises(UserError, match="--allow-partial goes on without the missing ones"):
            builders.load_source(DATA / name, root, config=config or None)
    source, found = builders.load_source(DATA / name, root, **options)
    assert bool(found.missing) == (name != "pairs")
    out = prepare.prepare(source, tmp_path / "out", shards=2)
    builder = tfds.builder_from_directory(out)
    assert (builder.name, set(builder.info.splits)) == (name, set(expected))
    assert builder.info.metadata["left_out"] == found.missing
    assert "Cite" in builder.info.citation or "title" in builder.info.citation
    assert builder.info.description.startswith((DATA / name / "README.md").read_text()[:20])
    for split, rows in expected.items():
        images = [image for image in ("blur", "sharp") if image in builder.info.features]
        assert len(images) == (2 if rows[0][2] else 1)
        source = builder.as_data_source(split=split, decoders={image: tfds.decode.SkipDecoding() for image in images})
        for record, (sequence, frame, blur, sharp) in zip(source, rows, strict=True):
            assert (record["sequence"].decode(), record["frame"]) == (sequence, frame)
            assert record["sharp"] == sharp.read_bytes()
            assert blur is None or record["blur"] == blur.read_bytes()
    report = checks.examine(out)
    assert {split: figures["decoded"] for split, figures in report.splits.items()} == dict.fromkeys(expected, 3)


def test_artificial_blur_is_made_once_and_the_same_again(tmp_path, photo):
    folder = tmp_path / "VisDrone2019-DET-train" / "images"
    folder.mkdir(parents=True)
    sharp = np.rint(255 * np.asarray(photo[0])).astype(np.uint8)[..., ::-1]
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.jpg"), sharp)
    options = {"config": "det_blurred", "allow_partial": True}
    source, _ = builders.load_source(DATA / "visdrone", tmp_path, **options)
    entries = checks.open_folder(prepare.prepare(source, tmp_path / "out"))[1]["train"]
    (blur_a, sharp_a), (blur_b, sharp_b) = (entry.read() for entry in entries)
    assert sharp_a == sharp_b == (folder / "a.jpg").read_bytes()
    assert blur_a != blur_b
    assert blur_a == source.make_blur(sharp_a, source.splits["train"][0])
    pictures = [decode_image(data, "x")[None] / np.float32(255) for data in (blur_a, sharp_a)]
    assert metrics.laplacian_score(pictures[0]) < metrics.laplacian_score(pictures[1]) / 2


def test_reds_is_270_sequences_of_100_frames(tmp_path):
    builder = builders.find_builder(DATA / "reds")(config="blur_jpeg", data_dir=tmp_path)
    splits = builder.examples(tmp_path)
    assert [(split, len(found)) for split, found in splits.items()] == [("train", 24000), ("val", 3000)]
    assert splits["train"][-1].blur == tmp_path / "train_blur_jpeg/239/00000099.jpg"
    assert splits["val"][-1].sharp == tmp_path / "val_sharp/029/00000099.png"


def test_the_published_counts():
    counts = {}
    for name in ("gopro", "hide", "realblur", "mc_blur", "visdrone"):
        builder = builders.find_builder(DATA / name)
        for config in builder.BUILDER_CONFIGS or [None]:
            counts[name, config and config.name] = tuple(builder(config=config, data_dir="none").counts.values())
    assert counts == {
        ("gopro", "blur"): (2103, 1111),
        ("gopro", "blur_gamma"): (2103, 1111),
        ("hide", None): (6397, 2025),
        ("realblur", "j"): (3758, 980),
        ("realblur", "r"): (3758, 980),
        ("mc_blur", "rhm"): (70000, 17500),
        ("mc_blur", "uhdm"): (8000, 2000),
        ("mc_blur", "lsd"): (18000, 4400),
        ("visdrone", "det"): (6471, 548, 1610),
        ("visdrone", "vid"): (24201, 2846, 6635),
        ("visdrone", "det_blurred"): (6471, 548, 1610),
        ("visdrone", "vid_blurred"): (24201, 2846, 6635),
    }


def test_a_complete_dataset_is_taken_without_more_ado_and_one_missing_pair_is_not(tmp_path, pictures, monkeypatch):
    """RealBlur as links to one picture, a tenth of it: the true counts are above."""
    published = {"train": 375, "test": 98}
    monkeypatch.setattr(builders.find_builder(DATA / "realblur"), "counts", published)
    (tmp_path / "one.png").write_bytes(pictures[".png"][0])
    for split, count in published.items():
        lines = []
        for i in range(count):
            scene = f"{J}/{split}{i // 20:03d}"
            pair = f"{scene}/gt/gt_{i % 20}.png", f"{scene}/blur/blur_{i % 20}.png"
            lines.append(" ".join(pair))
            for name in pair:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(tmp_path / "one.png", tmp_path / name)
        (tmp_path / f"RealBlur_J_{split}_list.txt").write_text("\n".join(lines))
    source, found = builders.load_source(DATA / "realblur", tmp_path, config="j")
    assert not found.missing
    assert {split: len(examples) for split, examples in source.splits.items()} == published
    (tmp_path / J / "test000/gt/gt_7.png").unlink()
    with pytest.raises(UserError, match=f"1 problem; .*\n  {J}/test000/gt/gt_7.png: missing"):
        builders.load_source(DATA / "realblur", tmp_path, config="j")


def test_builders_work_in_tfds_own_way(tmp_path, pictures):
    expected = grow(tmp_path / "raw", TREES["pairs pairs"], pictures)
    builder = builders.find_builder(DATA / "pairs")(
        config="pairs", data_dir=tmp_path / "tfds", file_format="array_record"
    )
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw", register_checksums=False)
    )
    undecoded = {name: tfds.decode.SkipDecoding() for name in ("blur", "sharp")}
    records = list(builder.as_data_source(split="val", decoders=undecoded))
    assert [r["blur"] for r in records] == [row[2].read_bytes() for row in expected["val"]]


@pytest.mark.parametrize(
    ("dataset", "config", "name", "content", "message"),
    [
        ("visdrone", "vid", "VisDrone2019-VID-val/sequences/uav1_v/cover.jpg", b"", "is not called by a frame's"),
        (
            "realblur",
            "j",
            "RealBlur_J_train_list.txt",
            b"a/gt/1.png a/blur/1.png\n\nb.png\n",
            "line 3 should name .*: b",
        ),
        ("realblur", "r", "RealBlur_R_test_list.txt", b"\xff\xfe a.png b.png\n", "is no text in UTF-8"),
    ],
)
def test_a_stray_file_is_named(tmp_path, dataset, config, name, content, message):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"^{tmp_path / name}: {message}") as raised:
        builders.load_source(DATA / dataset, tmp_path, config=config, allow_partial=True)
    assert "\n" not in str(raised.value)


FOLDERS = sorted(p.parent for p in DATA.glob("*/README.md") if p.parent.name != "photos")  # that is a list, no dataset


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_folder_is_complete(folder):
    builder = builders.find_builder(folder)
    assert builder.name == folder.name
    assert set(builder.get_metadata().tags) <= set(tfds.core.dataset_metadata.valid_tags())
    assert {"CITATIONS.bib", "TAGS.txt", "__init__.py"} <= {path.name for path in folder.iterdir()}
    readme, table = (folder / "README.md").read_text(), (DATA / "README.md").read_text()
    assert f"deblur data prepare data/{folder.name} " in readme
    (row,) = (line for line in table.splitlines() if line.startswith(f"| [{folder.name}]"))
    for config in builder.BUILDER_CONFIGS:
        assert f"`{config.name}`" in row
        assert config.name in readme
