"""What is prepared holds the files' own bytes, and survives being interrupted at any point."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds

from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.pipeline import builders, checks, pictures, sources, trees
from deblur_jax.pipeline.prepare import prepare

PAIRS = Path(__file__).parents[2] / "data" / "pairs"


def command(raw, out, *more):
    places = ("--manual-dir", str(raw), "--out", str(out))
    return [sys.executable, "-m", "deblur_jax", "data", "prepare", str(PAIRS), *places, *map(str, more)]


@pytest.fixture
def run(capsys):
    """The command in this process, which is half a second faster."""

    def run(*arguments):
        capsys.readouterr()
        code = main(command(*arguments)[3:])
        return SimpleNamespace(returncode=code, **dict(zip(("stdout", "stderr"), capsys.readouterr(), strict=True)))

    return run


@pytest.fixture
def raw(tmp_path, write):
    """Two sequences of six frames for training, one of five for validation."""
    for split, sequence, frames in (("train", "a", 6), ("train", "b", 6), ("val", "a", 5)):
        for i in range(frames):
            for kind in ("blur", "sharp"):
                write(f"raw/{split}/{kind}/{sequence}/{i:03d}.png", 7 * i + ord(sequence) + len(split))
    return tmp_path / "raw"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(out, split):
    builder = tfds.builder_from_directory(out)
    undecoded = {name: tfds.decode.SkipDecoding() for name in builder.info.features if name in ("blur", "sharp")}
    return builder.as_data_source(split=split, decoders=undecoded)


def test_records_are_the_files_in_order(run, raw, tmp_path):
    done = run(raw, tmp_path / "out", "--shards", 4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "train: 12 examples of 2 sequences in 4 shards"
    frames = json.loads((tmp_path / "out/frames.json").read_text())
    for split, examples in trees.pairs(raw).items():
        records = list(read(tmp_path / "out", split))
        assert [[r["sequence"].decode(), int(r["frame"])] for r in records] == frames[split]
        assert [r["name"].decode() for r in records] == [e.name for e in examples]
        assert [r["blur"] for r in records] == [e.blur.read_bytes() for e in examples]
        assert [r["sharp"] for r in records] == [e.sharp.read_bytes() for e in examples]
    plain, prepared = checks.examine(raw), checks.examine(tmp_path / "out")
    assert plain.splits == prepared.splits
    again = contents(tmp_path / "out")
    assert run(raw, tmp_path / "out", "--shards", 4).returncode == 0
    assert contents(tmp_path / "out") == again


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_run_again_it_is_the_same_to_the_byte(run, raw, tmp_path, sign):
    assert run(raw, tmp_path / "whole", "--shards", 5).returncode == 0
    # Stopped in a later shard: one of its pictures is read only when the file `go` is there.
    out, slow, go = tmp_path / "out", raw / "train/sharp/b/005.png", tmp_path / "go"
    program = f"""
import os, sys, time
from deblur_jax.pipeline import prepare
read = prepare._read
def slow(source, path):
    while str(path) == {str(slow)!r} and not os.path.exists({str(go)!r}):
        time.sleep(0.02)
    return read(source, path)
