import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from deblur_jax import weights
from deblur_jax.errors import UserError
from deblur_jax.train import loop
from tests.train.conftest import TINY


def params(workdir, name="final.safetensors"):
    return weights.read_tensors(workdir / name)


def equal(a, b, tolerance=0.0):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=tolerance)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def uninterrupted(tiny, whole):
    if not (whole / "final.safetensors").exists():
        assert loop.run(tiny(), whole) == loop.DONE
    return whole


def test_what_a_run_leaves(uninterrupted):
    found = lines(uninterrupted)
    assert [line["step"] for line in found if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in found if "val/psnr" in line] == [3, 6]
    for name in ("l1", "ssim", "gradient", "images_per_s", "tflops", "utilisation", "input_wait", "goodput"):
        assert np.isfinite(found[0][name])
    assert (uninterrupted / "val.png").exists()
    assert list((uninterrupted / "tensorboard").iterdir())
    with pytest.raises(UserError, match="step 6 of 6 is done already"):
        loop.run(_again(uninterrupted), uninterrupted)


def test_a_run_that_was_killed_before_its_last_weights_writes_them(tiny, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "w")
    (tmp_path / "w" / "final.safetensors").unlink()
    assert loop.run(tiny(), tmp_path / "w") == loop.DONE
    equal(params(tmp_path / "w"), params(uninterrupted))


def test_what_another_run_left_is_not_what_a_new_one_has_to_beat(tiny, uninterrupted, tmp_path):
    """Its best weights are in the way: a checkpoint folder moved away, or other pictures to judge by."""
    best = tmp_path / "best.safetensors"
    card = {"scores": {"psnr": 99.0}, "config": json.loads(tiny().to_json_best_effort())}
    found = weights.load(uninterrupted / best.name).params
    weights.save(best, network="nano", variant=dict(TINY), params=found, card=card)
    assert loop._to_beat(best, tiny()) == 99.0
    assert loop._to_beat(best, tiny(val__count=3)) == -np.inf
    assert loop._to_beat(tmp_path / "nothing", tiny()) == -np.inf
    assert loop.run(tiny(), tmp_path) == loop.DONE
    assert weights.load(best).card["scores"]["psnr"] < 99.0


def _again(workdir):
    from ml_collections import ConfigDict

    made = ConfigDict(json.loads((workdir / "config.json").read_text()))
    made.crop = tuple(map(tuple, made.crop))
    return made


@pytest.mark.slow
def test_stopped_and_gone_on_with_it_is_the_same_run(tiny, uninterrupted, tmp_path, monkeypatch):
    """Stopped by a signal after two steps; then on four devices; to 1e-6."""
    real = loop._Stop.at
    monkeypatch.setattr(loop._Stop, "at", lambda self, step: step == 2 or real(self, step))
    assert loop.run(tiny(), tmp_path) == loop.RESUMABLE
    monkeypatch.undo()
    assert not (tmp_path / "final.safetensors").exists()
    assert loop.run(tiny(mesh={"data": 2, "fsdp": 2, "space": 1}), tmp_path) == loop.DONE
    equal(params(tmp_path), params(uninterrupted), 1e-6)
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_what_was_learned_before_a_picture_failed_is_kept(tiny, pairs, tmp_path, monkeypatch):
    shutil.copytree(pairs, tmp_path / "pairs")
    config = tiny(data__train=(str(tmp_path / "pairs"),), steps=50, val__every=50, checkpoint__every=50)

    def damage(_, step):
        for path in (tmp_path / "pairs" / "sharp").iterdir() if step == 2 else ():
            path.write_bytes(b"")
        return False

    monkeypatch.setattr(loop._Stop, "at", damage)
    with pytest.raises(UserError, match="piece"):
        loop.run(config, tmp_path / "w")
    (kept,) = (tmp_path / "w" / "checkpoints").glob("[0-9]*")
    assert 2 <= int(kept.name) < 50
    monkeypatch.undo()
    shutil.copytree(pairs, tmp_path / "pairs", dirs_exist_ok=True)
    config.steps = int(kept.name) + 1
    assert loop.run(config, tmp_path / "w") == loop.DONE
    assert lines(tmp_path / "w")[-1]["step"] == config.steps


