"""Arrows between the rooms point one way: who may import whom, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "deblur_jax"

# A room may import those named here and itself; `errors` and `files` are open to all.
_LEAVES = {"filters", "metrics", "losses", "models", "blur"}
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "filters": set(),
    "metrics": {"filters"},
    "losses": {"filters", "metrics"},
    "models": {"filters"},
    "blur": {"filters"},
    "weights": _LEAVES,
    "samples": _LEAVES,
    "restore": _LEAVES | {"weights", "samples"},
    "pipeline": _LEAVES | {"weights", "samples", "restore"},
    "train": _LEAVES | {"weights", "samples", "restore", "pipeline"},
    # Its benchmarks time the step that trains, and what is exported.
    "bench": _LEAVES | {"weights", "samples", "restore", "pipeline", "train", "export"},
    "evaluate": _LEAVES | {"weights", "samples", "restore", "pipeline"},
    "export": _LEAVES | {"weights", "samples", "restore"},
    "cli": _LEAVES | {"weights", "samples", "restore", "pipeline", "train", "evaluate", "export", "bench"},
    "__main__": {"cli"},
    "__init__": {"restore"},  # when Restorer is asked for
}
HEAVY = {"jax", "flax", "numpy", "cv2", "optax", "dm_pix"}


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            # `from deblur_jax import metrics` imports deblur_jax.metrics
            base = node.module
            yield from ((f"{base}.{a.name}" if base == "deblur_jax" else base, node) for a in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def forbidden(room, source):
    """The rooms that this source imports and that `room` may not."""
    names = (name.split(".") for name, _ in imports(ast.parse(source)))
    rooms = {parts[1] for parts in names if parts[0] == "deblur_jax" and len(parts) > 1}
    return rooms - {room, "errors", "files", "__version__"} - MAY_IMPORT[room]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    assert not forbidden(room_of(path), path.read_text())
    names = {name.split(".")[0] for name, _ in imports(ast.parse(path.read_text()))}
    assert not names & {"configs", "data", "export", "tests"}
    # TensorFlow is what a SavedModel is written with, and like PyTorch and OpenVINO what speed is compared with.
    assert room_of(path) in ("export", "bench") or "tensorflow" not in names
    assert room_of(path) == "bench" or not names & {"torch", "openvino"}


def test_the_table_names_the_rooms_that_there_are():
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)


def test_a_wrong_arrow_is_found():
    assert forbidden("models", "from deblur_jax.restore import images") == {"restore"}
    assert forbidden("filters", "from deblur_jax import metrics") == {"metrics"}
    assert forbidden("filters", "def f():\n    import deblur_jax.cli.demo") == {"cli"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda p: p.name)
def test_verbs_import_heavy_things_inside(path):
    tree = ast.parse(path.read_text())
    assert not {name.split(".")[0] for name, node in imports(tree) if node in tree.body} & HEAVY
