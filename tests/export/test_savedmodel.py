"""SavedModels. TensorFlow is never imported here: every command and every check is a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from deblur_jax import Restorer, samples
from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.restore import read_image
from deblur_jax.weights import find, save

pytestmark = [
    pytest.mark.slow,  # TensorFlow alone takes six seconds to import, and both sides do
    pytest.mark.xfail(
        jax.__version_info__ >= (0, 11),
        reason="TensorFlow 2.21 cannot read the StableHLO of jax 0.12 (Python 3.12 and later)",
    ),
]
TINY = {"widths": (6, 8), "down_blocks": (1,), "middle_blocks": 1, "up_blocks": (1,)}


def run(*command, cwd=None):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, timeout=300)


def deblur(*arguments):
    return run(sys.executable, "-m", "deblur_jax", *arguments)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Weights of a small variant of Nano, which another process can read too."""
    generator, path = np.random.default_rng(0), tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    module = zoo.get("nano").varied(**TINY).deployed()
    shapes = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))
    params = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape, scale=0.3 / np.sqrt(np.prod(leaf.shape[:-1]) or 1)),
        shapes["params"],
    )
    save(path, network="nano", params=params, card={"data": "noise"}, merged=True, variant=TINY)
    return path


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "out"
    done = deblur("export", tiny, "--to", "savedmodel", "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_folder_is_whole_and_runs_with_tensorflow_alone(made):
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert names >= {"model/saved_model.pb", "card.json", "golden.npz", "verify.py", "README.md"}
    card = json.loads((made / "card.json").read_text())
    assert names == {*card["files"], "card.json"}
    assert (card["runtime"]["kind"], card["parity"]["equal"]) == ("savedmodel", True)
    assert 0 < card["parity"]["greatest_error"] < 1e-4
    assert len({tuple(case["shape"]) for case in card["parity"]["cases"]}) >= 4
    imported = re.findall(r"^(?:import|from) (\w+)", (made / "verify.py").read_text(), re.MULTILINE)
    assert set(imported) == {"hashlib", "json", "sys", "collections", "pathlib", "numpy", "tensorflow"}
    found = run(sys.executable, made / "verify.py", cwd="/")
    assert (found.returncode, found.stdout[:14]) == (0, "equal: off by "), found.stderr
    code = re.search(r"```python\n(.*?)```", (made / "README.md").read_text(), re.DOTALL)
    assert code is not None
    ran = run(sys.executable, "-c", code[1], cwd=made)
    assert ran.stdout == f"{np.load(made / 'golden.npz')['output'].shape} float32\n", ran.stderr


def test_other_sizes_give_what_the_weights_give(made, tiny, tmp_path):
    """Sizes that were not among those compared when it was exported, by TensorFlow's own loader."""
    photo = 0.3 + 0.7 * read_image(samples.PICTURES[0])  # no piece is dark, which would be brightened for the network
    pictures = [photo[None, :80, :208], np.stack([photo[:48, :64], photo[100:148, 30:94], photo[-48:, -64:]])]
    np.savez(tmp_path / "in.npz", *pictures)
    script = (
        "import sys; sys.modules['jax'] = None\n"  # which Keras imports where it is installed
        "import numpy, tensorflow; model = tensorflow.saved_model.load(sys.argv[1]); "
        "given = numpy.load('in.npz'); run = model.signatures['serving_default']; "
        "numpy.savez('out.npz', *(run(picture=given[name])['restored'].numpy() for name in given))"
    )
    ran = run(sys.executable, "-c", script, made / "model", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    expected = Restorer(tiny, device="cpu:0")
    with np.load(tmp_path / "out.npz") as given:
        for name, picture in zip(given, pictures, strict=True):
            assert np.abs(expected.restore(picture[0]) - picture[0]).max() > 0.03
            for restored, one in zip(given[name], picture, strict=True):
                np.testing.assert_allclose(restored.clip(0, 1), expected.restore(one), atol=1e-4)


def test_interrupted_while_it_compares_it_leaves_nothing(tiny, tmp_path):
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "deblur_jax", "export", str(tiny), "--to", "savedmodel", "-o", str(tmp_path / "new")],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.glob("tmp/*/restored.npy")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: both processes get it
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said.splitlines()[-1]) == (130, "deblur export: interrupted")
    assert "Traceback" not in said
    assert not (tmp_path / "new").exists()
    assert not [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()]  # TensorFlow leaves a file of its own


