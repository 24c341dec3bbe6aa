"""The machine that a speed was measured on: what it is, what runs on it, and what it does at best."""

import datetime
import functools
import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.export.artifact import commit

_PACKAGES = ("deblur_jax", "jax", "jaxlib", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "torch")


def about(command: str) -> dict[str, Any]:
    """What a record says beside its figures."""
    return {
        "device": device(),
        "threads": threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": commit(),
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def device() -> str:
    kind = jax.devices()[0].device_kind
    if jax.default_backend() != "cpu":
        return kind
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), kind)


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- What it does at best -------------------------------------------------------------------------------------


def matrix_peak(precision: str) -> float | None:
    """Operations a second of large matrix products; of int8 those of ONNX Runtime on a CPU, else nobody's here."""
    from deblur_jax.train import mesh, peak

    if precision == "int8":
        return _int8_peak() if jax.default_backend() == "cpu" else None
    return peak.operations_per_second(mesh.make(1), {"fp32": "float32", "fp16": "float16"}[precision])


@functools.cache
def bandwidth() -> float:
    """Bytes a second that are read and written by adding to a large array, in place: the best of a few rounds."""
    held = [jnp.ones(2**26, jnp.float32)]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)  # memory that is new to a process costs more than writing to it

    def work() -> None:
        held[0] = add(held[0]).block_until_ready()

    return 2 * held[0].nbytes / _best(work)


@functools.cache
def _int8_peak() -> float | None:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return None
    side, helper, kinds = 1024, onnx.helper, onnx.TensorProto
    generator = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(generator.integers(-127, 128, (side, side)).astype(np.int8), "w")
    ends = [helper.make_tensor_value_info(n, k, [side, side]) for n, k in (("x", kinds.UINT8), ("y", kinds.INT32))]
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = generator.integers(0, 256, (side, side)).astype(np.uint8)
    return 2.0 * side**3 / _best(lambda: session.run(None, {"x": x}))


def _best(work: Any, rounds: int = 7) -> float:
    work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def traffic(closed_jaxpr: Any) -> int:
    """Numbers that convolutions and products read and write if each does so once, one after the other.

    Of alternatives (one lowering per platform) the one that moves most counts.
    """
    from jax.extend import core

    total = 0
    for equation in closed_jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            total += sum(v.aval.size for v in [*equation.invars, *equation.outvars])
        elif equation.primitive.name == "cond":
            total += max(traffic(branch) for branch in equation.params["branches"])
        else:
            inner = (core.Jaxpr, core.ClosedJaxpr)
            total += sum(traffic(p) for p in equation.params.values() if isinstance(p, inner))
    return total
