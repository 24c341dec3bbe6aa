"""What `deblur bench engines` says and writes, and what it refuses. Speeds are not tested."""

import json
import xml.etree.ElementTree as xml

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import weights
from deblur_jax.bench import alone, engines, machine, runners
from deblur_jax.cli import main
from deblur_jax.export.onnx import convert


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    monkeypatch.setattr(machine, "bandwidth", lambda: 1e9)
    monkeypatch.setattr(machine, "matrix_peak", lambda precision: 1e9)


@pytest.fixture
def bench(nano, capsys):
    """Runs the command on a small Nano; returns its exit code, output and errors."""

    def bench(*options):
        code = main(
            ["bench", "engines", "--models", str(nano(scale=0.05)), "--rounds", "3", "--sizes", "41x23", *options]
        )
        said = capsys.readouterr()
        return code, said.out, said.err

    return bench


def test_table_file_and_chart(bench, tmp_path, capsys):
    file, plot = tmp_path / "a.json", tmp_path / "a.svg"
    code, out, _ = bench(
        *("--engines", "jax", "onnxruntime", "--precisions", "fp32", "int8", "--batches", "1", "2", "--no-memory"),
        *("--json", str(file), "--plot", str(plot)),
    )
    assert code == 0
    kept = json.loads(file.read_text())
    assert {"device", "threads", "versions", "commit", "command", "date", "matrix_peak", "bandwidth"} < set(kept)
    rows = kept["rows"]
    found = [(row["engine"], row["precision"], row["batch"]) for row in rows]
    each = [("jax", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")]
    assert found == [(*work, batch) for batch in (1, 2) for work in each]
    for row in rows:
        assert 0 < row["p50"] <= row["p90"] <= row["p99"]
        assert row["images_per_s"] == pytest.approx(row["batch"] / row["p50"])
        assert row["size"] == "41x23"
        assert f"{1000 * row['p99']:.1f}" in out
    assert rows[1]["greatest_error"] < 1e-4 < rows[2]["greatest_error"]
    texts = [element.text for element in xml.parse(plot).iter() if element.text]
    assert texts.count("onnxruntime int8") == 2

    kept["rows"] = [{**row, "p50": 2 * row["p50"]} for row in rows if row["batch"] == 1]
    (tmp_path / "b.json").write_text(json.dumps({**kept, "device": "another"}))
    assert main(["bench", "compare", str(file), str(tmp_path / "b.json")]) == 0
    out = capsys.readouterr().out
    assert f"device differs: {machine.device()}, another" in out
    assert out.count(" 2.00\n") == 3
    assert out.count("in A alone") == 3


def test_shares_of_the_peak_and_of_the_roofline(bench, tmp_path):
    assert bench("--engines", "jax", "--precisions", "fp32", "--no-memory", "--json", str(tmp_path / "a.json"))[0] == 0
    (row,) = json.loads((tmp_path / "a.json").read_text())["rows"]
    loaded = weights.load(tmp_path / "mild.safetensors")
    apply, pictures = loaded.entry.deployed().apply, jnp.zeros((1, 24, 48, 3))  # filled up to multiples of 8
    traced = jax.make_jaxpr(apply)({"params": loaded.deployed()}, pictures)
    macs = engines.count_macs(traced)
    assert row["of_peak"] == pytest.approx(2 * macs / row["p50"] / 1e9)
    needed = max(2 * macs, 4 * machine.traffic(traced)) / 1e9
    assert row["of_roofline"] == pytest.approx(needed / row["p50"])


def test_traffic_counts_what_each_layer_reads_and_writes():
    def network(x, kernel, matrix):
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.jit(lambda x: jax.nn.relu(x) @ matrix)(x)

    shapes = [(1, 8, 8, 3), (3, 3, 3, 4), (4, 5)]
    traced = jax.make_jaxpr(network)(*map(jnp.zeros, shapes))
    assert machine.traffic(traced) == (8 * 8 * 3 + 3 * 3 * 3 * 4 + 4 * 4 * 4) + (4 * 4 * 4 + 4 * 5 + 4 * 4 * 5)


def test_an_engine_that_computes_something_else_is_refused(bench, monkeypatch):
    def wrong(given):
        return runners.Ready(lambda: None, lambda: given.pictures + np.float32(0.01))

    monkeypatch.setitem(runners.ENGINES, "onnxruntime", runners.ENGINES["onnxruntime"]._replace(make=wrong))
    code, _, err = bench("--engines", "onnxruntime", "--precisions", "fp32", "--no-memory")
    assert code == 2
    assert "onnxruntime (fp32) does not give what JAX gives" in err


def test_an_engine_that_does_not_run_is_named_and_the_others_are_timed(bench, monkeypatch):
    def broken(given):
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setitem(runners.ENGINES, "onnxruntime", runners.ENGINES["onnxruntime"]._replace(make=broken))
    code, out, _ = bench("--engines", "jax", "onnxruntime", "--precisions", "fp32", "--no-memory")
    assert code == 0
    assert "does not run here: RuntimeError: no compiler\n" in out
    assert "jax fp32  " in out


def test_engines_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(runners.importlib.util, "find_spec", lambda name: None if name == "openvino" else name)
    there, missing = runners.chosen(None)
    assert "openvino" not in there
    assert missing == ["openvino: left out, it is not installed: pip install openvino"]
    with pytest.raises(runners.UserError, match="pip install openvino"):
        runners.chosen(["jax", "openvino"])


@pytest.mark.slow  # it compiles a whole network's initial parameters
def test_networks_without_weights_get_initial_ones():
    loaded, note = engines.network("medium")
    assert "no weights" in note
    last = loaded.params["scale0_tail"]["kernel"]
    assert 0.003 < float(jnp.std(last)) < 0.03  # a result that is wrong shows


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sizes", "12"], "--sizes must be a width and a height"),
        (["--sizes", "0x9"], "--sizes must be a width and a height"),
        (["--sizes", "99999999999x9"], "--sizes 99999999999x9: a side may have 16384 pixels at most"),
        (["--engines", "tensorrt"], "--engines: there are jax, onnxruntime"),
        (["--precisions", "int4"], "--precisions: there are fp32"),
        (["--models", "tiny"], "tiny: no such weights file"),
        (["--batches", "0"], "--batches must be from 1, not 0"),
        (["--rounds", "1"], "--rounds must be larger"),
        (["--engines", "jax", "--precisions", "int8"], "none of jax computes in int8"),
        (["--record"], "records are kept of GPUs and TPUs only"),
        (["--json", "nowhere/a.json"], "nowhere: no such directory"),
        (["--json", "folder.json"], "folder.json: is a directory"),
        (["--plot", "there.svg"], "there.svg: exists already; --overwrite replaces it"),
        (["--json", "one", "--plot", "one"], "one: cannot write a file without suffix; .json work"),
    ],
)
def test_mistakes_are_one_line(options, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "there.svg").touch()
    assert main(["bench", "engines", *options]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


_ROW = {"model": "nano", "engine": "jax", "precision": "fp32", "size": "9x9", "batch": 1, "p50": 0.1}
_EDITED = [{"rows": [_ROW | new]} for new in ({"p50": "x"}, {"p50": 0}, {"p50": [1]}, {"model": ["nano"]})]
_EDITED += [{"rows": [_ROW], **new} for new in ({"versions": 5}, {"versions": "abc"}, {"device": [1]})]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"rows": [{}]}', '{"rows": 3}', 100_000 * "[", *map(json.dumps, _EDITED)], ids=range(12)
)
def test_files_that_are_none_of_ours_are_not_compared(text, tmp_path, capsys):
    (tmp_path / "a.json").write_text(text)
    assert main(["bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 2
    assert "not a file of deblur bench engines" in capsys.readouterr().err


def test_memory_is_that_of_the_engine_alone(nano, tmp_path):
    """Not what this process has, and more for larger pictures."""
    loaded = weights.load(nano())
    model, _ = convert(loaded.entry.deployed().apply, {"params": loaded.deployed()}, multiple=8)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    held = np.ones(2**26, np.float32)  # what a process has when it starts another
    most = []
    for side in (64, 1536):
        pictures = np.zeros((1, side, side, 3), np.float32)
        given = runners.Given(tmp_path, tmp_path / "a.onnx", pictures, "fp32", "cpu", 1)
        most.append(alone.most_memory("onnxruntime", given, tmp_path))
    assert 0 < most[0] < most[1] - 2 * pictures.nbytes
    assert most[0] < held.nbytes


def test_memory_of_an_engine_that_fails_is_unknown(tmp_path):
    given = runners.Given(tmp_path, tmp_path / "none.onnx", np.zeros((1, 8, 8, 3), np.float32), "fp32", "cpu", 1)
    assert alone.most_memory("onnxruntime", given, tmp_path) is None
