"""`deblur restore`: what it writes, says and returns, also when things go wrong."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import cv2
import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur_jax import samples, weights
from deblur_jax.cli import main
from deblur_jax.models import zoo
from deblur_jax.restore import pictures, png


@pytest.fixture
def model(nano):
    """Weights of the tiny network, which `main` in this process takes for Nano."""
    return nano(scale=0.3)


@pytest.fixture
def restore(model, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def restore(*arguments):
        code = main(["restore", "--model", str(model), "--device", "cpu:0", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return restore


@pytest.fixture
def picture(tmp_path):
    """A piece of a photograph as a JPEG with EXIF, turned."""
    with Image.open(samples.PICTURES[0]) as whole:
        image = whole.crop((300, 200, 420, 280))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Some Maker"
    image.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return tmp_path / "photo.jpg"


def test_one_picture(restore, picture, tmp_path):
    code, out, err = restore(picture)
    assert (code, err) == (0, "")
    assert "photo-sharp.jpg" in out
    with Image.open(tmp_path / "photo-sharp.jpg") as written:
        assert written.size == (80, 120)
        assert written.getexif()[0x0112] == 1
        assert written.getexif()[0x010F] == "Some Maker"
    before, after = (pictures.read(p.read_bytes(), p).pixels for p in (picture, tmp_path / "photo-sharp.jpg"))
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).max() > 20


def test_a_folder_with_bad_files(restore, picture, tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    picture.rename(tmp_path / "in/deep/photo.jpg")
    (tmp_path / "in/text.jpg").write_text("not a picture")
    (tmp_path / "in/empty.png").write_bytes(b"")
    (tmp_path / "in/notes.txt").write_text("passed over")
    code, out, err = restore("in", "-o", "out")
    assert code == 1
    assert [line.split(":")[1].strip() for line in err.splitlines()[:2]] == ["in/empty.png", "in/text.jpg"]
    assert "1 files of other kinds" in err
    assert "out/deep/photo.jpg" in out
    assert [p.name for p in (tmp_path / "out").rglob("*.*")] == ["photo.jpg"]
    assert restore("in/empty.png", "in/text.jpg", "-o", "out")[0] == 2


def test_what_exists_stays(restore, picture, tmp_path):
    (tmp_path / "out.jpg").write_bytes(b"mine")
    code, _, err = restore(picture, "-o", "out.jpg")
    assert code == 2
    assert "exists already" in err
    assert restore(picture, "-o", "out.jpg", "--skip-existing")[0] == 0
    assert (tmp_path / "out.jpg").read_bytes() == b"mine"
    before = picture.read_bytes()
    assert "is an input" in restore(picture, "-o", picture)[2]
    assert picture.read_bytes() == before
    assert restore(picture, "-o", picture, "--overwrite")[0] == 0
    assert picture.read_bytes() != before


def test_dry_run_writes_nothing(restore, picture, tmp_path):
    code, out, _ = restore(picture, "-o", "new/", "--dry-run", "--format", "png")
    assert (code, out) == (0, f"{picture} -> new/photo.png\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mild.safetensors", "photo.jpg"]
    said = json.loads(restore(picture, "-o", "new/", "--dry-run", "--json")[1])
    assert said == {
        "event": "planned",
        "input": str(picture),
        "output": "new/photo.jpg",
        "exists": False,
        "wrong": "",
    }


@pytest.mark.slow
def test_a_folder_is_done_again_with_what_came_since(restore, picture, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture.rename(folder / "a.jpg")
    again = ("in", "--skip-existing", "--compare", "pages")
    assert restore(*again)[0] == 0
    shutil.copy(folder / "a.jpg", folder / "b.jpg")
    code, out, err = restore(*again)
    assert (code, err) == (0, "1 of these are outputs of others and passed over\n")
    assert re.search("a-sharp.jpg +exists, passed over", out)
    assert sorted(p.name for p in folder.iterdir()) == ["a-sharp.jpg", "a.jpg", "b-sharp.jpg", "b.jpg"]
    assert "a.jpg</figcaption>" in (tmp_path / "pages/index.html").read_text()
    assert "b.jpg</figcaption>" in (tmp_path / "pages/index-2.html").read_text()
    with (folder / "b.jpg").open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "deblur_jax", "restore", "-", "-o", "in/a-sharp.jpg", "--skip-existing"],
            stdin=file,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "exists, passed over" in done.stdout


@pytest.mark.slow
def test_names_that_are_no_text(restore, picture, tmp_path):
    """Latin-1's, as of old archives, where output must be UTF-8."""
    (tmp_path / "in").mkdir()
    name = os.fsdecode(b"caf\xe9.jpg")
    picture.rename(tmp_path / "in" / name)
    code = "import sys; from deblur_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for arguments in (
        ["restore", "in", "-o", "out", "--json", "--compare", "pages"],
        ["sharpness", "in", "--csv", "table.csv"],
        ["sharpness", "in"],
    ):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr.decode()
        if "--json" in arguments:
            events = [json.loads(line) for line in done.stdout.decode().splitlines()]
            assert next(e for e in events if e["event"] == "picture")["input"] == f"in/{name}"
    assert (tmp_path / "out" / name).is_file()
    assert "caf?.jpg" in (tmp_path / "pages/index.html").read_text()
    assert r"in/caf\udce9.jpg" in (tmp_path / "table.csv").read_text()


