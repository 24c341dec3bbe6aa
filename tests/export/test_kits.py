"""`deblur export --kit`: what is in each kit runs, and gives what the weights give."""

import json
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from deblur_jax import Restorer, samples
from deblur_jax.cli import main
from deblur_jax.export import kit, parity
from deblur_jax.restore import read_image


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What was exported once is copied."""
    return tmp_path_factory.mktemp("made"), {}


@pytest.fixture
def export(nano, tmp_path, capsys, made):
    """Exports the tiny network by the command."""
    model, (folders, there) = nano(scale=0.3), made

    def export(*options, name="out"):
        if options not in there:
            there[options] = folders / str(len(there))
            assert main(["export", str(model), "-o", str(there[options]), *options]) == 0, capsys.readouterr().err
        return shutil.copytree(there[options], tmp_path / name)

    return export


@pytest.fixture
def photo(tmp_path):
    piece = np.rint(55 + 200 * read_image(samples.PICTURES[0])[200:283, 100:921]).astype(np.uint8)
    Image.fromarray(piece).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def dark(photo):
    """One that is brightened for the network."""
    darker = np.rint(pixels(photo) ** 3 / 255**2).astype(np.uint8)
    assert np.median(darker) < 0.12 * 255
    Image.fromarray(darker).save(photo.with_name("dark.png"))
    return photo.with_name("dark.png")


def run(*command, cwd=None):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def is_restored_by(model, photo, result):
    """By one step of 255 at most, where a value lies between two."""
    expected = np.rint(255 * Restorer(model).restore(read_image(photo)).clip(0, 1)).astype(int)
    difference = np.abs(pixels(result) - expected)
    assert np.abs(expected - pixels(photo)).max() > 10
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_python_restores_as_we_do_whole_and_in_tiles(export, photo, dark, nano, tmp_path):
    folder = export("--kit", "python")
    code = (folder / "restore.py").read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}
    assert set(re.findall(r"^\w+", (folder / "requirements.txt").read_text(), re.MULTILINE)) == {
        "numpy",
        "onnxruntime",
        "pillow",
    }
    for given, tile in ((photo, 1024), (photo, 640), (dark, 640)):  # more than the 821 pixels, and less
        result = tmp_path / f"{given.stem}_{tile}.png"
        run(sys.executable, folder / "restore.py", given, result, "--tile", tile, cwd="/")
        is_restored_by(nano(scale=0.3), given, result)
    Image.fromarray(np.full((1, 3, 3), 99, np.uint8)).save(tmp_path / "dot.png")
    run(sys.executable, folder / "restore.py", tmp_path / "dot.png", tmp_path / "sharp.png")
    assert pixels(tmp_path / "sharp.png").shape == (1, 3, 3)
    again = subprocess.run([sys.executable, folder / "restore.py", photo, result], capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (2, f"{result} exists already\n")


@pytest.mark.slow
def test_python_reads_grey_of_16_bits_and_says_what_it_cannot(export, photo, nano, tmp_path):
    folder = export("--kit", "python")
    with Image.open(photo) as file:
        grey, inks = file.convert("L"), file.convert("CMYK")
    Image.merge("RGB", [grey] * 3).save(tmp_path / "three.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    run(sys.executable, folder / "restore.py", tmp_path / "deep.png", tmp_path / "sharp.png")
    is_restored_by(nano(scale=0.3), tmp_path / "three.png", tmp_path / "sharp.png")
    Image.fromarray(np.asarray(grey).astype(np.float32) / 255).save(tmp_path / "real.tif")  # from 0 to 1
    run(sys.executable, folder / "restore.py", tmp_path / "real.tif", tmp_path / "real.png")
    is_restored_by(nano(scale=0.3), tmp_path / "three.png", tmp_path / "real.png")
    inks.save(tmp_path / "inks.jpg", icc_profile=b"of inks")
    run(sys.executable, folder / "restore.py", tmp_path / "inks.jpg", tmp_path / "sharp.jpg")
    with Image.open(tmp_path / "sharp.jpg") as result:
        assert "icc_profile" not in result.info
    for source, target, message in (
        (photo, "sharp.xyz", "sharp.xyz: no format of pictures has this ending"),
        (photo, "sharp.psd", "sharp.psd: no format of pictures has this ending"),  # Pillow reads such ones only
        (photo, "nodir/x.png", "nodir: no such folder"),
        ("none.png", "new.png", "none.png: No such file or directory"),
        (folder / "card.json", "new.png", f"{folder / 'card.json'}: cannot identify image file"),
    ):
        command = [sys.executable, folder / "restore.py", source, target]
        refused = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.startswith(message)
        assert refused.stderr.count("\n") == 1


def test_python_turns_the_picture_and_keeps_its_profile(export, photo, tmp_path):
    folder = export("--kit", "python")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.open(photo).save(tmp_path / "turned.jpg", exif=exif, icc_profile=b"a profile", quality=95)
    run(sys.executable, folder / "restore.py", tmp_path / "turned.jpg", tmp_path / "sharp.jpg")
    with Image.open(tmp_path / "sharp.jpg") as result:
        assert (result.size, result.info["icc_profile"]) == ((83, 821), b"a profile")
        assert not result.getexif()


@pytest.mark.slow
def test_node_restores_as_we_do_whole_and_in_tiles(export, photo, dark, nano, tmp_path):
    missing = [name for name in ("node", "npm") if not shutil.which(name)]
    assert not missing, f"the Node kit cannot be tested: no {' and '.join(missing)} here (Node 20.9 or newer is needed)"
    folder = export("--kit", "node")
    run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    for given, tile in ((photo, 1024), (photo, 640), (dark, 640)):
        result = tmp_path / f"{given.stem}_{tile}.png"
        (tmp_path / "link").symlink_to(folder)
        run("node", tmp_path / "link" / "restore.mjs", given, result, tile, cwd="/")
        (tmp_path / "link").unlink()
        is_restored_by(nano(scale=0.3), given, result)
    Image.fromarray(np.full((1, 3, 3), 99, np.uint8)).save(tmp_path / "dot.png")
    run("node", folder / "restore.mjs", tmp_path / "dot.png", tmp_path / "sharp.png")
    assert pixels(tmp_path / "sharp.png").shape == (1, 3, 3)
    again = subprocess.run(["node", folder / "restore.mjs", photo, result], capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (2, f"{result} exists already\n")


def test_a_kit_is_an_artifact_and_what_may_be_changed_may(export, nano):
    folder = export("--kit", "triton")
    config = folder / "models/mild/config.pbtxt"
    config.write_text(config.read_text().replace("2000", "500"))
    (folder / "README.md").unlink()
    assert run(sys.executable, folder / "verify.py").startswith("equal: off by ")
    picture = read_image(samples.PICTURES[1])[:90, :100]
    expected = Restorer(nano(scale=0.3)).restore(picture)
    np.testing.assert_allclose(Restorer(folder).restore(picture), expected, atol=1e-5)


@pytest.mark.parametrize(("options", "kind"), [([], "FP32"), (["--uint8"], "UINT8")])
def test_tritons_configuration_says_what_the_model_is(options, kind, export):
    """Triton itself has read it by hand; here it must go on saying what ONNX says."""
    folder = export("--kit", "triton", *options)
    config = (folder / "models/mild/config.pbtxt").read_text()
    assert 'name: "mild"\nbackend: "onnxruntime"\n' in config
    assert config.count("{") == config.count("}")
    assert config.count("[") == config.count("]")
    graph = onnx.load(folder / "models/mild/1/model.onnx").graph
    dtype = onnx.helper.tensor_dtype_to_string
    for value in (graph.input[0], graph.output[0]):
        dims = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
        assert dims[0] == -1  # a batch, which the configuration leaves out
        said = f'{{ name: "{value.name}", data_type: TYPE_{kind}, dims: [ {", ".join(map(str, dims[1:]))} ] }}'
        assert said in config
        assert dtype(value.type.tensor_type.elem_type) == {"FP32": "TensorProto.FLOAT"}.get(kind, "TensorProto.UINT8")
    largest = int(re.search(r"max_batch_size: (\d+)", config)[1])
    warm = re.findall(
        r"batch_size: (\d+)\n.*\"picture\" value { data_type: TYPE_(\w+), dims: \[ (\d+), (\d+), 3 \]", config
    )
    assert [int(batch) for batch, *_ in warm] == [1, largest]
    multiple = json.loads((folder / "card.json").read_text())["input"]["multiple_of"]
    for _, warmed, height, width in warm:
        assert warmed == kind
        assert int(height) % multiple == int(width) % multiple == 0
    assert "dynamic_batching {" in config


@pytest.fixture
def serve():
    """Answers requests by a function of path, headers and body, which gives headers and body."""
    servers = []

    def serve(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                headers, body = answer(self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("options", [[], ["--uint8"]])
def test_tritons_client_asks_as_the_protocol_says(options, export, photo, nano, serve, tmp_path):
    folder = export("--kit", "triton", *options)
    session = onnxruntime.InferenceSession(folder / "models/mild/1/model.onnx", providers=["CPUExecutionProvider"])

    def answer(path, headers, body):
        assert path == "/v2/models/mild/infer"
        length = int(headers["Inference-Header-Content-Length"])
        asked = json.loads(body[:length])
        (given,), (wanted,) = asked["inputs"], asked["outputs"]
        assert given["parameters"]["binary_data_size"] == len(body) - length
        assert wanted["parameters"]["binary_data"] is True
        dtype = {"FP32": np.float32, "UINT8": np.uint8}[given["datatype"]]
        pictures = np.frombuffer(body, dtype, offset=length).reshape(given["shape"])
        (restored,) = session.run([wanted["name"]], {given["name"]: pictures})
        about = {"name": wanted["name"], "shape": restored.shape, "datatype": given["datatype"]}
        head = json.dumps({"outputs": [{**about, "parameters": {"binary_data_size": restored.nbytes}}]}).encode()
        return {"Inference-Header-Content-Length": str(len(head))}, head + restored.tobytes()

    run(sys.executable, folder / "client.py", photo, tmp_path / "sharp.png", serve(answer))
    is_restored_by(nano(scale=0.3), photo, tmp_path / "sharp.png")
    nobody = "http://127.0.0.1:1"
    for asked, said in (
        ((photo, photo, nobody), "photo.png exists already"),
        ((photo, tmp_path / "new.png", nobody), "Connection refused"),
        (("none.png", tmp_path / "new.png", nobody), "No such file"),
        ((), "python client.py photo.jpg sharp.png"),
    ):
        refused = subprocess.run([sys.executable, folder / "client.py", *asked], capture_output=True, text=True)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "new.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kit", "cloud"], "invalid choice: 'cloud'"),
        (["--kit", "triton", "--to", "onnx"], "not allowed with argument"),
        ([], "one of the arguments --to --kit is required"),
        (["--kit", "triton", "--size", "64x64"], "a kit takes any pictures, channels last"),
        (["--kit", "node", "--batch", "2"], "a kit takes any pictures, channels last"),
        (["--kit", "python", "--uint8"], "the python kit reads and writes 8 bits itself"),
    ],
)
def test_bad_input_is_one_line(options, said, nano, tmp_path, capsys):
    try:
        code = main(["export", str(nano()), "-o", str(tmp_path / "new"), *options])
    except SystemExit as stopped:  # argparse's own
        code = stopped.code
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_unequal_network_leaves_nothing_and_a_full_folder_stays(nano, tmp_path, monkeypatch, capsys):
    arguments = ["export", str(nano(scale=0.3)), "-o", str(tmp_path / "new"), "--kit", "node"]
    before = set(tmp_path.iterdir())
    with monkeypatch.context() as changed:
        changed.setitem(parity.BOUNDS, "fp32", {"greatest_error": 0.0})
        assert main(arguments) == 2
    assert "does not give what JAX gives" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_text("mine")
    assert main(arguments) == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err


@pytest.mark.slow
def test_stopped_at_the_last_moment_it_leaves_nothing(tmp_path):
    script = """
