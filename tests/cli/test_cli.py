"""The command as a process: what it prints, where, and its exit code."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import __version__, blur, samples
from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.restore import read_image, write_image


def deblur(*arguments, **options):
    command = [sys.executable, "-m", "deblur_jax", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def one_line(result):
    """The one line that a user's mistake gets."""
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["models"],
        ["edges", "--help"],
        ["blur", "--help"],
        ["sharpness", "--help"],
        ["data", "check", "--help"],
    ],
)
def test_help_and_models_import_neither_jax_nor_numpy(arguments):
    """What makes them start at once; a time would be noise."""
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['deblur', *{arguments!r}]\n"
        "try: runpy.run_module('deblur_jax', run_name='__main__')\n"
        "except SystemExit as stop: code = stop.code\n"
        "sys.exit(f'imported {heavy}' if (heavy := {'jax', 'flax', 'numpy', 'cv2'} & set(sys.modules)) else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_version():
    assert deblur("--version").stdout == f"deblur {__version__}\n"


def test_models_lists_every_network_in_three_forms():
    plain, markdown, facts = (deblur("models", *form).stdout for form in ([], ["--markdown"], ["--json"]))
    assert [line.split()[0] for line in plain.splitlines()[1:]] == list(zoo.NETWORKS)
    assert [line.split()[1] for line in markdown.splitlines()[2:]] == list(zoo.NETWORKS)
    assert list(json.loads(facts)) == list(zoo.NETWORKS)


