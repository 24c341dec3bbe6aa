"""Networks as TensorFlow SavedModels of any size, by jax2tf; and run by a process that has TensorFlow and no JAX."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from deblur_jax.errors import UserError

try:
    import tensorflow  # pyright: ignore[reportMissingModuleSource]
except ImportError as error:
    raise UserError(f"exporting a SavedModel needs the tf extra ({error}): pip install 'deblur-jax[tf]'") from None

__all__ = ["FOLDER", "SIGNATURE", "TENSORFLOW", "convert", "elsewhere"]

FOLDER, SIGNATURE = "model", "serving_default"
TENSORFLOW: str = tensorflow.__version__
tf: Any = tensorflow  # what is known of its types is wrong here and there
VERIFY = Path(__file__).with_name("verify_savedmodel.py")


def convert(
    function: Callable[..., Any],
    variables: Any,
    *,
    dtype: Any,
    multiple: int,
    least: int,
    size: tuple[int, int] | None,
    batch: int | None,
    platforms: tuple[str, ...],
) -> dict[str, bytes]:
    """`function(variables, pictures)` as the files of a SavedModel; any number and size where none is given."""
    from jax.experimental import jax2tf

    shape = (batch, *(size or (None, None)), 3)
    converted = jax2tf.convert(
        function,
        polymorphic_shapes=[None, f"(n, {multiple}*h, {multiple}*w, 3)"],
        polymorphic_constraints=[f"{side} >= {least}" for side in "hw"],
        with_gradient=False,
        native_serialization_platforms=platforms,
    )
    module = tf.Module()
    # As variables: every size that is compiled shares them.
    module.parameters = jax.tree.map(lambda leaf: tf.Variable(np.asarray(leaf), trainable=False), variables)
    module.restore = tf.function(
        lambda picture: {"restored": converted(module.parameters, picture)},
        input_signature=[tf.TensorSpec(shape, dtype, name="picture")],
        autograph=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: module.restore})
        found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {f"{FOLDER}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in found}


_LOOP = """
import sys
sys.modules["jax"] = None  # which Keras would import where it is installed
import numpy, verify
network = verify.load(sys.argv[1])
for _ in sys.stdin:
    numpy.save("restored.npy", network(numpy.load("picture.npy")))
    print("done", flush=True)
"""


@contextlib.contextmanager
def elsewhere(
    files: Mapping[str, bytes], model: str
) -> Iterator[Callable[[Shaped[np.ndarray, "..."]], Shaped[np.ndarray, "..."]]]:
    """The model run in a process of its own, by the very code that `verify.py` runs it with, on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in {**files, "verify.py": VERIFY.read_bytes()}.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        said = folder / "said"
        with (
            said.open("wb") as stderr,
            subprocess.Popen(
                [sys.executable, "-c", _LOOP, model],
                cwd=folder,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            given, answers = process.stdin, process.stdout
            assert given is not None
            assert answers is not None

            def network(pictures: np.ndarray) -> np.ndarray:
                np.save(folder / "picture.npy", pictures)
                try:
                    print("next", file=given, flush=True)
                    answered = answers.readline()
                except BrokenPipeError:
                    answered = ""
                if not answered:
                    raise UserError(_cannot_run(said.read_text()))
                return np.load(folder / "restored.npy")

            try:
                yield network
            finally:
                process.kill()


def _cannot_run(said: str) -> str:
    """JAX may write what a TensorFlow of its time cannot read yet: jax 0.12 does, and TensorFlow 2.21 cannot."""
    reasons = [line for line in said.splitlines() if "Error" in line] or said.splitlines() or ["it says nothing"]
    versions = f"TensorFlow {TENSORFLOW} cannot run what jax {jax.__version__} writes"
    return f"{versions}; jax 0.10 and TensorFlow 2.21 agree: {reasons[-1].strip()[:200]}"
