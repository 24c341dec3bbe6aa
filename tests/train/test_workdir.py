"""A workdir in an object store: a server of its own that speaks Google Cloud Storage's protocol, without accounts."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deblur_jax import weights
from deblur_jax.errors import UserError
from deblur_jax.files import store
from deblur_jax.train import loop
from tests.train.test_loop import equal, lines, params, uninterrupted, whole  # noqa: F401


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).parent / "storage_server.py"), str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    deadline = time.time() + 30
    while time.time() < deadline:
        with socket.socket() as line:
            if line.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield "gs://bucket"
    server.kill()
    server.wait()


@pytest.mark.slow
def test_a_run_in_a_store_is_stopped_taken_up_and_the_same(tiny, uninterrupted, bucket, tmp_path, monkeypatch):  # noqa: F811
    real = loop._Stop.at
    monkeypatch.setattr(loop._Stop, "at", lambda self, step: step == 4 or real(self, step))
    assert loop.run(tiny(), f"{bucket}/run") == loop.RESUMABLE
    monkeypatch.setattr(loop._Stop, "at", real)
    with store(f"{bucket}/run/checkpoints") as checkpoints:
        assert {path.name for path in checkpoints.iterdir()} >= {"3", "4"}
    assert loop.run(tiny(), f"{bucket}/run/") == loop.DONE
    with store(f"{bucket}/run") as run:
        names = {path.name for path in run.iterdir()}
        for name in ("final.safetensors", "log.jsonl"):
            (tmp_path / name).write_bytes((run / name).read_bytes())
    assert names >= {"best.safetensors", "checkpoints", "config.json", "tensorboard", "val.png"}
    equal(params(tmp_path), params(uninterrupted), 1e-6)
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert weights.resolve(f"{bucket}/run").network == "nano"
    with pytest.raises(UserError, match="gs://bucket/nothing: holds neither best"):
        weights.resolve(f"{bucket}/nothing")


def test_a_store_that_takes_no_checkpoints_is_refused_before_the_run(tiny):
    with pytest.raises(UserError, match=r"^s3://bucket/run: Orbax writes checkpoints to folders and gs:// only"):
        loop.run(tiny(), "s3://bucket/run")


def test_a_store_that_nobody_knows():
    with pytest.raises(UserError, match=r"^nowhere://bucket: "):
        weights.resolve("nowhere://bucket")