import os, sys, types
from deblur_jax.cli import main
from deblur_jax.export import artifact
def replace(*_): raise KeyboardInterrupt
artifact.os = types.SimpleNamespace(**{**vars(os), "replace": replace})
main(["export", "nano", "-o", sys.argv[1], "--kit", "triton"])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "deblur export: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_names_are_such_as_servers_take(nano, tmp_path):
    model = nano("my run, 2nd.safetensors")
    assert main(["export", str(model), "-o", str(tmp_path / "out"), "--kit", "triton"]) == 0
    assert (tmp_path / "out/models/my-run-2nd/1/model.onnx").is_file()
    assert 'NAME, MULTIPLE, LEAST = "my-run-2nd"' in (tmp_path / "out/client.py").read_text()


def test_a_name_without_any_letter_that_servers_take_is_another():
    assert [kit._served(name) for name in ("é", "写真", "é_2", "--")] == ["deblur", "deblur", "-_2", "deblur"]


def test_every_kit_says_what_was_run_and_fills_every_word(export):
    for name, to in kit.KITS.items():
        if to == "onnx":
            folder = export("--kit", name, name=name)
            assert "**What was run.**" in (folder / "README.md").read_text()
            for path in folder.rglob("*"):
                if path.suffix in (".md", ".py", ".pbtxt", ".mjs"):
                    assert not re.search(r"@[A-Z_]+@", path.read_text()), path