def test_json_lines(restore, picture):
    code, out, _ = restore(picture, "--json")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["event"] for e in events if e["event"] != "progress"] == ["start", "picture", "done"]
    said = next(e for e in events if e["event"] == "picture")
    assert said["status"] == "restored"
    assert said["output"].endswith("photo-sharp.jpg")
    assert (said["width"], said["height"]) == (80, 120)
    assert said["after"] > 0


def test_standard_input_and_output(model, picture, capsysbinary, monkeypatch):
    data = picture.read_bytes()
    monkeypatch.setattr(sys, "stdin", type("In", (), {"buffer": io.BytesIO(data)}))
    assert main(["restore", "-", "-o", "-", "--model", str(model), "--format", "png", "--device", "cpu:0"]) == 0
    restored = pictures.read(capsysbinary.readouterr().out, "output")
    assert restored.format == "png"
    assert restored.pixels.shape == (120, 80, 3)


def test_options_change_the_result(restore, picture, tmp_path):
    results = {}
    for name, options in {
        "plain": (),
        "half": ("--strength", "0.5"),
        "tta": ("--tta",),
        "calm": ("--denoise", "bilateral"),
        "light": ("--linear",),
        "part": ("--region", "0,0,30,20"),
    }.items():
        assert restore(picture, "-o", f"{name}.png", *options)[0] == 0
        results[name] = cv2.imread(str(tmp_path / f"{name}.png")).astype(int)
    before = cv2.imread(str(picture)).astype(int)
    change = {name: np.abs(result - before).mean() for name, result in results.items()}
    assert 0 < change["half"] < change["plain"]  # not half of it where it is clipped
    assert 0 < change["part"] < change["plain"]
    assert len({result.tobytes() for result in results.values()}) == len(results)


def test_a_file_that_says_it_is_linear(restore, picture, tmp_path):
    with Image.open(picture) as image:
        image.save(tmp_path / "bare.png")
    data = (tmp_path / "bare.png").read_bytes()
    (tmp_path / "said.png").write_bytes(data[:33] + png.chunk(b"gAMA", (100_000).to_bytes(4)) + data[33:])
    results = {}
    for name, given, *options in (
        ("said", "said.png"),
        ("told", "bare.png", "--linear"),
        ("denied", "said.png", "--no-linear"),
        ("plain", "bare.png"),
    ):
        code, out, err = restore(given, "-o", f"{name}-out.png", *options)
        assert code == 0
        assert ("its values are linear" in out + err) == (name == "said")
        results[name] = pictures.read((tmp_path / f"{name}-out.png").read_bytes(), name).pixels
    np.testing.assert_array_equal(results["said"], results["told"])
    np.testing.assert_array_equal(results["denied"], results["plain"])
    assert (results["said"] != results["plain"]).any()