@pytest.mark.slow
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tiny, uninterrupted, tmp_path):
    """In a process of its own: Orbax leaves failures behind that pytest would hear of at any later moment."""
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted / "checkpoints", workdir / "checkpoints")
    for path in (workdir / "checkpoints" / "6" / "state").rglob("*"):
        if path.is_file() and "/d/" in str(path):
            path.write_bytes(b"\0" * 10)
    again = subprocess.run(command(tiny(), workdir), capture_output=True, text=True, timeout=120)
    assert again.returncode == loop.DONE, again.stderr
    assert "checkpoint 6 cannot be read, taking that of 3" in again.stderr
    assert "from step 3" in again.stderr
    equal(params(workdir), params(uninterrupted), 1e-6)


@pytest.mark.slow
def test_checkpoints_of_which_none_can_be_read_stay(tiny, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    for path in (workdir / "checkpoints").glob("*/state/**/d/*"):
        path.write_bytes(b"\0" * 10)
    before = sorted(workdir.iterdir()), sorted((workdir / "checkpoints").iterdir())
    again = subprocess.run(command(tiny(steps=9), workdir), capture_output=True, text=True, timeout=120)
    assert again.returncode == 2, again.stderr
    assert "none of 2 checkpoints can be read (" in again.stderr
    assert (sorted(workdir.iterdir()), sorted((workdir / "checkpoints").iterdir())) == before


def test_a_workdir_that_is_a_file(tiny, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="run: cannot be a workdir: File exists"):
        loop.run(tiny(), tmp_path / "run")


def test_a_workdir_of_another_network_is_refused(tiny, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "w")
    with pytest.raises(UserError, match=r"its config.optim.name is 'adamw', not 'muon'; name another"):
        loop.run(tiny(steps=9, optim__name="muon"), tmp_path / "w")
    assert {path.name for path in (tmp_path / "w" / "checkpoints").iterdir()} >= {"3", "6"}
    config = tiny(steps=9)
    config.variant.middle_blocks = 2
    with pytest.raises(UserError, match=r"its config.variant is .*; name another"):
        loop.run(config, tmp_path / "w")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tiny, tmp_path, capfd, monkeypatch):
    real = loop.feed

    def poisoned(batches, sharding):
        for i, batch in enumerate(real(batches, sharding)):
            yield {**batch, "sharp": batch["sharp"] * (i != 3)}

    monkeypatch.setattr(loop, "feed", poisoned)
    from deblur_jax.train import step

    bytes_to_float = step.to_float
    monkeypatch.setattr(step, "to_float", lambda x: jax.numpy.where(x.max() == 0, jax.numpy.nan, bytes_to_float(x)))
    assert loop.run(tiny(mesh={"data": 2, "fsdp": 2, "space": 1}), tmp_path / "stop") == loop.FAILED
    assert "step 4: the loss is nan" in capfd.readouterr().err
    saved = np.load(tmp_path / "stop" / "bad-batch-4.npz")
    assert saved["sharp"].shape == saved["blur"].shape == (8, 32, 32, 3)
    assert (saved["sharp"].max(), saved["blur"].max() > 0) == (0, True)
    assert loop.run(tiny(), tmp_path / "skip", on_nan="rollback") == loop.DONE
    assert "; skipped" in capfd.readouterr().err
    assert [line["step"] for line in lines(tmp_path / "skip") if "loss" in line] == [1, 2, 3, 5, 6]


