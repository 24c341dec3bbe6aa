"""The command as a process: what it prints, where, and its exit code."""

import json
import os
import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import __version__, blur, samples
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
    "arguments", [["--help"], ["models"], ["edges", "--help"], ["blur", "--help"], ["data", "check", "--help"]]
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


def test_the_readmes_python_runs():
    readme = (samples.PICTURES[0].parents[2] / "README.md").read_text()
    names = {}
    exec(readme.split("```python\n")[1].split("```")[0], names)
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
        (["edges", "text.png", "-o", "out.png"], "text.png: not a PNG, JPEG, WebP or BMP picture"),
        (["edges", "dark.pgm", "-o", "out.png"], "dark.pgm: not a PNG, JPEG, WebP or BMP picture"),
        (["edges", "long.png", "-o", "out.webp"], "20000x4 pixels do not fit into .webp"),
        (["edges", "good.png", "-o", "good.png"], "good.png: exists already; --overwrite replaces it"),
        (["edges", "good.png", "-o", "no/out.png"], "no: no such directory"),
        (["edges", "good.png", "-o", "."], "is a directory"),
        (["edges", "good.png", "-o", "out.xyz"], "cannot write .xyz"),
        (["edges", "good.png", "-o", "out.png", "--thresholds", "9", "3"], "0 <= LOW <= HIGH"),
        (["edges", "good.png", "-o", "out.png", "--thresholds", "0", "inf"], "0 <= LOW <= HIGH"),
        (["edges", "good.png", "-o", "out.png", "--thresholds", "nan", "3"], "0 <= LOW <= HIGH"),
        (["edges", "good.png", "-o", "out.png", "--method", "prewitt"], "invalid choice: 'prewitt'"),
        (["blur", "good.png", "-o", "out.png", "--kind", "wobble"], "invalid choice: 'wobble'"),
        (["blur", "good.png", "-o", "out.png", "--extent", "0"], "--extent must be above 0"),
        (["blur", "good.png", "-o", "out.png", "--extent", "nan"], "--extent must be above 0"),
        (["blur", "good.png", "-o", "out.png", "--jpeg", "0"], "--jpeg must be from 1 to 100"),
        (["blur", "good.png", "-o", "out.png", "--photons", "0"], "--photons must be at least 1"),
        (["blur", "good.png", "-o", "out.png", "--kernel-out", "out.png"], "both the picture and the kernel"),
        (["blur", "good.png", "-o", "good.png"], "good.png: exists already"),
        (["demo", "-o", "text.png"], "text.png: cannot be made"),
        (["demo", "-o", "page"], "index.html: exists already"),
        (["demo", "--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(tmp_path, arguments, message):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no picture")
    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "long.png"), np.zeros((4, 20000), np.uint8))
    (tmp_path / "dark.pgm").write_bytes(b"P5 2 2 100\n" + bytes([100] * 4))  # white, by a maximum of its own
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


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    options = ("--noise", "0.01", "--jpeg", "80")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = deblur("blur", samples.PICTURES[0], "-o", tmp_path / f"{name}.png", "--seed", seed, *options)
        assert done.returncode == 0, done.stderr
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_a_sheet_of_all_kinds(tmp_path):
    done = deblur("blur", samples.PICTURES[1], "-o", tmp_path / "sheet.png", "--sheet")
    assert done.returncode == 0, done.stderr
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    cells = [cell for row in np.split(sheet, 2) for cell in np.split(row, 4, axis=1)]
    sharpness = [cv2.Laplacian(cell[36:-110, 6:-110], cv2.CV_64F).var() for cell in cells]
    assert min(sharpness[1:-1]) > 0
    assert max(sharpness[1:-1]) < sharpness[0] / 2


def test_the_smallest_pictures_are_blurred_too(tmp_path):
    for size in ((1, 1), (1, 50), (3, 2)):
        write_image(tmp_path / "in.png", np.full((*size, 3), 100, np.uint8), overwrite=True)
        done = deblur("blur", tmp_path / "in.png", "-o", tmp_path / "out.png", "--overwrite")
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(read_image(tmp_path / "out.png") * 255, 100, atol=1)


def test_the_demo_writes_one_page_that_needs_nothing_else(tmp_path):
    done = deblur("demo", "-o", tmp_path, "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'index.html'}\n"
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img src='data:image/") == 8 * len(samples.PICTURES) + 3
    assert "http" not in page
    assert all(name in page for name in zoo.NETWORKS)
