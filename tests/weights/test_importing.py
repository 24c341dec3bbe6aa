"""Packages of the same structure as the published ones, written from seeded parameters, come back as these."""

import io
import json
import tarfile
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from deblur_jax import weights
from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.models import maxim, zoo
from deblur_jax.models.maxim import Maxim, MaximConfig
from deblur_jax.weights import importing, tfjs

TINY = MaximConfig(features=4, stages=2, depth=2, scales=2, groups=1, bottlenecks=1, windows=(4, 2), reduction=2)
PREFIX = "StatefulPartitionedCall/"


@pytest.fixture(scope="module")
def flat():
    """Parameters of the network as it is run, by path."""
    module = Maxim(TINY.merged())
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    generator = np.random.default_rng(0)
    return {n: generator.normal(size=s.shape).astype(np.float32) for n, s in flatten_dict(shapes, sep="/").items()}


def as_constant(path, value, name):
    """As the graph holds it: the inverse of what importing does."""
    if path.endswith("_up/kernel"):  # (in, row column out) -> row, column, out, in
        return value.reshape(value.shape[0], 2, 2, -1).transpose(1, 2, 3, 0)
    if path.endswith(("/bias", "/scale")):
        return value.reshape(1, 1, 1, -1)
    return value[None, None] if value.ndim == 2 and name.endswith("transpose_3") else value


@pytest.fixture
def package(flat, tmp_path):
    """Writes a package with shards of 3000 bytes; `change` gets its constants first."""

    def package(change=lambda constants: constants):
        constants = {}
        for path, name in maxim.tfjs_names(TINY.merged()).items():
            whole = f"{PREFIX}{name}/ReadVariableOp" if "jax2tf" in name else f"{PREFIX}jax2tf_apply_/backbone/{name}"
            constants[whole] = as_constant(path, flat[path], name)
        # What belongs to the arithmetic alone.
        constants[f"{PREFIX}jax2tf_apply_/backbone/UpSampleRatio_1/jit__resize_/Reshape"] = np.ones((1, 1), np.float32)
        constants[f"{PREFIX}Const_1"] = np.array(2, np.int32)
        constants = change(constants)
        folder = tmp_path / "package" / "models"
        folder.mkdir(parents=True)
        data = b"".join(np.ascontiguousarray(value).tobytes() for value in constants.values())
        shards = [data[at : at + 3000] for at in range(0, len(data), 3000)]
        paths = [f"group1-shard{i + 1}of{len(shards)}.bin" for i in range(len(shards))]
        for name, shard in zip(paths, shards, strict=True):
            (folder / name).write_bytes(shard)
        listed = [{"name": n, "shape": list(v.shape), "dtype": str(v.dtype)} for n, v in constants.items()]
        model = {"format": "graph-model", "weightsManifest": [{"paths": paths, "weights": listed}]}
        (folder / "model.json").write_text(json.dumps(model))
        about = {"name": "@example/maxim", "version": "0.1.0", "license": "MIT"}
        (folder.parent / "package.json").write_text(json.dumps(about))
        return folder.parent

    return package


def save_npz(path, state):
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in state.items()}
    np.savez(path, **arrays)


def same(found, flat):
    params = flatten_dict(found.checked().params, sep="/")
    assert set(params) == set(flat)
    for path, value in flat.items():
        np.testing.assert_array_equal(params[path], value, err_msg=path)


def test_a_package_comes_back_as_what_was_written(package, flat, tmp_path):
    folder = package()
    found = importing.read(folder)
    same(found, flat)
    made = found.checked()
    assert (made.network, made.merged) == ("maxim_s2", True)
    assert made.entry.deployed().config == TINY.merged()
    assert made.card["imported"]["package"]["name"] == "@example/maxim"
    assert made.card["licence"] == "MIT, as the package says"
    with tarfile.open(tmp_path / "package.tgz", "w:gz") as archive:
        archive.add(folder, "package")
    same(importing.read(tmp_path / "package.tgz"), flat)
    same(importing.read(folder / "models" / "model.json"), flat)