@pytest.mark.slow
def test_what_diverges_goes_back_to_the_last_checkpoint(tiny, tmp_path, capfd, monkeypatch):
    """The parameters are spoiled once at step 4, so that step 5 diverges, and once at step 8, for good."""
    real, factors = loop.steps.train_step, {4: 1e4, 8: np.nan}

    def train_step(*arguments):
        step = real(*arguments)

        def spoiling(state, batch):
            factor = factors.pop(int(state.step) + 1, 1.0)
            new, numbers = step(state, batch)
            return new._replace(params=jax.tree.map(lambda p: p * factor, new.params)), numbers

        return spoiling

    monkeypatch.setattr(loop.steps, "train_step", train_step)
    assert loop.run(tiny(steps=9), tmp_path / "run", on_nan="rollback") == loop.DONE
    said = capfd.readouterr().err
    assert "step 5: the loss is" in said
    assert "its mean was" in said
    assert "back to step 3; to be passed over: the batches of 5\n" in said
    assert "its parameters are not finite" in said
    assert "back to step 6; to be passed over: the batches of 9\n" in said
    assert [line["step"] for line in lines(tmp_path / "run") if "loss" in line] == [1, 2, 3, 4, 6, 7, 8]
    assert all(np.isfinite(leaf).all() for leaf in params(tmp_path / "run").values())
    # Where nothing helps it ends, and with what is saved one can go on.
    hopeless = tiny(steps=40, optim__lr=1e30, optim__clip=0.0, optim__warmup=0)
    assert loop.run(hopeless, tmp_path / "hopeless", on_nan="rollback") == loop.FAILED
    assert "back to step 0; to be passed over: the batches of 1, 2\n" in capfd.readouterr().err
    assert loop.run(tiny(steps=12), tmp_path / "hopeless") == loop.DONE


@pytest.mark.slow
def test_the_best_checkpoint_stays_and_the_others_go(tiny, tmp_path):
    """Also when the run is taken up again."""
    kept = {"every": 1, "keep": 2}
    for end in (3, 6, 9):
        assert loop.run(tiny(steps=end, checkpoint=kept, val__every=3), tmp_path) == loop.DONE
    there = {int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    best = max((line for line in lines(tmp_path) if "val/psnr" in line), key=lambda line: line["val/psnr"])["step"]
    assert there == {8, 9, best}


def test_what_is_refused_leaves_the_run_as_it_was(tiny, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "w")
    before = (tmp_path / "w/config.json").read_bytes()
    for change in ({"data__weights": (1.0, 2.0)}, {"loss": {"l1": 0.0, "ssim": 0.0}}):
        with pytest.raises(UserError):
            loop.run(tiny(steps=9, **change), tmp_path / "w")
    assert (tmp_path / "w/config.json").read_bytes() == before
    # What it began with need not be there any more, nor what it would only compare itself with.
    (tmp_path / "w/best.safetensors").write_bytes(b"damaged")
    assert loop.run(tiny(steps=7, start_from=str(tmp_path / "gone.safetensors")), tmp_path / "w") == loop.DONE
    assert weights.load(tmp_path / "w/best.safetensors").card["step"] == 7


@pytest.mark.slow
def test_a_process_told_to_end_while_it_begins_is_resumable(tiny, tmp_path):
    process = subprocess.Popen(command(tiny(), tmp_path / "run"), stderr=subprocess.PIPE, text=True)
    while process.poll() is None:  # as soon as Python itself has started: before JAX is imported
        caught = Path(f"/proc/{process.pid}/status").read_text().split("SigCgt:")[1].split()[0]
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == loop.RESUMABLE, err
    assert "stopped by SIGTERM; the same command begins again" in err


@pytest.mark.slow
def test_saves_that_fail_do_not_keep_the_process(tiny, tmp_path):
    """The folder of checkpoints is gone, and in its place a file, as long as it trains."""
    arguments = command(tiny(steps=4, checkpoint={"every": 2, "keep": 2}), tmp_path / "run")[3:]
    (tmp_path / "program.py").write_text(f"""
import pathlib, shutil, sys
from deblur_jax.cli import main
from deblur_jax.train.checkpoint import Checkpoints
save, folder = Checkpoints.save, pathlib.Path({str(tmp_path / "run/checkpoints")!r})
def save_nowhere(self, *what):
    if folder.is_dir():
        shutil.rmtree(folder)
        folder.touch()
    save(self, *what)
Checkpoints.save = save_nowhere
sys.exit(main({arguments!r}))
""")
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == loop.DONE, done.stderr
    assert "the last checkpoint was NOT saved: [Errno 20] Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run/final.safetensors").exists()
    with pytest.raises(UserError, match=r"run/checkpoints: cannot be made: File exists"):
        loop.run(tiny(steps=8), tmp_path / "run")