def test_masks(restore, picture, tmp_path):
    mask = np.zeros((120, 80), np.uint8)
    mask[:, :20] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    assert restore(picture, "-o", "out.png", "--mask", "mask.png")[0] == 0
    changed = (cv2.imread(str(tmp_path / "out.png")) != cv2.imread(str(picture))).any(-1).any(0)
    assert changed[:20].all()
    assert not changed[44:].any()


def test_comparison(restore, picture, tmp_path):
    assert restore(picture, "-o", "out.png", "--compare", "both")[0] == 0
    assert cv2.imread(str(tmp_path / "both/photo.jpg")).shape == (120, 164, 3)
    page = (tmp_path / "both/index.html").read_text()
    assert page.count("data:image/jpeg") == 2
    assert "http" not in page
    assert "exists already" in restore(picture, "-o", "again.png", "--compare", "both")[2]


def test_selective(restore, picture, tmp_path):
    code, out, _ = restore(picture, "-o", "out.jpg", "--selective", "0")
    assert code == 0
    assert "1 of 1 were sharp already and copied" in out
    assert (tmp_path / "out.jpg").read_bytes() == picture.read_bytes()
    assert "sharp already" not in restore(picture, "-o", "two.jpg", "--selective", "1")[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (700, 3)])
def test_odd_sizes_are_restored(restore, tmp_path, size):
    pixels = (255 * np.random.default_rng(0).random((size[1], size[0]))).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "odd.png"), pixels)
    code, _, err = restore("odd.png", "-o", "out.png")
    assert (code, err) == (0, "")
    assert cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED).shape == pixels.shape


