"""Half precision and 8 bits: smaller, near, and nothing left in float that need not be."""

import collections
import json
import types

import cv2
import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from deblur_jax import samples, weights
from deblur_jax.cli import main
from deblur_jax.cli.export import _calibration
from deblur_jax.errors import UserError
from deblur_jax.export import quantise, table
from deblur_jax.export.onnx import convert
from deblur_jax.export.parity import natural
from deblur_jax.export.shuffles import channels_last
from deblur_jax.restore.exported import onnx_network


@pytest.fixture
def export(nano, tmp_path, capsys):
    def export(*options):
        folder = tmp_path / "out"
        code = main(["export", str(nano(scale=0.05)), "--to", "onnx", "-o", str(folder), *options])
        assert code == 0, capsys.readouterr().err
        return onnx.load(folder / "model.onnx"), json.loads((folder / "card.json").read_text())

    return export


def kinds(model):
    return collections.Counter(node.op_type for node in model.graph.node)


@pytest.mark.slow  # XLA computes half precision slowly on a CPU
def test_half_precision_has_float32_ends(export):
    model, card = export("--precision", "fp16")
    assert kinds(model)["Cast"] == 2
    ends = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in ends} == {onnx.TensorProto.FLOAT}
    types = {c.data_type for c in model.graph.initializer if c.name.endswith("kernel")}
    assert types == {onnx.TensorProto.FLOAT16}
    assert 1e-5 < card["parity"]["computed_in_half"]["greatest_error"] < 2e-2
    exact, half = card["table"]
    assert half["bytes"] < 0.8 * exact["bytes"]


def test_of_many_pictures_some_are_read(tmp_path, capsys):
    for number in range(25):
        Image.new("L", (2, 2), number).save(tmp_path / f"{number}.png")
    (tmp_path / "24.png").write_bytes(b"damaged")
    taken = _calibration([str(tmp_path)])
    assert [round(255 * float(picture[0, 0, 0])) for picture in taken] == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]
    assert capsys.readouterr().err == "deblur export: calibrating with 12 of 25 pictures\n"