@pytest.mark.slow
def test_the_command_writes_a_file_that_restores(package, flat, tmp_path, noise, capsys):
    output = tmp_path / "imported.safetensors"
    assert main(["weights", "import", str(package()), "-o", str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    loaded, x = weights.load(output), noise(1, 8, 12, 3)
    apply = jax.jit(Maxim(TINY.merged()).apply)
    assert loaded.entry.deployed() == Maxim(TINY.merged())
    restored = apply({"params": loaded.deployed()}, x)
    params = importing.read(tmp_path / "package").checked().params
    np.testing.assert_allclose(apply({"params": params}, x), restored, atol=1e-6)
    assert main(["weights", "import", str(tmp_path / "package"), "-o", str(output)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["weights", "import", str(tmp_path / "package"), "-o", str(output), "--as", "x"]) == 2


def test_the_authors_checkpoint(flat, tmp_path):
    """As Flax has it: transposed convolutions turned round, 1x1 convolutions with all axes; an optimiser beside."""
    names, constants = maxim.checkpoint_names(TINY.merged()), maxim.tfjs_names(TINY.merged())
    state = {"opt/state/step": np.float32(3)}
    for path, value in flat.items():
        if path.endswith("_up/kernel"):
            value = value.reshape(value.shape[0], 2, 2, -1).transpose(1, 2, 0, 3)[::-1, ::-1]
        elif constants[path].endswith("transpose_3") and value.ndim == 2:
            value = value[None, None]
        state[f"opt/target/{names[path]}"] = value
    save_npz(tmp_path / "checkpoint.npz", state)
    same(importing.read(tmp_path / "checkpoint.npz"), flat)


def test_deepdeblur_by_its_torch_names(tmp_path):
    state = weights.read_tensors(f"{__file__.rpartition('/weights/')[0]}/models/deepdeblur-tiny.safetensors")
    save_file(state, tmp_path / "a.safetensors")
    save_npz(tmp_path / "a.npz", state)
    for name in ("a.safetensors", "a.npz"):
        found = importing.read(tmp_path / name).checked()
        assert (found.network, found.variant) == ("deepdeblur", {"blocks": 2, "features": 8})
    del state["body_models.1.body.0.weight"]
    save_npz(tmp_path / "a.npz", state)
    assert importing.read(tmp_path / "a.npz").fit.lines() == ["missing: body_models.1.body.0.weight"]


def test_our_own_files_and_names(random_variables, tmp_path):
    params = random_variables(zoo.get("nano").deployed())["params"]
    weights.save(tmp_path / "x.safetensors", network="nano", params=params, card={"data": "d"}, merged=True)
    found = importing.read(tmp_path / "x.safetensors")
    assert (found.name, found.checked().card["data"]) == ("x", "d")
    save_npz(tmp_path / "x.npz", flatten_dict(params, sep="/"))
    found = importing.read(tmp_path / "x.npz")
    assert (found.name, found.checked().network) == ("x", "nano")  # a network's own name would be refused


# --- What is wrong ------------------------------------------------------------------------------------------


def test_every_entry_that_does_not_fit_is_listed(package, capsys):
    dense = f"{PREFIX}jax2tf_arg_{maxim.tfjs_names(TINY)['stage0_encoder0/mlp0/expand/kernel'].split('_')[-1]}"
    conv = f"{PREFIX}jax2tf_apply_/backbone/stage_0_input_conv_0/transpose_3"

    def change(constants):
        del constants[f"{dense}/ReadVariableOp"]
        constants[conv] = np.zeros((5, 5, 3, 4), np.float32)
        constants[f"{PREFIX}jax2tf_apply_/backbone/extra/Reshape"] = np.zeros((1, 1, 1, 4), np.float32)
        return constants

    folder = package(change)
    lines = importing.read(folder).fit.lines()
    assert lines == [
        f"missing: {dense.removeprefix(PREFIX)}",
        "unexpected: extra/Reshape",
        "misshapen: stage_0_input_conv_0/transpose_3 (5, 5, 3, 4), which is to make (3, 3, 3, 4)",
    ]
    assert main(["weights", "import", str(folder), "-o", "x.safetensors"]) == 2
    said = capsys.readouterr().err
    assert lines[0] in said
    assert "1 missing" in said


def damaged(folder, kind):
    models = folder / "models"
    if kind == "truncated shard":
        shard = sorted(models.glob("*.bin"))[1]
        shard.write_bytes(shard.read_bytes()[:-4])
    elif kind == "missing shard":
        sorted(models.glob("*.bin"))[1].unlink()
    elif kind == "broken JSON":
        (models / "model.json").write_text("{")
    elif kind == "another JSON":
        (models / "model.json").write_text('{"a": 1}')
    elif kind == "two models":
        (folder / "model.json").write_text("{}")
    elif kind == "no model":
        (models / "model.json").unlink()
    elif kind == "shard elsewhere":
        text = (models / "model.json").read_text()
        (models / "model.json").write_text(text.replace("group1-shard1of", "../../group1-shard1of"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated shard", r"its shards hold \d+ bytes, model.json lists \d+: download it again"),
        ("missing shard", "the shard 'group1-shard.* cannot be read: No such file"),
        ("broken JSON", "model.json: not a TensorFlow.js graph model"),
        ("another JSON", "not a TensorFlow.js graph model"),
        ("two models", "holds 2 files called model.json"),
        ("no model", "holds no model.json"),
        ("shard elsewhere", "a shard outside of its folder"),
    ],
)
def test_a_damaged_package_is_refused_in_one_line(package, kind, message):
    folder = package()
    damaged(folder, kind)
    with pytest.raises(UserError, match=message) as error:
        importing.read(folder)
    assert "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        importing.read(tmp_path / "none")
    for name, message in (
        ("x.pth", "PyTorch"),
        ("x.txt", "read are"),
        ("x.npz", "not a whole"),
        ("x.tgz", "not a whole"),
    ):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(UserError, match=message):
            importing.read(tmp_path / name)
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3, np.float32))
    with pytest.raises(UserError, match="not a whole archive of arrays"):
        importing.read(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.zeros(3, np.float32))
    with pytest.raises(UserError, match="no network that is known here"):
        importing.read(tmp_path / "y.npz")


@pytest.mark.parametrize("name", ["../model.json", "/tmp/../model.json"])
def test_a_package_writes_nothing_elsewhere(name, tmp_path):
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 2
        archive.addfile(member, io.BytesIO(b"{}"))
    with pytest.raises(UserError, match=r"not a whole package .* lies outside of it"):
        importing.read(tmp_path / "x.tgz")


@pytest.mark.parametrize("kind", ["encrypted", "unknown compression", "text", "huge header"])
def test_archives_of_something_else_are_one_line(tmp_path, kind):
    file = tmp_path / "x.npz"
    if kind == "text":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif kind == "huge header":
        array = io.BytesIO()
        np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (10**16,)})
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.npy", array.getvalue())
    else:
        np.savez(file, a=np.zeros(3, np.float32))
        data = bytearray(file.read_bytes())
        listed, at, value = data.index(b"PK\x01\x02"), *((6, 1) if kind == "encrypted" else (8, 77))
        data[at] = data[listed + at + 2] = value  # the entry, and the list at the end, which has two bytes more
        file.write_bytes(data)
    with pytest.raises(UserError, match="not a whole archive of arrays") as error:
        importing.read(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"shape": [-2, -2]}, "not a TensorFlow.js graph model .'a' cannot have its shape"),
        ({"shape": [1e400]}, "not a TensorFlow.js graph model .cannot convert float infinity"),
        ({"shape": [0, 2**40]}, "not a TensorFlow.js graph model .'a' cannot have its shape"),
        ({"path": "a\0.bin"}, r"the shard 'a\\x00.bin' cannot be read: embedded null byte"),
        ({"path": "a\n.bin"}, r"the shard 'a\\n.bin' cannot be read: No such file"),
        ("[" * 100_000, "not a TensorFlow.js graph model .maximum recursion depth"),
    ],
)
def test_models_that_cannot_be_are_one_line(tmp_path, model, message):
    (tmp_path / "a.bin").write_bytes(bytes(16))
    if isinstance(model, dict):
        weights_ = [{"name": "a", "shape": model.get("shape", [4]), "dtype": "float32"}]
        model = json.dumps({"weightsManifest": [{"paths": [model.get("path", "a.bin")], "weights": weights_}]})
    (tmp_path / "model.json").write_text(model)
    (tmp_path / "package.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=message) as error:
        importing.read(tmp_path)
    assert "\n" not in str(error.value)


def test_numbers_that_are_too_large_are_one_line(random_variables, tmp_path, capsys):
    state = flatten_dict(random_variables(zoo.get("nano").deployed())["params"], sep="/")
    save_npz(tmp_path / "x.npz", state | {"tail/bias": np.full(48, 1e300)})
    assert main(["weights", "import", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.safetensors")]) == 2
    assert "tail/bias has values that are no numbers" in capsys.readouterr().err


def test_bytes_changed_within_are_one_line(package, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(9999, dtype=np.float32))
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.add(package(), "package")
    for name in ("a.npz", "a.tgz"):
        data = bytearray((tmp_path / name).read_bytes())
        middle = len(data) // 2
        data[middle : middle + 100] = bytes(255 - byte for byte in data[middle : middle + 100])
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="not a whole") as error:
            importing.read(tmp_path / name)
        assert "\n" not in str(error.value)


def test_another_graph_is_no_network_of_ours(package):
    folder = package(lambda _: {"conv2d/kernel": np.zeros((3, 3, 3, 8), np.float32)})
    with pytest.raises(UserError, match=r"no network that is known here \(it holds conv2d/kernel\)"):
        importing.read(folder)


def test_quantised_weights_are_not_taken_for_others(package):
    folder = package()
    text = (folder / "models" / "model.json").read_text()
    changed = text.replace('"dtype": "float32"', '"dtype": "float32", "quantization": {"dtype": "uint8"}', 1)
    (folder / "models" / "model.json").write_text(changed)
    with pytest.raises(UserError, match="quantised"):
        tfjs.read(folder)
