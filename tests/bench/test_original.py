"""Published graphs in TensorFlow.js's format: read as they are, refused when they are not whole, compared with ours."""

import base64
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from deblur_jax import weights
from deblur_jax.bench import original, tfjs_graph
from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.models import zoo

TINY = {"widths": (6, 8), "down_blocks": (1,), "middle_blocks": 1, "up_blocks": (1,)}


def text(word):
    return {"s": base64.b64encode(word.encode()).decode()}


@pytest.fixture
def package(tmp_path):
    """A graph that gives each picture back, by a convolution with one, in two files of constants."""

    def package(change=lambda model: None, scale=1.0):
        kernel = scale * np.eye(3, dtype="<f4")[None, None]
        data = kernel.tobytes() + np.asarray(0, "<f4").tobytes() + np.asarray([7], "<i4").tobytes()
        attributes = {"T": {"type": "DT_FLOAT"}, "strides": {"list": {"i": ["1", "1", "1", "1"]}}}
        attributes |= {"padding": text("SAME"), "data_format": text("NHWC")}
        any_size = {"shape": {"dim": [{"size": "-1"}, {"size": "-1"}, {"size": "-1"}, {"size": "3"}]}}
        empty = {"value": {"tensor": {"dtype": "DT_FLOAT", "tensorShape": {}}}, "dtype": {"type": "DT_FLOAT"}}
        number = {"value": {"tensor": {"dtype": "DT_INT32", "tensorShape": {}}}, "dtype": {"type": "DT_INT32"}}
        node = [
            {"name": "in", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": any_size}},
            {"name": "kernel", "op": "Const", "attr": empty},
            {"name": "zero", "op": "Const", "attr": empty},
            {"name": "seven", "op": "Const", "attr": number},
            {"name": "conv", "op": "Conv2D", "input": ["in", "kernel"], "inputs": [], "attr": attributes},
            {"name": "sum", "op": "AddV2", "input": ["conv", "zero"], "attr": {"T": {"type": "DT_FLOAT"}}},
            {"name": "out", "op": "Identity", "input": ["sum"], "attr": {"T": {"type": "DT_FLOAT"}}},
        ]
        listed = [
            {"name": "kernel", "shape": [1, 1, 3, 3], "dtype": "float32"},
            {"name": "zero", "shape": [], "dtype": "float32"},
            {"name": "seven", "shape": [1], "dtype": "int32"},
        ]
        model = {
            "format": "graph-model",
            "modelTopology": {"node": node, "library": {}, "versions": {"producer": 1395}},
            "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": listed}],
        }
        change(model)
        folder = tmp_path / "package" / "models"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(json.dumps(model))
        (folder / "a.bin").write_bytes(data[:10])  # not even between two numbers
        (folder / "b.bin").write_bytes(data[10:])
        return tmp_path / "package"

    return package


def manifest(package):
    folder = package / "models"
    return folder, json.loads((folder / "model.json").read_text())["weightsManifest"]


def test_constants(package):
    found = tfjs_graph.constants(*manifest(package(scale=2.0)))
    np.testing.assert_array_equal(found["kernel"], 2 * np.eye(3, dtype=np.float32)[None, None])
    assert found["zero"].shape == ()
    assert found["seven"].dtype == np.int32
    assert found["seven"].tolist() == [7]


def test_constants_that_are_not_whole(package):
    folder, listed = manifest(package())
    whole = (folder / "b.bin").read_bytes()
    for content, message in {
        whole[:-1]: "the files of constants are not whole, seven is missing",
        whole + bytes(5): "hold 5 bytes more than they should",
    }.items():
        (folder / "b.bin").write_bytes(content)
        with pytest.raises(UserError, match=message):
            tfjs_graph.constants(folder, listed)
    (folder / "b.bin").unlink()
    with pytest.raises(UserError, match=r"b\.bin: No such file"):
        tfjs_graph.constants(folder, listed)


@pytest.mark.parametrize("about", [{"quantization": {"scale": 1, "min": 0, "dtype": "uint8"}}, {"dtype": "string"}])
def test_constants_that_are_not_read(package, about):
    def change(model):
        model["weightsManifest"][0]["weights"][1].update(about)

    with pytest.raises(UserError, match="zero is quantised or of the type"):
        tfjs_graph.constants(*manifest(package(change)))


def test_what_is_no_graph(tmp_path):
    with pytest.raises(UserError, match=r"no model\.json of TensorFlow\.js; name the folder"):
        tfjs_graph.read(tmp_path)
    for content in ("{", "[]", "{}", '{"modelTopology": {}, "weightsManifest": []}'):
        (tmp_path / "model.json").write_text(content)
        with pytest.raises(UserError, match="not a graph model of TensorFlow"):
            tfjs_graph.read(tmp_path / "model.json")


def test_without_tensorflow_one_line_says_what_is_missing(package, nano, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert main(["bench", "original", str(package()), "--model", str(nano())]) == 2
    said = capsys.readouterr()
    assert re.fullmatch(
        r"deblur bench: the original graph needs the tf extra .*pip install 'deblur-jax\[tf\]'\n", said.err
    )


def test_mistakes_of_the_command(package, tmp_path, capsys):
    for arguments, message in {
        ("nowhere",): "maxim-gopro: its weights do not come with the package",
        ("nowhere", "--sizes", "9"): "--sizes must be a width and a height",
        ("nowhere", "--rounds", "1"): "--rounds must be larger",
        ("nowhere", "--model", "nano"): "nowhere: no model.json",
    }.items():
        assert main(["bench", "original", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture
def tiny(random_variables, tmp_path):
    """Weights of a small variant of Nano, which another process can read too. It gives each picture back."""
    params = jax.tree.map(np.asarray, random_variables(zoo.get("nano").varied(**TINY).deployed()))["params"]
    params["tail"] = jax.tree.map(np.zeros_like, params["tail"])
    path = tmp_path / "tiny.safetensors"
    weights.save(path, network="nano", params=params, card={}, merged=True, variant=TINY)
    return path


def bench(*arguments):
    """TensorFlow is never imported here."""
    command = [sys.executable, "-m", "deblur_jax", "bench", "original", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_ours_beside_the_original(package, tiny):
    done = bench(package(), "--model", tiny, "--sizes", "40x32", "70x50", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    both = (original.OURS, original.ORIGINAL)
    assert [(row[0], " ".join(row[1:-11])) for row in rows] == [(s, n) for s in ("40x32", "72x56") for n in both]
    for row in rows:
        assert row[-4:-1:2] == ["MB", "s"]
        assert float(row[-1]) < 1e-6


@pytest.mark.slow
def test_another_network_is_not_timed(package, tiny):
    done = bench(package(scale=0.5), "--model", tiny, "--sizes", "48x32", "--no-memory")
    assert done.returncode == 2
    assert re.search(r"the graph gives another picture than ours, by 0\.\d+: another network\?\n$", done.stderr)


@pytest.mark.slow
def test_a_graph_that_tensorflow_does_not_read(package, tiny):
    def constant_without_value(model):
        model["modelTopology"]["node"][2]["name"] = "nought"

    def no_graph(model):
        model["modelTopology"]["node"][0] = 5

    def two_ends(model):
        model["modelTopology"]["node"][6]["input"] = ["conv"]

    for change, message in {
        constant_without_value: "the value of nought is missing",
        no_graph: "not a graph that this TensorFlow reads",
        two_ends: "takes 1 inputs and gives 2 outputs",
    }.items():
        done = bench(package(change), "--model", tiny, "--no-memory")
        assert done.returncode == 2
        assert message in done.stderr