def test_the_readmes_table_is_the_commands():
    readme = (samples.PICTURES[0].parents[2] / "README.md").read_text()
    assert deblur("models", "--markdown").stdout in readme


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path, monkeypatch):
    readme = (samples.PICTURES[0].parents[2] / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    shutil.copy(samples.PICTURES[0], "photo.jpg")
    names = {}
    for block in readme.split("```python\n")[1:]:
        exec(block.split("```")[0], names)
    assert names["sharper"].shape == read_image("photo.jpg").shape
    assert [e.shape[1] for e in names["estimates"]] == [64, 32, 16]
    assert 0 < float(names["loss"]) < 1
    assert names["scores"].shape == (1,)


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(
        f"'{sys.executable}' -m deblur_jax models --json | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


HANDHELD = ["blur", "good.png", "-o", "out.png", "--kind", "handheld"]
FRAMES = ["blur", "-o", "out.png", "--kind", "frames"]


def write_film(path, frames, rate=20):
    """Motion JPEG, which needs nothing but OpenCV."""
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, frames[0].shape[1::-1])
    for frame in frames:
        film.write(np.ascontiguousarray(frame[..., ::-1]))
    film.release()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["models", "--jsn"], "unrecognized arguments: --jsn"),
        (["restre"], "invalid choice: 'restre'"),
        (["edges"], "required: picture, -o/--output"),
        (["edges", "no.png", "-o", "out.png"], "no.png: No such file or directory"),
        (["edges", ".", "-o", "out.png"], "Is a directory"),
        (["edges", "empty.png", "-o", "out.png"], "empty.png: the file is empty"),
        (
            ["edges", "text.png", "-o", "out.png"],
            "text.png: not a PNG, JPEG, WebP, TIFF, AVIF, HEIC, BMP or GIF picture",
        ),
        (
            ["edges", "dark.pgm", "-o", "out.png"],
            "dark.pgm: not a PNG, JPEG, WebP, TIFF, AVIF, HEIC, BMP or GIF picture",
        ),
        (["edges", "long.png", "-o", "out.webp"], "20000x4 pixels do not fit into .webp"),
        (["edges", "good.png", "-o", "good.png"], "good.png: exists already; --overwrite replaces it"),
        (["edges", "good.png", "-o", "no/out.png"], "no: no such directory"),
        (["edges", "good.png", "-o", "."], "is a directory"),
        (["edges", "good.png", "-o", "out.xyz"], "cannot write .xyz"),
        (["edges", "good.png", "-o", "out.png", "--thresholds", "9", "3"], "0 <= LOW <= HIGH"),
        (["edges", "good.png", "-o", "out.png", "--thresholds", "0", "inf"], "0 <= LOW <= HIGH"),
        (["edges", "good.png", "-o", "out.png", "--thresholds", "nan", "3"], "0 <= LOW <= HIGH"),
        (
            ["edges", "good.png", "-o", "out.png", "--method", "sobel", "--thresholds", "1", "2"],
            "--thresholds goes with",
        ),
        (["edges", "good.png", "-o", "out.png", "--method", "prewitt"], "invalid choice: 'prewitt'"),
        (["blur", "good.png", "-o", "out.png", "--kind", "wobble"], "invalid choice: 'wobble'"),
        (["blur", "good.png", "-o", "out.png", "--extent", "0"], "--extent must be from 0.01"),
        (["blur", "good.png", "-o", "out.png", "--extent", "nan"], "--extent must be from 0.01"),
        (["blur", "good.png", "-o", "out.png", "--jpeg", "0"], "--jpeg must be from 1 to 100"),
        (["blur", "good.png", "-o", "out.png", "--photons", "0"], "--photons must be at least 1"),
        (["blur", "good.png", "-o", "out.png", "--kernel-out", "out.png"], "named for two of the outputs"),
        (["blur", "good.png", "-o", "out.png", "--sharp-out", "./out.png"], "named for two of the outputs"),
        (["blur", "good.png", "-o", "out.png", "--sharp-out", "good.png"], "good.png: exists already"),
        (["blur", "good.png", "-o", "out.png", "--saturate", "0.5"], "--saturate must be from 1 to 1000"),
        (["blur", "good.png", "-o", "out.png", "--focal", "90"], "--focal goes with --kind handheld or layers, not"),
        (["blur", "good.png", "-o", "out.png", "--poses", "text.png"], "--poses goes with --kind handheld, not"),
        (
            ["blur", "good.png", "-o", "out.png", "--frames", "5"],
            "--frames goes with --kind frames, not with --kind shake",
        ),
        (
            ["blur", "good.png", "-o", "out.png", "--sheet", "--start", "5"],
            "--start goes with --kind frames, not with --sheet",
        ),
        (["blur", "good.png", "-o", "out.png", "--sheet", "--sharp-out", "s.png"], "--sheet goes with neither"),
        (["blur", "good.png", "-o", "out.png", "--sheet", "--jpeg", "5"], "--sheet shows blur alone: leave out"),
        (["blur", "good.png", "-o", "out.png", "--seed", "99999999999999999999"], "--seed must be below 2^63"),
        ([*HANDHELD, "--focal", "0"], "--focal must be above 0"),
        ([*HANDHELD, "--focal", "5"], "--focal 5 is too short for 4 pixels"),
        ([*HANDHELD, "--roll", "90"], "--roll must be from 0 to 45"),
        ([*HANDHELD, "--pose-axes", "tumvi"], "name it with --poses"),
        ([*HANDHELD, "--poses", "text.png"], "text.png, line 1: not `timestamp tx ty tz qx qy qz qw`"),
        ([*HANDHELD, "--poses", "short.txt"], "short.txt: 0.10 s long at most, and exposures last"),
        ([*HANDHELD, "--poses", "short.txt", "--roll", "1"], "--roll and --poses exclude each other"),
        ([*HANDHELD, "--poses", "short.txt", "--pose-axes", "x z y"], "right-handed"),
        (["blur", "good.png", "-o", "out.png", "--kind", "layers", "--layer", "text.png"], "text.png: not a PNG"),
        ([*FRAMES, "text.png"], "text.png: no frame in it can be decoded"),
        ([*FRAMES, "none.mp4"], "none.mp4: not a readable clip: No such file"),
        ([*FRAMES, "good.png"], "good.png: "),
        ([*FRAMES, "film.avi", "--frames", "13"], "film.avi: 13 frames are needed from 0 s on, there are 6"),
        ([*FRAMES, "film.avi", "--start", "0.2"], "film.avi: 7 frames are needed from 0.2 s on, there are 2"),
        ([*FRAMES, "film.avi", "--start", "1e9"], "film.avi: "),
        ([*FRAMES, "film.avi", "--frames", "4"], "--frames must be odd, from 3 to 99"),
        ([*FRAMES, "film.avi", "--start", "-1"], "--start must be from 0 seconds"),
        ([*FRAMES, "film.avi", "--between", "99"], "--between must be from 0 to 63"),
        ([*FRAMES, "film.avi", "--kernel-out", "k.png"], "--kernel-out does not go with --kind frames"),
        ([*FRAMES, "film.avi", "--saturate", "4"], "--saturate does not go with --kind frames"),
        (["blur", "good.png", "-o", "good.png"], "good.png: exists already"),
        (["demo", "-o", "text.png"], "text.png: cannot be made"),
        (["demo", "-o", "page"], "index.html: exists already"),
        (["demo", "--model", "large", "-o", "other"], "its weights do not come with the package"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(tmp_path, arguments, message):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no picture")
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((4, 20000), np.uint8))
    (tmp_path / "dark.pgm").write_bytes(b"P5 2 2 100\n" + bytes([100] * 4))  # white, by a maximum of its own
    write_film(tmp_path / "film.avi", np.zeros((6, 48, 64, 3), np.uint8))
    (tmp_path / "short.txt").write_text("0 0 0 0 0 0 0 1\n0.1 0 0 0 0 0 0 1\n")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").touch()
    before = sorted(tmp_path.rglob("*"))
    assert message in one_line(deblur(*arguments, cwd=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.98])
