"""`deblur eval` on clips with a reference."""

import csv

import clips
import cv2
import numpy as np

from deblur_jax.cli import main


def test_scores_of_each_video(nano, tmp_path, capsys):
    for folder, sigma in (("blur", 1.5), ("sharp", 0.0)):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for name, frames in (("a", 3), ("b", 2), ("short", 3 if sigma else 2)):

            def picture(width, height, n, sigma=sigma):
                whole = clips.photograph(width, height, n)
                return cv2.GaussianBlur(whole, (0, 0), sigma) if sigma else whole

            path = tmp_path / "pairs" / folder / f"{name}.mkv"
            clips.make(path, codec="ffv1", pixel_format="bgr0", colours=(2, 1, 13, 0), frames=frames, picture=picture)
    command = ["eval", str(nano(scale=0.02)), "--data", str(tmp_path / "pairs"), "-o", str(tmp_path / "report")]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "short.mkv: the blurred and the sharp clip differ in their number of frames" in said.err
    page = (tmp_path / "report/index.html").read_text()
    assert "a.mkv, frame 2" in page
    assert "short.mkv" in page
    rows = list(csv.DictReader((tmp_path / "report/videos.csv").read_text().splitlines()))
    assert [(r["sequence"], r["row"], r["pictures"]) for r in rows if r["row"] != "sharp"] == [
        ("a.mkv", "blurry", "3"), ("a.mkv", "mild", "3"), ("b.mkv", "blurry", "2"), ("b.mkv", "mild", "2")
    ]  # fmt: skip
    whole = [clips.photograph(shift=n) for n in range(3)]
    mse = [np.square((cv2.GaussianBlur(p, (0, 0), 1.5).astype(float) - p) / 255).mean() for p in whole]
    assert abs(float(rows[0]["mse"]) - np.mean(mse)) < 1e-7
    assert abs(float(rows[0]["psnr"]) - np.mean(-10 * np.log10(mse))) < 1e-3
    pictures = csv.DictReader((tmp_path / "report/pictures.csv").read_text().splitlines())
    assert [p["frame"] for p in pictures if p["row"] == "mild"] == ["0", "1", "2", "0", "1"]
    assert main(command) == 2
    assert "--overwrite replaces the report" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--limit", "2", "--no-fps"]) == 1
    pictures = csv.DictReader((tmp_path / "report/pictures.csv").read_text().splitlines())
    # The file of eight frames that failed counts too: every fourth.
    assert [(p["sequence"], p["frame"]) for p in pictures if p["row"] == "mild"] == [("a.mkv", "2")]
    (tmp_path / "pairs/sharp/a.mkv").unlink()
    assert main([*command, "--overwrite"]) == 2
    assert "a.mkv: is missing" in capsys.readouterr().err
