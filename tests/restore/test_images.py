"""Picture files: depths, orientation, whole files."""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.restore import read_image, write_image
from deblur_jax.restore.images import decode_image, encode_image, write_whole


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_both_depths_are_read_as_declared_by_the_file(tmp_path, dtype):
    """Dark 16-bit pictures too: the range is not guessed from the values."""
    pixels = np.random.default_rng(0).integers(0, 200, (5, 7, 3)).astype(dtype)
    cv2.imwrite(str(tmp_path / "x.png"), pixels[..., ::-1])
    np.testing.assert_allclose(read_image(tmp_path / "x.png"), pixels / np.iinfo(dtype).max, rtol=1e-6)


def test_grey_is_read_as_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((3, 4), 51, np.uint8))
    np.testing.assert_allclose(read_image(tmp_path / "x.png"), np.full((3, 4, 3), 0.2), rtol=1e-6)


def test_what_is_stored_linearly_is_encoded(tmp_path):
    from PIL import Image, PngImagePlugin

    said = PngImagePlugin.PngInfo()
    said.add(b"gAMA", (100_000).to_bytes(4, "big"))
    Image.fromarray(np.full((3, 4, 3), 55, np.uint8)).save(tmp_path / "x.png", pnginfo=said)
    light = 55 / 255
    encoded = np.full((3, 4, 3), 1.055 * light ** (1 / 2.4) - 0.055)
    read = read_image(tmp_path / "x.png")
    np.testing.assert_allclose(read, encoded, atol=1e-5)
    assert read.flags.writeable


def test_exif_orientation_is_applied(tmp_path):
    from PIL import Image

    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture.save(tmp_path / "x.jpg", exif=exif, quality=95)
    turned = read_image(tmp_path / "x.jpg")
    assert turned.shape == (16, 8, 3)
    assert turned[:7].min() > 0.9
    assert turned[9:].max() < 0.1


def test_written_pictures_come_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    write_image(tmp_path / "x.png", pixels)
    np.testing.assert_allclose(read_image(tmp_path / "x.png"), pixels / 255, rtol=1e-6)
    with pytest.raises(UserError, match="exists already"):
        write_image(tmp_path / "x.png", pixels)
    write_image(tmp_path / "x.png", 255 - pixels, overwrite=True)
    np.testing.assert_allclose(read_image(tmp_path / "x.png"), 1 - pixels / 255, atol=1e-6)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_stops_halfway_leaves_the_old_file_whole(tmp_path, monkeypatch, error):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((UserError, KeyboardInterrupt)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.png"]


def test_decoding_in_many_threads_leaves_standard_error_where_it_was(capfd):
    damaged = encode_image(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8), ".jpg")[:-3000]

    def decode(_):
        with pytest.raises(UserError, match="damaged"):
            decode_image(damaged, "x.jpg")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(400)))
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"