def test_a_truncated_picture_is_refused_in_one_line(tmp_path, suffix, share, capfd):
    whole = cv2.imencode(suffix, cv2.imread(str(samples.PICTURES[1])))[1].tobytes()
    (tmp_path / f"cut{suffix}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=f"cut{suffix}: the picture is damaged"):
        read_image(tmp_path / f"cut{suffix}")
    assert capfd.readouterr() == ("", "")


def test_an_output_that_cannot_be_written_is_one_line():
    command = f"'{sys.executable}' -m deblur_jax models"
    full = subprocess.run(f"{command} > /dev/full", shell=True, capture_output=True, text=True, timeout=60)
    assert full.returncode == 1
    assert full.stderr == "deblur models: the output cannot be written: No space left on device\n"
    closed = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, timeout=60)
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize("method", ["canny", "sobel", "laplacian"])
def test_edges_of_a_photograph(tmp_path, method):
    done = deblur("edges", samples.PICTURES[1], "-o", tmp_path / "edges.png", "--method", method)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'edges.png'}\n"
    edges = cv2.imread(str(tmp_path / "edges.png"), cv2.IMREAD_UNCHANGED)
    assert edges.shape == cv2.imread(str(samples.PICTURES[1])).shape[:2]
    if method == "canny":
        picture = cv2.cvtColor(cv2.imread(str(samples.PICTURES[1])), cv2.COLOR_BGR2GRAY)
        np.testing.assert_array_equal(edges, cv2.Canny(picture, 100, 200))
    assert edges.any()
    assert sorted(os.listdir(tmp_path)) == ["edges.png"]


KINDS = ["line", "shake", "defocus", "aperture", "gaussian", "anisotropic"]


@pytest.mark.parametrize("kind", KINDS)
def test_blurring_is_the_forward_model_in_linear_light(tmp_path, kind):
    """What is written is the picture convolved with the kernel that is written, to the rounding of both."""
    photo = np.rint(255 * read_image(samples.PICTURES[1])[200:300, 300:420]).astype(np.uint8)
    write_image(tmp_path / "in.png", photo)
    files = ("in.png", "-o", "out.png", "--kernel-out", "kernel.png")
    done = deblur("blur", *files, "--kind", kind, "--extent", "9", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "out.png\nkernel.png\n"), done.stderr
    kernel = cv2.imread(str(tmp_path / "kernel.png"), cv2.IMREAD_UNCHANGED) / 255
    light = blur.srgb_to_linear(jnp.asarray(photo / 255.0, jnp.float32))
    expected = np.asarray(blur.linear_to_srgb(blur.convolve(light[None], jnp.asarray(kernel / kernel.sum())[None])))[0]
    np.testing.assert_allclose(read_image(tmp_path / "out.png"), expected, atol=2.5 / 255)
    assert np.abs(expected - photo / 255).max() > 0.05


