"""`deblur export`: the folder it writes, that it runs elsewhere and here, and what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from deblur_jax import Restorer, samples, weights
from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.export import artifact, formats, parity
from deblur_jax.restore import read_image


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What was exported once is copied."""
    return tmp_path_factory.mktemp("made"), {}


@pytest.fixture
def export(nano, tmp_path, capsys, made):
    """Exports the tiny network by the command; returns the folder and what was said."""
    model, (folders, said) = nano(scale=0.3), made

    def export(*options, name="out", code=0):
        folder = tmp_path / name
        if code:
            assert main(["export", str(model), "-o", str(folder), *options]) == code
            return folder, capsys.readouterr().err
        if options not in said:
            assert main(["export", str(model), "-o", str(folders / str(len(said))), *options]) == 0
            said[options] = folders / str(len(said)), capsys.readouterr().out
        before, text = said[options]
        shutil.copytree(before, folder)
        return folder, text.replace(str(before), str(folder))

    return export


def verified(folder):
    return subprocess.run(
        [sys.executable, "-W", "error", folder / "verify.py"], capture_output=True, text=True, cwd="/", timeout=120
    )


def test_an_artifact_is_whole_and_runs_without_this_package(export, tmp_path):
    folder, said = export("--to", "onnx")
    assert "noise" in said
    assert str(folder / "model.onnx") in said
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.onnx", "card.json", "golden.npz", "verify.py", "README.md"}
    card = json.loads((folder / "card.json").read_text())
    assert card["training"] == {"data": "noise"}
    assert (card["format_version"], card["precision"], card["runtime"]["opset"]) == (1, "fp32", 17)
    assert card["input"]["least_side"] == card["input"]["multiple_of"]
    assert card["parity"]["equal"]
    assert 0 < card["parity"]["greatest_error"] < 1e-4
    assert {case["input"] for case in card["parity"]["cases"]} >= {"photograph", "noise", "black", "white", "saturated"}
    assert len({tuple(case["shape"]) for case in card["parity"]["cases"]}) >= 4

    found = verified(folder)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("equal: off by ")
    imported = re.findall(r"^(?:import|from) (\w+)", (folder / "verify.py").read_text(), re.MULTILINE)
    assert set(imported) == {"hashlib", "json", "sys", "pathlib", "numpy", "onnxruntime"}

    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert code is not None
    ran = subprocess.run([sys.executable, "-c", code[1]], capture_output=True, text=True, cwd=folder, timeout=120)
    assert (ran.stderr, ran.stdout) == ("", f"{np.load(folder / 'golden.npz')['output'].shape} float32\n")


@pytest.mark.parametrize("to", ["onnx", "stablehlo"])
def test_restoring_with_an_artifact_is_restoring_with_the_weights(to, export, nano, tmp_path, capsys):
    folder, _ = export("--to", to)
    picture = tmp_path / "photo.png"
    piece = read_image(samples.PICTURES[0])[200:283, 300:421]
    cv2.imwrite(str(picture), np.rint(255 * piece[..., ::-1]).astype(np.uint8))
    restored = {}
    for name, model in (("weights", nano(scale=0.3)), ("artifact", folder)):
        out = tmp_path / f"{name}.png"
        arguments = ["restore", str(picture), "-o", str(out), "--model", str(model), "--device", "cpu:0"]
        assert main(arguments) == 0, capsys.readouterr().err
        restored[name] = cv2.imread(str(out)).astype(int)
    assert restored["artifact"].shape == (83, 121, 3)
    assert np.abs(restored["weights"] - cv2.imread(str(picture))).max() > 10
    difference = np.abs(restored["artifact"] - restored["weights"])
    assert difference.max() <= 1  # where a value lies between two
    assert (difference > 0).mean() < 1e-3