prepare._read = slow
from deblur_jax.cli import main
sys.exit(main({command(raw, out, "--shards", 5)[3:]!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(out.glob(".*.part")) or len(list(out.glob("pairs-*"))) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(sign)
    time.sleep(0.3)  # it must have come before there is anything else to do
    go.touch()
    _, said = process.communicate(timeout=60)
    if sign == signal.SIGINT:
        assert process.returncode == 130, said
        assert said.splitlines() == [
            "deblur data: the finished shards stay; run the same command again to go on",
            "deblur data: interrupted",
        ]
    left = contents(out)
    assert "dataset_info.json" not in left
    with pytest.raises(UserError, match="was not finished"):
        trees.kind_of(out)
    finished = {name: os.stat(out / name).st_mtime_ns for name in left if name.startswith("pairs-")}
    done = run(raw, out, "--shards", 5)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(tmp_path / "whole")
    assert finished == {name: os.stat(out / name).st_mtime_ns for name in finished}


def test_raw_pixels_instead_of_files(run, raw, tmp_path):
    out = tmp_path / "out"
    assert run(raw, out, "--raw").returncode == 0
    assert main(["data", "check", str(out)]) == 0
    assert main(["data", "show", str(out), "-o", str(tmp_path / "sheet.png")]) == 0
    stored, plain = sources.open_source(out, frames=3), sources.open_source(raw, frames=3)
    assert len(stored) == len(plain) == 8
    for side in ("sharp", "blur"):
        for one, other in zip(getattr(stored[5], side), getattr(plain[5], side), strict=True):
            np.testing.assert_array_equal(pictures.decode(one, "stored"), pictures.decode(other, "plain"))
    code = run(raw, out)
    assert (code.returncode, code.stderr.count("\n")) == (2, 1)
    assert "holds pictures raw, not encoded" in code.stderr


def test_another_plan_is_refused_and_overwrite_starts_anew(run, raw, tmp_path, write):
    out = tmp_path / "out"
    assert run(raw, out, "--shards", 2).returncode == 0
    before = contents(out)
    done = run(raw, out, "--shards", 3)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was begun with 4 shards, not 6; name another directory, or start anew with --overwrite" in done.stderr
    write("raw/train/sharp/a/000.png", 50)
    assert "was begun with other files than there are now" in run(raw, out, "--shards", 2).stderr
    assert contents(out) == before
    assert run(raw, out, "--shards", 3, "--overwrite").returncode == 0
    assert len(list(out.glob("pairs-*"))) == 6
    assert len(list(read(out, "train"))) == 12


def test_raw_pixels_of_other_files_of_the_same_size_are_other_pixels(run, raw, tmp_path, write):
    out = tmp_path / "out"
    assert run(raw, out, "--raw", "--shards", 2).returncode == 0
    write("raw/train/sharp/a/000.png", 50)
    assert "was begun with other files than there are now" in run(raw, out, "--raw", "--shards", 2).stderr


@pytest.mark.parametrize("text", ["{", "{}", "[]", "null", '{"dataset": "pairs"}'])
def test_a_damaged_plan_is_one_line(run, raw, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/plan.json").write_text(text)
    done = run(raw, tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "plan.json: damaged; --overwrite starts anew" in done.stderr
    assert run(raw, tmp_path / "out", "--overwrite").returncode == 0


def test_a_second_command_is_refused_and_disturbs_nothing(run, raw, tmp_path):
    pytest.importorskip("fcntl")
    out, seconds = tmp_path / "out", []

    def tick(done, total):
        if not seconds:
            seconds.append(run(raw, out))

    source, _ = builders.load_source(PAIRS, raw)
    prepare(source, out, tick=tick)
    assert (seconds[0].returncode, seconds[0].stderr.count("\n")) == (2, 1)
    assert f"{out}: another command is writing it" in seconds[0].stderr
    assert len(read(out, "train")) == 12
    assert run(raw, out).returncode == 0


def test_a_folder_that_cannot_be_read_makes_no_shorter_dataset(run, raw, tmp_path, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(raw / "train/blur/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = run(raw, tmp_path / "out", "--allow-partial")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{raw / 'train/blur/b'}: cannot be read: Permission denied" in done.stderr


@pytest.mark.parametrize("name", ["my.pairs", "my pairs", "v1.0 of.pairs"])
def test_a_datasets_folder_may_be_called_anything(raw, tmp_path, name):
    shutil.copytree(PAIRS, tmp_path / name)
    source, _ = builders.load_source(tmp_path / name, raw)
    assert source.name == "pairs"
    (tmp_path / name / "__init__.py").unlink()
    (tmp_path / f"{name}2").mkdir()
    shutil.copy(tmp_path / name / "pairs_dataset_builder.py", tmp_path / f"{name}2")
    assert builders.find_builder(tmp_path / f"{name}2").name == "pairs"
    (tmp_path / f"{name}2/pairs_dataset_builder.py").rename(tmp_path / f"{name}2/my.pairs_dataset_builder.py")
    with pytest.raises(UserError, match=r"my.pairs_dataset_builder.py: has a dot in its name"):
        builders.find_builder(tmp_path / f"{name}2")


def test_a_directory_of_something_else_is_left_alone(run, raw, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    done = run(raw, tmp_path / "out", "--overwrite")
    assert done.returncode == 2
    assert "is not empty and holds no earlier" in done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["mine.txt"]


def test_nothing_is_written_of_damaged_or_missing_pictures(run, raw, tmp_path):
    (raw / "val/blur/a/003.png").unlink()
    (raw / "train/blur/a/001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = run(raw, tmp_path / "out", "--allow-partial")
    assert done.returncode == 2
    assert "train/blur/a/001.png: the picture is damaged" in done.stderr
    shutil.copy(raw / "train/blur/a/002.png", raw / "train/blur/a/001.png")
    done = run(raw, tmp_path / "out")
    assert done.returncode == 2
    assert "val/blur/a/003.png: missing" in done.stderr
    assert not (tmp_path / "out").exists()
    done = run(raw, tmp_path / "out", "--allow-partial")
    assert done.returncode == 0, done.stderr
    assert "PARTIAL: 1 missing, and left out" in done.stderr
    assert json.loads((tmp_path / "out/metadata.json").read_text())["left_out"] == ["val/blur/a/003.png: missing"]
    assert len(read(tmp_path / "out", "val")) == 4


def test_a_wrong_checksum_inside_a_picture_is_found_while_copying(run, raw, tmp_path):
    path = raw / "train/sharp/b/002.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = run(raw, tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "b/002.png: the picture is damaged (its checksum is wrong)" in done.stderr
    assert not (tmp_path / "out/dataset_info.json").exists()


def test_a_full_disk_is_one_line_and_finished_shards_stay(run, raw, tmp_path):
    """A limit on the size of files stands for the disk: it is reached in the middle of a shard, as a full disk is."""
    program = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, 80_000))
from deblur_jax.cli import main
sys.exit(main({command(raw, tmp_path / "out", "--shards", 2)[3:]!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "cannot be written: " in done.stderr
    assert "run again to go on" in done.stderr
    assert not list((tmp_path / "out").glob(".*.part"))
    assert run(raw, tmp_path / "out", "--shards", 2).returncode == 0
    assert len(read(tmp_path / "out", "train")) == 12


@pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0, reason="needs root")
def test_a_disk_that_is_really_full(run, raw, tmp_path):
    """A file system of two megabytes, of which somebody else takes what is left while we write."""
    disk = tmp_path / "disk"
    disk.mkdir()
    program = f"""
import sys
from deblur_jax.pipeline import prepare
record, calls = prepare._record, []
def greedy(*arguments):
    calls.append(1)
    if len(calls) == 9:
        try: open({str(disk / "taken")!r}, "wb").write(bytes(4_000_000))
        except OSError: pass
    return record(*arguments)
prepare._record = greedy
from deblur_jax.cli import main
sys.exit(main({command(raw, disk / "out", "--shards", 3)[3:]!r}))
"""
    (tmp_path / "program.py").write_text(program)
    again = shlex.join(command(raw, disk / "out", "--shards", "3"))
    script = (
        f"mount -t tmpfs -o size=2m none {disk} && {{ {shlex.quote(sys.executable)} {tmp_path / 'program.py'}; "
        f"code=$?; ls -A {disk}/out; rm {disk}/taken; {again} >/dev/null "
        f"&& ls -A {disk}/out | wc -l; exit $code; }}"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr + done.stdout
    assert "No space left on device" in done.stderr
    assert "pairs-train.array_record-00000-of-00003\n" in done.stdout
    assert "dataset_info.json" not in done.stdout
    assert done.stdout.splitlines()[-1] == "11"  # six shards, five files about them


def test_too_small_a_disk_is_noticed_before_writing(run, raw, tmp_path, monkeypatch):
    source, _ = builders.load_source(PAIRS, raw)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"0 GB are free and .* more are to be written"):
        prepare(source, tmp_path / "out")


def test_damaged_shards_are_found_by_the_check(run, raw, tmp_path):
    assert run(raw, tmp_path / "out", "--shards", 2).returncode == 0
    shard = next((tmp_path / "out").glob("pairs-val*00001-of*"))
    data = bytearray(shard.read_bytes())
    data[2000:2100] = bytes(100)
    shard.write_bytes(data)
    assert any("val" in problem for problem in checks.examine(tmp_path / "out").problems)
    shard.unlink()
    with pytest.raises(UserError, match="missing; prepare the dataset again"):
        checks.examine(tmp_path / "out")