def dots(height, width, rows, columns):
    """Black, with a white pixel wherever --kernel-out tells a kernel."""
    picture = np.zeros((height, width, 3), np.uint8)
    cell = height // rows, width // columns
    picture[cell[0] // 2 :: cell[0], cell[1] // 2 :: cell[1]] = 255
    return picture


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["handheld", "layers", "turbulence", "recorded"])
def test_the_grid_of_kernels_is_what_points_of_light_become(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write_image("in.png", dots(99, 165, 3, 5))
    more = ["--kind", kind, "--roll", "5"][: 2 if kind == "turbulence" else 4]
    if kind == "recorded":
        times = np.arange(0, 1, 0.005)
        turn = 0.04 * np.c_[np.sin(40 * times), np.cos(29 * times), 5 * np.sin(17 * times)]
        poses = np.c_[times, 0 * turn, turn / 2, np.sqrt(1 - (turn**2).sum(1) / 4)]
        np.savetxt("poses.txt", poses, fmt="%.9f")
        more = ["--kind", "handheld", "--poses", "poses.txt", "--pose-axes", "tumvi"]
    outputs = ["-o", "out.png", "--kernel-out", "kernels.png", "--sharp-out", "sharp.png"]
    assert main(["blur", "in.png", *outputs, "--extent", "8", "--seed", "4", *more]) == 0
    kernels = read_image("kernels.png")[..., 0]
    size = (kernels.shape[0] + 1) // 3 - 1
    assert kernels.shape == (3 * size + 2, 5 * size + 4)
    light = np.asarray(blur.srgb_to_linear(read_image("out.png")))[..., 0]
    across = np.mgrid[:size, :size] - size // 2
    told, seen, alike = [], [], []
    for row in range(3):
        for column in range(5):
            kernel = kernels[row * (size + 1) :, column * (size + 1) :][:size, :size]
            around = np.pad(light, 50)[row * 33 + 66 - size // 2 :, column * 33 + 66 - size // 2 :][:size, :size]
            told.append(kernel / kernel.sum())
            seen.append(around / around.sum())
            alike.append(np.corrcoef(kernel.ravel(), around.ravel())[0, 1])
    # Where the edge of a layer passes, and where the air bends light within its spot, it is more complicated.
    assert sorted(alike)[2] > (0.8 if kind == "turbulence" else 0.93)
    centres = [np.array([(across * k).sum((1, 2)) for k in kernels]) for kernels in (told, seen)]
    assert np.sort(np.abs(centres[0] - centres[1]).max(1))[-3] < 0.35
    assert np.std(told, 0).max() > 0.01  # not everywhere the same
    np.testing.assert_allclose(read_image("sharp.png"), read_image("in.png"), atol=1e-6)


def test_a_layer_moves_in_front_of_the_picture(tmp_path, monkeypatch):
    """A white thing before a black ground: the sharp partner is black and white, the blurred one has its edges grey."""
    monkeypatch.chdir(tmp_path)
    write_image("black.png", np.zeros((90, 120, 3), np.uint8))
    write_image("white.png", np.full((7, 5, 3), 255, np.uint8))
    command = [
        "blur",
        "black.png",
        "-o",
        "out.png",
        "--kind",
        "layers",
        "--layer",
        "white.png",
        "--sharp-out",
        "sharp.png",
    ]
    assert main(command) == 0
    light = [np.asarray(blur.srgb_to_linear(read_image(name)))[..., 0] for name in ("sharp.png", "out.png")]
    grey = [np.mean((x > 0.05) & (x < 0.95)) for x in light]
    assert 0.03 < light[0].mean() < 0.7
    np.testing.assert_allclose(light[1].mean(), light[0].mean(), rtol=0.1)
    assert grey[1] > 2 * grey[0] > 0


def test_highlights_are_given_back_before_the_blur(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("in.png", dots(33, 33, 1, 1))
    for name, more in (("dim.png", []), ("bright.png", ["--saturate", "30"])):
        assert main(["blur", "in.png", "-o", name, "--kind", "line", "--extent", "9", "--angle", "0", *more]) == 0
    dim, bright = (read_image(name)[16, :, 0] for name in ("dim.png", "bright.png"))
    assert dim.max() < 0.4
    np.testing.assert_array_equal(bright[13:20], 1.0)
    assert bright[:8].max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("response", ["stored", "srgb"])
def test_frames_of_a_clip_are_averaged(tmp_path, monkeypatch, response):
    monkeypatch.chdir(tmp_path)
    frames = [np.full((48, 64, 3), 60, np.uint8) for _ in range(9)]
    for i, frame in enumerate(frames):
        frame[8:40, 8 + 5 * i : 14 + 5 * i] = [230, 200, 90]
    write_film("film.avi", frames)
    command = ["blur", "film.avi", "--kind", "frames", "--start", "0.1", "--frames", "5", "--response", response]
    for name, between in (("ghosts.png", 0), ("streak.png", 7 if response == "stored" else 0)):
        more = ["--between", str(between), "--sharp-out", "sharp.png", "--overwrite"]
        assert main([*command, "-o", name, *more]) == 0
    film = cv2.VideoCapture("film.avi")
    stored = np.array([film.read()[1][..., ::-1] for _ in range(9)])[2:7] / 255
    # OpenCV converts colours more coarsely; a frame too early or too late would differ by 0.06.
    assert np.abs(read_image("sharp.png") - stored[2]).mean() < 0.01
    if response == "stored":
        expected = stored.mean(0)
    else:
        expected = blur.linear_to_srgb(blur.srgb_to_linear(jnp.asarray(stored, jnp.float32)).mean(0))
    assert np.abs(read_image("ghosts.png") - expected).mean() < 0.01
    inside = [read_image(name)[16:32, 24:38, 1].mean(0) for name in ("ghosts.png", "streak.png")]
    assert response == "srgb" or np.ptp(inside[1]) < 0.6 * np.ptp(inside[0])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    options = ("--noise", "0.01", "--jpeg", "80")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = deblur("blur", samples.PICTURES[0], "-o", tmp_path / f"{name}.png", "--seed", seed, *options)
        assert done.returncode == 0, done.stderr
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.slow
def test_a_sheet_of_all_kinds(tmp_path):
    done = deblur("blur", samples.PICTURES[1], "-o", tmp_path / "sheet.png", "--sheet")
    assert done.returncode == 0, done.stderr
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    cells = [cell for row in np.split(sheet[: 3 * 352], 3) for cell in np.split(row, 4, axis=1)]
    sharpness = [cv2.Laplacian(cell[36:-160, 6:-160], cv2.CV_64F).var() for cell in cells]
    assert len(cells) == 12
    assert min(sharpness[1:]) > 0
    assert max(sharpness[1:10]) < sharpness[0] / 2  # all but those with highlights and with noise
    assert sheet[3 * 352 + 28 :].min() < 100  # the paths are drawn


@pytest.mark.slow
def test_the_smallest_pictures_are_blurred_too(tmp_path):
    files = [str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--kernel-out", str(tmp_path / "kernel.png")]
    for size, kind in (((1, 1), "shake"), ((1, 50), "handheld"), ((3, 2), "layers"), ((2, 1), "turbulence")):
        write_image(tmp_path / "in.png", np.full((*size, 3), 100, np.uint8), overwrite=True)
        assert main(["blur", *files, "--kind", kind, "--overwrite"]) == 0
        np.testing.assert_allclose(read_image(tmp_path / "out.png") * 255, 100, atol=1)


@pytest.mark.slow
def test_the_demo_writes_one_page_that_needs_nothing_else(tmp_path):
    done = deblur("demo", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'index.html'}\n"
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/") == 3 * (3 + 3) + 2  # three scenes with their edges, and the limits
    assert page.count("data:video/mp4") == 2  # before and after
    assert "http" not in page
    assert all(name in page for name in zoo.NETWORKS)


def test_ctrl_c_within_a_callback_of_the_garbage_collector_is_not_lost():
    program = """
import gc, signal, sys, time
from deblur_jax import cli
def collected(phase, info):
    if phase == "start":
        gc.callbacks.remove(collected)
        signal.raise_signal(signal.SIGINT)
def run(options):
    gc.callbacks.append(collected)
    gc.collect()
    time.sleep(30)
    return 0
cli.models.run = run
sys.exit(cli.main(["models"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=25)
    assert (done.returncode, done.stderr) == (130, "deblur models: interrupted\n")