def test_tiles_and_tiny_pictures_through_an_artifact(export):
    folder, _ = export("--to", "onnx")
    picture = read_image(samples.PICTURES[1])[:90, :1000]
    whole = Restorer(folder).restore(picture)
    tiled = Restorer(folder, max_pixels=70_000)
    assert tiled.engine.tiling(90, 1000).count > 1
    np.testing.assert_allclose(tiled.restore(picture), whole, atol=1e-5)
    assert Restorer(folder).restore(picture[:1, :3]).shape == (1, 3, 3)
    several = Restorer(folder).restore_batch([picture[:32, :32], picture[32:64, :32]])
    np.testing.assert_allclose(several[1], Restorer(folder).restore(picture[32:64, :32]), atol=1e-6)


def test_other_shapes_and_numbers_outside(export):
    """Channels first, whole numbers, one size, two at a time."""
    folder, _ = export("--to", "onnx", "--layout", "nchw", "--uint8", "--size", "64x32", "--batch", "2")
    golden = np.load(folder / "golden.npz")
    assert golden["input"].shape == (2, 3, 32, 64)
    assert golden["output"].dtype == np.uint8
    assert verified(folder).returncode == 0
    picture = read_image(samples.PICTURES[1])[:30, :60]
    plain, _ = export("--to", "onnx", name="plain")
    restored = Restorer(folder).restore(picture)
    # The change is rounded to 8 bits and the picture is not.
    assert np.abs(restored - Restorer(plain).restore(picture)).max() < 1.5 / 255
    with pytest.raises(UserError, match="takes pictures of 64x32 alone, not of 99x40"):
        Restorer(folder).restore(np.zeros((40, 99, 3), np.float32))


@pytest.mark.parametrize("to", ["onnx", "stablehlo"])
def test_of_one_size_there_is_one_at_a_time_where_nothing_is_said(to, export):
    folder, _ = export("--to", to, "--size", "64x32")
    assert np.load(folder / "golden.npz")["input"].shape == (1, 32, 64, 3)
    assert json.loads((folder / "card.json").read_text())["input"]["batch"] == 1
    assert verified(folder).returncode == 0


def test_stablehlo_verifies_itself(export):
    folder, _ = export("--to", "stablehlo")
    assert json.loads((folder / "card.json").read_text())["runtime"]["platforms"] == ["cpu", "cuda", "tpu"]
    found = verified(folder)
    assert found.stdout.startswith("equal: off by "), found.stderr