def command(config, workdir):
    """The run as a process of its own; the config is handed over as a file."""
    path = workdir.with_suffix(".py")
    fields = json.dumps(json.loads(config.to_json()))
    path.write_text(
        "import json\nfrom ml_collections import ConfigDict\n\n\ndef get_config():\n"
        f"    made = ConfigDict(json.loads({fields!r}))\n"
        "    made.crop = tuple(map(tuple, made.crop))\n    made.data.train = tuple(made.data.train)\n    return made\n"
    )
    return [sys.executable, "-m", "deblur_jax", "train", "--config", str(path), "--workdir", str(workdir)]


@pytest.mark.slow
@pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0, reason="needs root")
def test_a_disk_that_fills_during_a_save(tiny, tmp_path):
    """A file system of sixteen megabytes that somebody fills before the second save and empties before the last.

    The second save sees that it is full, the third finds out.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    config = tiny(steps=8, checkpoint={"every": 2, "keep": 4})
    arguments = [*command(config, tmp_path / "run")[3:-1], str(disk / "run")]
    (tmp_path / "program.py").write_text(f"""
import pathlib, sys
from deblur_jax.cli import main
from deblur_jax.train.checkpoint import Checkpoints
save, taken, find_room = Checkpoints.save, pathlib.Path({str(disk / "taken")!r}), Checkpoints._find_room
def save_on_it(self, step, *rest):
    if step == 4:
        self.wait()
        try: taken.write_bytes(bytes(32_000_000))
        except OSError: pass
    Checkpoints._find_room = lambda self, state: None
    if step == 4:
        Checkpoints._find_room = find_room
    if step == 8:
        taken.unlink()
    save(self, step, *rest)