def test_eight_bits(export, tmp_path):
    """Calibrated on pictures of odd sizes and depths, some smaller than a piece."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with Image.open(samples.PICTURES[0]) as photo:
        photo.crop((300, 200, 423, 401)).save(pictures / "odd.png")
        photo.crop((300, 200, 303, 201)).save(pictures / "tiny.png")
        photo.crop((0, 0, 700, 333)).convert("L").save(pictures / "grey.png")
    model, card = export("--precision", "int8", "--calibrate", str(pictures))
    types = collections.Counter(c.data_type for c in model.graph.initializer if ".int" in c.name)
    assert types[onnx.TensorProto.INT8] == kinds(model)["Conv"] == types[onnx.TensorProto.INT32]
    zero_points = {c.data_type for c in model.graph.initializer if c.name.endswith("out.zero")}
    assert zero_points == {onnx.TensorProto.UINT8}
    about = card["quantisation"]
    assert about["calibration"] == {"pictures": 3, "source": "given", "pieces": 9}
    assert about["layers_left_in_float"] == []
    assert set(about["sensitivity"]["layers"]) == {n.name for n in model.graph.node if n.op_type == "Conv"}
    assert min(about["sensitivity"]["layers"].values()) > 0
    assert 36 < card["parity"]["natural_psnr"] < 80
    assert 0 < card["parity"]["share_of_change"] < 0.5
    exact, rounded = card["table"]
    assert set(rounded) == {"precision", "bytes", "speed", "psnr_loss", "measured_on"}
    assert (exact["precision"], rounded["precision"]) == ("fp32", "int8")
    assert abs(rounded["psnr_loss"]) < 1


def test_pictures_without_numbers_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "x.tif"), np.full((8, 8, 3), np.nan, np.float32))
    with pytest.raises(UserError, match=r"x.tif: the picture holds values that are no numbers"):
        _calibration([str(tmp_path)])


def test_the_loss_is_that_of_the_pairs_given(export, tmp_path, capsys):
    """Pictures whose sides are no multiples are cut."""
    pair = [np.rint(255 * natural(70, 91, index=index)[0]).astype(np.uint8) for index in (0, 1)]
    for side, picture in zip(("blur", "sharp"), pair, strict=True):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "pairs" / side / "a.png")
    model, card = export("--precision", "int8", "--val", str(tmp_path / "pairs"))
    assert "1 pairs given" in capsys.readouterr().out
    loaded = weights.load(tmp_path / "mild.safetensors")
    blurred, sharp = (picture[None, :64, :88].astype(np.float32) / 255 for picture in pair)
    exact = jax.jit(loaded.entry.deployed().apply)({"params": loaded.deployed()}, blurred)
    rounded = onnx_network(model.SerializeToString())(blurred)
    errors = [((np.clip(given, 0, 1) - sharp) ** 2).mean() for given in (exact, rounded)]
    loss = 10 * np.log10(errors[1] / errors[0])
    assert card["table"][1]["psnr_loss"] == pytest.approx(loss, abs=2e-4)
    assert abs(loss) > 1e-3


@pytest.mark.parametrize(("exact", "rounded", "loss"), [(0.0, 0.0, 0.0), (0.1, 0.0, -80.0), (0.0, 0.1, 80.0)])
def test_pictures_that_come_back_exactly_lose_what_can_be_counted(tiny, monkeypatch, exact, rounded, loss):
    """Networks that add a number, here, to pairs that are the same."""
    networks = [lambda x: x + np.float32(exact), lambda x: x + np.float32(rounded)]
    monkeypatch.setattr(table, "onnx_network", lambda *_, **__: networks.pop(0))
    pair = (np.full((16, 16, 3), 51, np.uint8),) * 2
    given = types.SimpleNamespace(**vars(Options) | {"validation": [lambda: pair]})
    assert table.table(tiny, tiny, given, multiple=8)[1]["psnr_loss"] == pytest.approx(loss, abs=1e-3)


def test_pairs_for_float32_are_refused(nano, tmp_path, capsys):
    options = ["--to", "onnx", "-o", str(tmp_path / "out"), "--val", str(tmp_path)]
    assert main(["export", str(nano()), *options]) == 2
    assert "--val goes with --precision fp16 or int8" in capsys.readouterr().err


@pytest.fixture
def tiny(nano):
    loaded = weights.load(nano(scale=0.05))
    module = loaded.entry.deployed()
    return convert(module.apply, {"params": loaded.deployed()}, multiple=8)[0]


class Options:
    layout, whole_numbers, size, batch, precision, calibration = "nhwc", False, None, None, "int8", ()


def test_all_convolutions_and_additions_run_in_eight_bits(tiny, tmp_path):
    """As ONNX Runtime sees it once it has put things together."""
    made, _ = quantise.quantised(tiny, Options, multiple=8)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = kinds(onnx.load(tmp_path / "optimised.onnx"))
    assert found["Conv"] + found["FusedConv"] == 0
    assert found["QLinearConv"] == kinds(tiny)["Conv"]
    assert found["QLinearAdd"] == 1
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


def test_sensitive_layers_stay_float(tiny, monkeypatch):
    """With an aim that 8 bits cannot reach, the most sensitive are left out, and it comes nearer."""
    coarse, about = quantise.quantised(tiny, Options, multiple=8)
    assert about["quantisation"]["layers_left_in_float"] == []
    picture = natural(128, 128)
    exact = onnx_network(tiny.SerializeToString())(picture)
    error = ((onnx_network(coarse.SerializeToString())(picture) - exact) ** 2).mean()
    monkeypatch.setattr(quantise, "_AIM", -10 * np.log10(error) + 2)
    finer, about = quantise.quantised(tiny, Options, multiple=8)
    kept = about["quantisation"]["layers_left_in_float"]
    assert kept
    assert kept == list(about["quantisation"]["sensitivity"]["layers"])[: len(kept)]
    assert ((onnx_network(finer.SerializeToString())(picture) - exact) ** 2).mean() < error


def test_kernels_are_filled_up_for_the_fast_convolution_and_give_the_same(tiny, monkeypatch):
    made, _ = quantise.quantised(tiny, Options, multiple=8)
    shapes = [c.dims for c in made.graph.initializer if c.data_type == onnx.TensorProto.INT8 and len(c.dims) == 4]
    assert len(shapes) == kinds(tiny)["Conv"]
    assert all(shape[0] >= 16 and shape[1] % 4 == 0 for shape in shapes)
    monkeypatch.setattr(quantise, "_INPUTS", 1)
    monkeypatch.setattr(quantise, "_OUTPUTS", 1)
    plain, _ = quantise.quantised(tiny, Options, multiple=8)
    assert {tuple(c.dims[:2]) for c in plain.graph.initializer} & {(6, 6), (8, 8)}
    picture = natural(72, 136)
    filled, unfilled = (onnx_network(model.SerializeToString())(picture) for model in (made, plain))
    np.testing.assert_array_equal(filled, unfilled)


@pytest.mark.parametrize("kind", ["DepthToSpace", "SpaceToDepth"])
@pytest.mark.parametrize("block", [2, 3])
def test_shuffles_with_channels_last_are_the_same(kind, block):
    helper = onnx.helper
    channels = 2 * block**2 if kind == "DepthToSpace" else 2
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", c, "height", "width"])
        for name, c in (("x", channels), ("y", None))
    ]
    node = helper.make_node(kind, ["x"], ["y"], "shuffle", blocksize=block)
    model = helper.make_model(
        helper.make_graph([node], "g", *[[end] for end in ends]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    made = channels_last(model)
    assert kind not in kinds(made)
    x = np.random.default_rng(0).random((2, channels, 2 * block, 5 * block), np.float32)
    expected, given = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for m in (model, made)
    )
    np.testing.assert_array_equal(given, expected)
