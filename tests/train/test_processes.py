"""Two real processes that talk through gloo, two devices each: as faithful a cluster as one machine can be."""

import os
import shutil
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from deblur_jax.train import loop
from tests.train.test_loop import command, equal, lines, params


def cluster(config, workdir):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    return [
        subprocess.Popen(
            [*command(config, workdir), "--coordinator", address, "--processes", "2", "--process", str(i)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for i in range(2)
    ]


def ended(processes):
    said = [process.communicate(timeout=150)[1] for process in processes]
    return [process.returncode for process in processes], "\n".join(said)


@pytest.mark.slow
def test_two_processes_are_one_run_and_sigterm_to_one_stops_both(tiny, tmp_path, monkeypatch):
    sizes = {"data": 2, "fsdp": 2, "space": 1}
    config = tiny(steps=400, mesh=sizes, checkpoint={"every": 20, "keep": 2})
    config.val.every = 400
    processes = cluster(config, tmp_path / "two")
    deadline = time.time() + 120
    while time.time() < deadline and not (tmp_path / "two" / "checkpoints" / "20").exists():
        assert all(process.poll() is None for process in processes), ended(processes)
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = ended(processes)
    assert codes == [loop.RESUMABLE] * 2, said
    stopped = max(int(path.name) for path in (tmp_path / "two" / "checkpoints").iterdir() if path.name.isdigit())
    assert 20 <= stopped < 400
    # A step more on one, four and eight devices: of each the same weights.
    taken = []
    for data, fsdp in ((1, 1), (2, 2), (4, 2)):
        shutil.copytree(tmp_path / "two", copy := tmp_path / f"on{data * fsdp}")
        again = tiny(steps=stopped + 1, mesh={"data": data, "fsdp": fsdp, "space": 1}, val=dict(config.val))
        assert loop.run(again, copy) == loop.DONE
        taken.append(params(copy))
    for one in taken[1:]:
        equal(one, taken[0], 1e-6)
    # Taken up by one process with four devices, and the whole by one with one; as long as rounding is small.
    real = loop._Stop.at
    monkeypatch.setattr(loop._Stop, "at", lambda self, step: step == stopped + 3 or real(self, step))
    assert loop.run(tiny(steps=400, mesh=sizes, val=dict(config.val)), tmp_path / "two") == loop.RESUMABLE
    assert loop.run(tiny(steps=400, val=dict(config.val)), tmp_path / "one") == loop.RESUMABLE
    two, one = ([line["loss"] for line in lines(tmp_path / name)] for name in ("two", "one"))
    assert len(two) == len(one) == stopped + 3
    np.testing.assert_allclose(two[:10], one[:10], rtol=1e-5)
    np.testing.assert_allclose(two, one, rtol=1e-3)


@pytest.mark.slow
def test_a_picture_that_one_process_cannot_read_ends_both(tiny, pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "pairs")
    for path in sorted((tmp_path / "pairs/sharp").iterdir())[20:]:
        path.write_bytes(path.read_bytes()[:-200])
    config = tiny(steps=400, mesh={"data": 4, "fsdp": 1, "space": 1}, data__train=(str(tmp_path / "pairs"),))
    began = time.monotonic()
    codes, said = ended(cluster(config, tmp_path / "run"))
    assert time.monotonic() - began < 100  # JAX by itself waits for five minutes
    assert 2 in codes, said
    assert 0 not in codes, said
    assert "the picture is damaged" in said


@pytest.mark.slow
def test_rows_of_a_picture_are_not_shared_among_processes(tiny, tmp_path):
    """Each would bring other pictures, and half of one be glued to half of another."""
    codes, said = ended(cluster(tiny(mesh={"data": 1, "fsdp": 1, "space": 4}), tmp_path / "run"))
    assert codes == [2, 2], said
    assert said.count("space must divide the 2 devices of one") == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--coordinator", "127.0.0.1:1"], "--coordinator, --processes and --process belong together"),
        (["--processes", "4", "--process", "1"], "--coordinator, --processes and --process belong together"),
        (["--distributed"], "no processes to train with: "),
    ],
)
def test_half_of_what_several_processes_need_is_an_error(tiny, tmp_path, flags, words):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI"))}
    done = subprocess.run(
        [*command(tiny(), tmp_path / "run"), *flags], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