def test_sixteen_bits_grey_and_alpha_stay(restore, tmp_path):
    generator = np.random.default_rng(0)
    deep = (65535 * generator.random((30, 40))).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    clear = (255 * generator.random((30, 40, 4))).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "clear.png"), clear)
    assert restore("deep.png", "clear.png", "-o", "out")[0] == 0
    out = cv2.imread(str(tmp_path / "out/deep.png"), cv2.IMREAD_UNCHANGED)
    assert (out.dtype, out.shape) == (np.uint16, (30, 40))
    assert len(np.unique(out)) > 500
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "out/clear.png"), cv2.IMREAD_UNCHANGED)[..., 3], clear[..., 3]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "no such file"),
        (["*.gif"], "matches no files"),
        (["photo.jpg", "--strength", "2"], "--strength must be"),
        (["photo.jpg", "--quality", "0"], "--quality must be"),
        (["photo.jpg", "--memory", "lots"], "--memory must be"),
        (["photo.jpg", "--memory", "1M"], "at least 512M"),
        (["photo.jpg", "--region", "1,2,3"], "--region must be"),
        (["photo.jpg", "--region", "1,2,3,4", "--mask", "photo.jpg"], "exclude each other"),
        (["photo.jpg", "--format", "heic"], "cannot write .heic"),
        (["photo.jpg", "--format", "jpg", "-o", "out.png"], "--format jpg and -o out.png are two formats"),
        (["photo.jpg", "--format", "mp4", "-o", "out.png"], "--format mp4 and -o out.png are two formats"),
        (["photo.jpg", "--format", "mp4"], "--format mp4: none of these is a clip"),
        (["photo.jpg", "-o", "out.png", "--name", "{n}"], "--name is for files in a folder, and -o out.png is a file"),
        (["photo.jpg", "-o", "-"], "standard input"),
        (["photo.jpg", "-", "-o", "out"], "standard input"),
        (["photo.jpg", "--device", "npu"], "no device is called"),
        (["photo.jpg", "--name", "{what}"], "--name"),
        (["photo.jpg", "--mask", "none.png"], "none.png"),
        (["photo.jpg", "--max-pixels", "0.001"], "more than the limit"),
    ],
)
def test_mistakes(restore, picture, tmp_path, arguments, message):
    code, out, err = restore(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mild.safetensors", "photo.jpg"]


@pytest.mark.parametrize("arguments", [["photo.jpg", "--selective", "very"], ["--selective", "photo.jpg"]])
def test_selective_says_what_it_takes(restore, picture, capsys, tmp_path, arguments):
    with pytest.raises(SystemExit) as stopped:
        restore(*arguments)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"a number or auto, not {arguments[-1]!r}; files go before it" in err
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mild.safetensors", "photo.jpg"]


@pytest.fixture
def whole_model(random_variables, tmp_path):
    """Weights for a process of its own, which has the real Nano."""
    params = jax.tree.map(np.asarray, random_variables(zoo.get("nano").deployed())["params"])
    params["tail"] = jax.tree.map(lambda leaf: 0.1 * leaf, params["tail"])
    weights.save(tmp_path / "whole.safetensors", network="nano", params=params, card={}, merged=True)
    return tmp_path / "whole.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 75, "stopped by SIGTERM")]
)
def test_stopped_it_keeps_what_is_finished(whole_model, tmp_path, sign, code, said):
    (tmp_path / "in").mkdir()
    for n in range(40):
        pixels = np.random.default_rng(n).integers(0, 256, (200, 300, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"in/{n:02d}.png"), pixels)
    command = [sys.executable, "-m", "deblur_jax", "restore", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--model", str(whole_model)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and len(list((tmp_path / "out").glob("*.png"))) < 3:
        time.sleep(0.01)
    process.send_signal(sign)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.splitlines()[-1] == f"deblur restore: {said}"
    written = sorted((tmp_path / "out").iterdir())
    assert 3 <= len(written) < 40
    for path in written:
        assert pictures.read(path.read_bytes(), path).pixels.shape == (200, 300, 3)
    assert out.count("200") >= len(written) - 1  # the table has them


@pytest.mark.slow
@pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0, reason="needs root")
def test_a_full_disk_fails_that_picture_alone(whole_model, tmp_path):
    """A file system that has room for the small picture only."""
    (tmp_path / "disk").mkdir()
    for name, side in (("a-large", 700), ("b-small", 60)):
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    command = [sys.executable, "-m", "deblur_jax", "restore", f"{tmp_path}/a-large.png", f"{tmp_path}/b-small.png"]
    command += ["-o", str(tmp_path / "disk/out"), "--model", str(whole_model)]
    run = f"{shlex.join(command)}; code=$?; ls -A {tmp_path}/disk/out; exit $code"
    script = f"mount -t tmpfs -o size=1m none {tmp_path}/disk && {run}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=90)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "a-large.png: cannot be written: No space left on device" in done.stderr
    assert done.stdout.splitlines()[-1] == "b-small.png"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["large.jpg", "large.tif"])
def test_a_large_picture_stays_within_the_memory(whole_model, tmp_path, name):
    """Of 12 million pixels, the TIFF of 16 bits; without tiles it takes 1.5 GB."""
    source, target = tmp_path / name, tmp_path / name.replace(".", "-sharp.")
    with Image.open(samples.PICTURES[0]) as image:
        large = image.resize((4000, 3000))
    if name == "large.jpg":
        large.save(source, quality=90)
    else:
        tifffile.imwrite(source, np.uint16(257) * np.asarray(large), photometric="rgb")
    command = [sys.executable, "-m", "deblur_jax", "restore", str(source), "--memory", "900M"]
    command += ["--model", str(whole_model)]
    # A process counts as its own what its parent had when it was started: so a small one starts it, not this one.
    between = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
    between += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    # One device, as users have it: eight forced ones have an eighth of the memory each, and far smaller tiles.
    command = ["env", "--unset=XLA_FLAGS", sys.executable, "-c", between, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert pictures.probe(target)[:2] == (4000, 3000)
    assert int(done.stdout) < 900 * 1024  # KiB