Checkpoints.save = save_on_it
sys.exit(main({arguments!r}))
""")
    script = (
        f"mount -t tmpfs -o size=16m none {disk} && {{ {shlex.quote(sys.executable)} {tmp_path / 'program.py'}; "
        f"code=$?; cp -r {disk}/run {tmp_path}/kept; exit $code; }}"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == loop.DONE, done.stderr
    assert re.search(r"the checkpoint of step 4 was NOT saved: it takes up to \d+ MB, .* 0 MB left\n", done.stderr)
    assert "the last checkpoint was NOT saved: " in done.stderr
    kept = tmp_path / "kept"
    whole = {path.name for path in (kept / "checkpoints").iterdir() if path.name.isdigit()}
    assert {"2", "8"} <= whole
    assert not {"4", "6"} & whole
    assert lines(kept)[-1]["step"] == 8
    # The one from before the trouble is whole: taken up from there, the run ends in the same place.
    shutil.rmtree(kept / "checkpoints" / "8")
    final = params(kept)
    assert loop.run(tiny(steps=8), kept) == loop.DONE
    equal(params(kept), final, 1e-6)


@pytest.mark.slow
def test_a_profile_is_left(tiny, tmp_path):
    config = tiny(steps=4)
    assert loop.run(config, tmp_path, profile=True) == loop.DONE
    traces = [path for path in (tmp_path / "profile").rglob("*") if path.is_file()]
    assert any(path.name.endswith(".xplane.pb") and path.stat().st_size > 1000 for path in traces)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_killed_anywhere_goes_on_as_if_nothing_had_happened(tiny, tmp_path, sign):
    config = tiny(steps=40, checkpoint={"every": 2, "keep": 2})
    assert loop.run(config, tmp_path / "calm") == loop.DONE
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(config, killed), stderr=subprocess.PIPE, text=True)
    # Somewhere among the saves, of which there is one every other step.
    deadline = time.time() + 120
    while process.poll() is None and time.time() < deadline and not (killed / "checkpoints" / "8").exists():
        time.sleep(0.02)
    process.send_signal(sign)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (75 if sign == signal.SIGTERM else -9), said
    assert not (killed / "final.safetensors").exists()
    again = subprocess.run(command(config, killed), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "from step" in again.stderr
    equal(params(killed), params(tmp_path / "calm"), 1e-6)
    steps = [line["step"] for line in lines(killed) if "loss" in line]
    assert steps == list(range(1, 41))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_process_asked_to_stop_while_its_step_is_compiled_stops_at_once(tiny, tmp_path, sign):
    program = [*command(tiny(steps=2), tmp_path / "run")]
    here = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path), "XLA_FLAGS": ""}
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=here) as process:
        assert process.stderr is not None
        while "a new run" not in (said := process.stderr.readline()):
            assert said, "ended without its greeting"
        process.send_signal(sign)
        rest = process.stderr.read()
    assert process.returncode == 75, rest
    assert "stopped before its first step" in rest
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


@pytest.mark.slow
def test_training_beats_the_blurry_input_on_pictures_it_never_saw(tiny, tmp_path):
    variant = {**TINY, "widths": (24,), "middle_blocks": 2}
    config = tiny(steps=200, log_every=200, val={"every": 200, "count": 4, "side": 32, "pictures": 0}, variant=variant)
    config.optim.update({"warmup": 10, "lr": 2e-3})
    assert loop.run(config, tmp_path) == loop.DONE
    assert lines(tmp_path)[-1]["val/psnr_gain"] > 0.1
    found = weights.resolve(str(tmp_path))
    assert (found.network, found.card["step"], found.entry.config.widths) == ("nano", 200, (24,))


def test_weights_as_shipped_are_taught_further(tiny, uninterrupted, tmp_path):
    shipped = tmp_path / "shipped.safetensors"
    weights.pack(uninterrupted, shipped, card={})
    _, begun = loop.network(tiny(start_from=str(shipped)))
    assert jax.tree.all(jax.tree.map(np.array_equal, begun, weights.load(shipped).params))
    with pytest.raises(UserError, match=r"\(its branches are merged: .*=False\); the config has"):
        loop.network(tiny(start_from=str(shipped), variant={**TINY, "branches": True}))
    with pytest.raises(UserError, match=r"head/bias has the shape \(4,\), the network's has \(8,\)$") as refused:
        loop.network(tiny(start_from=str(shipped), variant={**TINY, "widths": (8,)}))
    assert "merged" not in str(refused.value)


def test_bad_beginnings(tiny, tmp_path):
    for change, words in (
        ({"data__train": ()}, "names no folder"),
        ({"data__train": (str(tmp_path / "nowhere"),)}, "nowhere: no such directory"),
        ({"mesh": {"data": 3, "fsdp": 1, "space": 1}}, "8 pictures at once cannot be shared by 3"),
        ({"mesh": {"data": 1, "fsdp": 1, "space": 3}}, "crops of 32 rows cannot be shared by space=3"),
        ({"variant": {"width": 3}}, "config.variant: no 'width'; there are widths, "),
        ({"start_from": str(tmp_path / "none")}, "no such weights file"),
        ({"data__train": ("gs://bucket/reds",)}, "gs://bucket/reds: pictures are read from folders"),
        ({"data__val": ("s3://bucket/reds",)}, "s3://bucket/reds: pictures are read from folders"),
    ):
        with pytest.raises(UserError, match=words):
            loop.run(tiny(**change), tmp_path / "w")
    assert os.listdir(tmp_path) == [] or Path(tmp_path / "w").exists() is False