def test_what_has_been_touched_is_refused(export, tmp_path):
    folder, _ = export("--to", "onnx")
    card = folder / "card.json"
    whole = card.read_text()
    card.write_text(whole.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(UserError, match=r"card.json: has format version 2, this deblur_jax reads up to 1: update it"):
        weights.find(str(folder))
    card.write_text(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged, it is not JSON"):
        weights.find(str(folder))
    card.write_text(whole.replace('"layout": "nhwc"', '"layout": "cube"'))
    with pytest.raises(UserError, match="damaged"):
        weights.find(str(folder))
    for field, text in (
        ("multiple_of", "0"),
        ("multiple_of", '"16"'),
        ("least_side", "Infinity"),
        ("batch", "-3"),
        ("receptive_field", '"x"'),
        ("bytes_per_pixel", "-30"),
        ("kmac_per_pixel", "1e400"),
        ("brightens", "1"),
        ("layout", "[" * 100_000),
    ):
        card.write_text(re.sub(rf'"{field}": [^,\n]+', f'"{field}": {text}', whole))
        with pytest.raises(UserError, match=r"card.json: damaged"):
            weights.find(str(folder))
    card.write_text(whole.replace('"golden.npz": {', '"gold\\u0000en.npz": {'))
    with pytest.raises(UserError, match="embedded null byte; the artifact is not whole"):
        weights.find(str(folder))
    card.write_text(whole.replace('"golden.npz": {', '"../photo.png": {'))
    with pytest.raises(UserError, match="outside of the folder"):
        weights.find(str(folder))
    card.write_text(whole)
    model = folder / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(UserError, match=r"model.onnx: not what was exported \(its sha256 is not the card's\)"):
        weights.find(str(folder))
    assert verified(folder).returncode == 1
    model.unlink()
    said = verified(folder)
    assert (said.returncode, said.stdout[:30], said.stderr) == (1, "model.onnx is missing or not w", "")
    with pytest.raises(UserError, match="No such file or directory; the artifact is not whole"):
        weights.find(str(folder))


def test_a_graph_that_fails_is_one_failure(export, tmp_path, capsys):
    """The model takes another layout than its card says; of two pictures each is said."""
    folder, _ = export("--to", "onnx")
    card = folder / "card.json"
    card.write_text(card.read_text().replace('"layout": "nhwc"', '"layout": "nchw"'))
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "in" / name)
    assert main(["restore", str(tmp_path / "in"), "--model", str(folder), "-o", str(tmp_path / "restored")]) == 2
    assert capsys.readouterr().err.count("ONNX Runtime cannot run the network: ") == 2


def test_a_changed_result_is_not_equal(export):
    folder, _ = export("--to", "onnx")
    with np.load(folder / "golden.npz") as golden:
        arrays = dict(golden)
    np.savez_compressed(folder / "golden.npz", input=arrays["input"], output=arrays["output"] + 0.01)
    card = json.loads((folder / "card.json").read_text())
    card["files"]["golden.npz"]["sha256"] = weights.artifact.digest((folder / "golden.npz").read_bytes())
    (folder / "card.json").write_text(json.dumps(card))
    found = verified(folder)
    assert (found.returncode, found.stdout[:26]) == (1, "NOT equal: off by 1.00e-02")


def test_a_network_that_is_not_equal_is_not_exported(export, monkeypatch, tmp_path):
    monkeypatch.setitem(parity.BOUNDS, "fp32", {"greatest_error": 0.0})
    folder, said = export("--to", "onnx", code=2)
    assert re.match(r"deblur export: mild: not exported, it does not give what JAX gives: off by \d\.\de-\d+ on", said)
    assert not folder.exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere.safetensors", "--to", "onnx", "-o", "new"], "no such weights file"),
        (["medium", "--to", "onnx", "-o", "new"], "its weights do not come with the package"),
        (["MODEL", "--to", "onnx", "-o", "full"], "exists and is not an empty folder; name another one"),
        (["MODEL", "--to", "onnx", "-o", "full/file"], "exists and is not an empty folder"),
        (["MODEL", "--to", "onnx", "-o", "none/new"], "no such directory"),
        (["MODEL", "--to", "onnx", "-o", "new", "--size", "30x32"], "both sides must be multiples of"),
        (["MODEL", "--to", "onnx", "-o", "new", "--size", "big"], "--size must be WIDTHxHEIGHT"),
        (["MODEL", "--to", "onnx", "-o", "new", "--size", "9" * 5000 + "x8"], "--size must be WIDTHxHEIGHT"),
        (["MODEL", "--to", "onnx", "-o", "new", "--size", "160000x160000"], "at most 67 megapixels"),
        (["MODEL", "--to", "onnx", "-o", "new", "--batch", "9" * 23], "at most 67 megapixels"),
        (["MODEL", "--to", "onnx", "-o", "n" * 256], "File name too long"),
        (["MODEL", "--to", "onnx", "-o", "new", "--batch", "0"], "--batch must be from 1"),
        (["MODEL", "--to", "stablehlo", "-o", "new", "--uint8"], "are for --to onnx"),
        (["MODEL", "--to", "onnx", "-o", "new", "--calibrate", "full"], "--calibrate goes with --precision int8"),
        (["MODEL", "--to", "onnx", "-o", "new", "--precision", "int8", "--calibrate", "full"], "no pictures"),
    ],
)
def test_bad_input_is_one_line(options, said, nano, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    model = str(nano())
    assert main(["export", *(model if word == "MODEL" else word for word in options)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full/file").read_text() == "mine"


def test_a_folder_that_is_there_stays_the_folder(nano, tmp_path, monkeypatch):
    """Empty, as a container's volume, or behind a link."""
    model = nano()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    before = (tmp_path / "real").stat().st_ino
    assert main(["export", str(model), "--to", "onnx", "-o", str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == [
        "README.md",
        "card.json",
        "golden.npz",
        "model.onnx",
        "verify.py",
    ]
    (tmp_path / "full").mkdir()
    replace = os.replace

    def broken(source, target):
        """At the third file, when somebody else has written one."""
        if len(list((tmp_path / "full").glob("[!.]*"))) == 2:
            (tmp_path / "full/mine").write_text("mine")
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(artifact.os, "replace", broken)
    assert main(["export", str(model), "--to", "onnx", "-o", str(tmp_path / "full")]) == 2
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_model_is_called_by_its_folder(nano, tmp_path, monkeypatch):
    nano("lr0.001/best.safetensors")
    monkeypatch.chdir(tmp_path / "lr0.001")
    for model in (".", "best.safetensors", "../lr0.001"):
        assert main(["export", model, "--kit", "triton", "-o", "new"]) == 0
        assert [path.name for path in (tmp_path / "lr0.001/new/models").iterdir()] == ["lr0-001"]
        shutil.rmtree("new")


def test_engines_and_what_they_run(export, nano):
    folder, _ = export("--to", "onnx")
    with pytest.raises(UserError, match="--engine onnx runs exported networks: deblur export MODEL --to onnx"):
        Restorer(nano(), engine="onnx")
    with pytest.raises(UserError, match="onnx runs with --engine onnx, not jax"):
        Restorer(folder, engine="jax")
    with pytest.raises(UserError, match="its precision was settled"):
        Restorer(folder, precision="bfloat16")
    with pytest.raises(UserError, match="ONNX Runtime has no device called 'tpu'"):
        Restorer(folder, device="tpu")
    with pytest.raises(UserError, match="an exported network, without weights of its own"):
        weights.resolve(str(folder))
    assert Restorer(folder, engine="onnx").engine.artifact.kind == "onnx"


@pytest.mark.parametrize(("to", "needs", "extra"), [("onnx", "onnx", "export"), ("savedmodel", "tensorflow", "tf")])
def test_without_the_extra_one_line_names_it(to, needs, extra, tmp_path):
    script = (
        f"import sys; sys.modules[{needs!r}] = None; from deblur_jax.cli import main; "
        f"sys.exit(main(['export', 'nano', '--to', {to!r}, '-o', {str(tmp_path / 'out')!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2
    assert f"pip install 'deblur-jax[{extra}]'" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_onnx_runtime_is_imported_by_those_alone_who_use_it():
    script = (
        "import sys; from deblur_jax.cli import main; import deblur_jax.restore.restorer; main(['models']); "
        "print([name for name in ('onnx', 'onnxruntime') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ran.stdout.endswith("[]\n"), ran.stderr


def test_the_options_are_the_commands():
    assert formats.KINDS == ("onnx", "stablehlo", "savedmodel")
    assert set(parity.BOUNDS) == set(formats.PRECISIONS)


def test_a_network_in_8_bits_that_does_nothing_is_not_equal():
    """Though it is near enough where there is little to do."""

    def sharpened(picture):
        return picture + 0.1 * (picture - parity.shaken(picture))

    cases = list(parity.pictures(8, 1))
    idle = parity.compare(sharpened, lambda picture: picture, cases, "int8")
    assert idle["natural_psnr"] > parity.BOUNDS["int8"]["natural_psnr"]
    assert (idle["equal"], idle["share_of_change"]) == (False, pytest.approx(1.0))
    rounded = parity.compare(sharpened, lambda picture: np.rint(1023 * sharpened(picture)) / 1023, cases, "int8")
    assert rounded["equal"]
    assert 0 < rounded["share_of_change"] < 0.5


def test_the_comparison_says_how_far_it_is():
    cases = [(name, np.zeros((1, height, 4, 3), np.float32)) for name, height in (("one", 4), ("two", 8))]
    said = []
    parity.compare(lambda x: x, lambda x: x, cases, "fp32", tick=lambda done, total: said.append((done, total)))
    assert said == [(48, 144), (144, 144)]