def test_whole_numbers_and_one_size(tiny, tmp_path):
    done = deblur("export", tiny, "--to", "savedmodel", "-o", tmp_path / "o", "--uint8", "--size", "64x32")
    assert done.returncode == 0, done.stderr
    golden = np.load(tmp_path / "o/golden.npz")
    assert (golden["input"].shape, golden["output"].dtype) == ((1, 32, 64, 3), np.uint8)
    assert run(sys.executable, tmp_path / "o/verify.py").returncode == 0


def test_a_changed_network_is_not_equal(tiny, tmp_path):
    script = (
        "import sys; from deblur_jax.export import parity; "
        "parity.BOUNDS['fp32'] = {'greatest_error': 0.0}; from deblur_jax.cli import main; "
        "sys.exit(main(['export', sys.argv[1], '--to', 'savedmodel', '-o', sys.argv[2]]))"
    )
    done = run(sys.executable, "-c", script, tiny, tmp_path / "new")
    assert done.returncode == 2
    assert "not exported, it does not give what JAX gives" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_it_is_not_for(made, tiny, tmp_path):
    with pytest.raises(
        UserError, match="a SavedModel, which TensorFlow runs; to restore here: deblur export --to onnx"
    ):
        find(str(made))
    for option in (["--precision", "int8"], ["--layout", "nchw"]):
        done = deblur("export", tiny, "--to", "savedmodel", "-o", tmp_path / "new", *option)
        assert done.returncode == 2
        assert "a SavedModel is NHWC and computes in float32" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def kit(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit") / "out"
    done = deblur("export", tiny, "--kit", "tfserving", "--uint8", "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_serving_kit_has_what_the_server_looks_for(kit, tmp_path):
    """The folder, and the warm-up's requests, taken apart by the numbers of their fields and answered."""
    model = kit / "models/tiny/1"
    assert (model / "saved_model.pb").is_file()
    assert run(sys.executable, kit / "verify.py").returncode == 0
    assert "-e MODEL_NAME=tiny" in (kit / "README.md").read_text()
    assert not re.search(r"@[A-Z_]+@", (kit / "README.md").read_text() + (kit / "client.py").read_text())
    script = """
import sys, tensorflow as tf
from tensorflow.core.framework import tensor_pb2

def fields(data):
    found, at = {}, 0
    while at < len(data):
        key, at = data[at], at + 1
        assert key & 7 == 2, key  # messages and strings alone
        length = shift = 0
        while True:
            byte, at = data[at], at + 1
            length, shift = length | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        found[key >> 3], at = data[at : at + length], at + length
    return found

model = tf.saved_model.load(sys.argv[1])
for record in tf.data.TFRecordDataset(sys.argv[1] + "/assets.extra/tf_serving_warmup_requests"):
    log = fields(record.numpy())
    request = fields(fields(log[6])[1])
    about, entry = fields(request[1]), fields(request[2])
    picture = tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry[2]))
    restored = model.signatures[about[3].decode()](**{entry[1].decode(): tf.constant(picture)})["restored"]
    print(about[1].decode(), picture.dtype, *picture.shape, *restored.shape)
"""
    ran = run(sys.executable, "-c", script, model)
    assert ran.stdout.splitlines() == [
        "tiny uint8 1 256 256 3 1 256 256 3",
        "tiny uint8 1 720 1280 3 1 720 1280 3",
    ], ran.stderr


def test_the_serving_client_asks_as_the_interface_says(kit, tiny, tmp_path):
    """Against a stand-in for the server, in which TensorFlow runs the signature."""
    server = """
import json, sys, numpy, tensorflow as tf
from http.server import BaseHTTPRequestHandler, HTTPServer

model = tf.saved_model.load(sys.argv[1])

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.path == "/v1/models/tiny:predict"
        inputs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        given = {name: tf.constant(value, tf.uint8) for name, value in inputs.items()}
        restored = model.signatures["serving_default"](**given)["restored"].numpy()
        body = json.dumps({"outputs": restored.tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.handle_request()
"""
    piece = np.rint(255 * read_image(samples.PICTURES[0])[200:283, 300:421]).astype(np.uint8)
    Image.fromarray(piece).save(tmp_path / "photo.png")
    command = [sys.executable, "-c", server, str(kit / "models/tiny/1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        assert serving.stdout is not None
        address = f"http://127.0.0.1:{serving.stdout.readline().strip()}"
        asked = run(sys.executable, kit / "client.py", tmp_path / "photo.png", tmp_path / "sharp.png", address)
        serving.kill()
    assert asked.returncode == 0, asked.stderr
    expected = np.rint(255 * Restorer(tiny, device="cpu:0").restore(piece.astype(np.float32) / 255).clip(0, 1))
    given = np.asarray(Image.open(tmp_path / "sharp.png")).astype(int)
    assert np.abs(expected - piece).max() > 10
    assert np.abs(given - expected).max() <= 1
