"""One network in each engine, ready to run: pictures that are where it computes, and pictures that come and go.

Engines are imported where they are made, so that a process which runs one has no other in its memory.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deblur_jax.errors import UserError


class Engine(NamedTuple):
    make: Callable[["Given"], "Ready"]
    package: str
    precisions: tuple[str, ...]
    exported: bool = False  # reads the ONNX file, and needs no JAX
    imports: tuple[str, ...] = ()  # what else `make` imports


@dataclass(frozen=True)
class Given:
    """What an engine gets."""

    weights: Path  # of the network as it is deployed
    onnx: Path | None  # the same as a file, for engines that read one
    pictures: np.ndarray  # (b h w 3), sides as the network takes them
    precision: str
    device: str  # cpu or cuda
    threads: int


class Ready(NamedTuple):
    """Both return when the work is done."""

    resident: Callable[[], Any]  # input and output stay where the engine computes
    copied: Callable[[], np.ndarray]  # from an array of NumPy to another


class CannotRun(Exception):
    """An engine that is installed and does not run here, with the reason."""


def _jax(given: Given) -> Ready:
    import jax
    import jax.numpy as jnp

    from deblur_jax.models import layers
    from deblur_jax.weights import load

    weights = load(given.weights)
    module = weights.entry.deployed(dtype=jnp.float16 if given.precision == "fp16" else jnp.float32)
    device = jax.devices()[0]
    variables, there = (jax.device_put(x, device) for x in ({"params": weights.deployed()}, given.pictures))
    apply: Any = jax.jit(module.apply, compiler_options=layers.compiler_options(device.platform))
    compiled = apply.lower(variables, there).compile()
    return Ready(
        lambda: compiled(variables, there).block_until_ready(),
        lambda: np.asarray(compiled(variables, jax.device_put(given.pictures, device))),
    )


def _onnxruntime(given: Given) -> Ready:
    import onnxruntime

    wanted = "CUDAExecutionProvider" if given.device == "cuda" else "CPUExecutionProvider"
    if wanted not in onnxruntime.get_available_providers():
        raise CannotRun("this ONNX Runtime has no CUDA: pip install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = given.threads
    session: Any = onnxruntime.InferenceSession(str(given.onnx), options, providers=[wanted])
    if session.get_providers()[0] != wanted:
        raise CannotRun("this ONNX Runtime cannot start CUDA; the versions of CUDA and cuDNN do not fit it")
    name, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    values, binding = onnxruntime.OrtValue, session.io_binding()
    binding.bind_ortvalue_input(name, values.ortvalue_from_numpy(given.pictures, given.device, 0))
    there = values.ortvalue_from_shape_and_type(given.pictures.shape, np.float32, given.device, 0)
    binding.bind_ortvalue_output(result, there)

    def resident() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return Ready(resident, lambda: session.run([result], {name: given.pictures})[0])


def _openvino(given: Given) -> Ready:
    import openvino  # pyright: ignore[reportMissingImports]

    if given.device != "cpu":
        raise CannotRun("runs on Intel's devices, not on this GPU")
    core = openvino.Core()
    model = core.read_model(str(given.onnx))
    model.reshape(list(given.pictures.shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": given.threads,
        "INFERENCE_PRECISION_HINT": "f16" if given.precision == "fp16" else "f32",
    }
    compiled = core.compile_model(model, "CPU", settings)
    bound, other = compiled.create_infer_request(), compiled.create_infer_request()
    bound.set_input_tensor(openvino.Tensor(given.pictures, shared_memory=True))
    return Ready(bound.infer, lambda: other.infer({0: given.pictures})[0])


def _torch(mode: str) -> Callable[[Given], Ready]:
    def make(given: Given) -> Ready:
        import torch  # pyright: ignore[reportMissingImports]

        from deblur_jax.bench import torch_networks
        from deblur_jax.weights import load

        weights, half = load(given.weights), given.precision == "fp16"
        config: Any = weights.entry.deployed().config  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(config, torch_networks.WRITTEN):
            raise CannotRun(f"{weights.network} has not been written in PyTorch here")
        if half and given.device == "cpu":
            raise CannotRun("half precision is for GPUs")
        if given.device == "cuda" and not torch.cuda.is_available():
            raise CannotRun("this PyTorch has no CUDA")
        torch.set_num_threads(given.threads)
        order = torch.contiguous_format if mode == "eager" else torch.channels_last
        network = torch_networks.build(config, weights.params, given.device).eval().to(memory_format=order)
        run: Any = torch.compile(network) if mode == "compiled" else network

        def on_device() -> Any:
            seen = torch.from_numpy(given.pictures).permute(0, 3, 1, 2)
            return seen.to(given.device).contiguous(memory_format=order)

        def restored(pictures: Any) -> Any:
            # Not inference_mode: compiled networks are compiled anew in it, and it is no faster.
            with torch.no_grad(), torch.autocast(given.device, torch.float16, enabled=half):
                result = run(pictures)[0]
            if given.device == "cuda":
                torch.cuda.synchronize()
            return result

        there = on_device()
        return Ready(
            lambda: restored(there), lambda: restored(on_device()).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        )

    return make


_ALL, _FLOATS, _OURS = ("fp32", "fp16", "int8"), ("fp32", "fp16"), ("deblur_jax.weights",)
_PEER = (*_OURS, "deblur_jax.bench.torch_networks")
ENGINES: dict[str, Engine] = {
    "jax": Engine(_jax, "jax", _FLOATS, imports=_OURS),
    "onnxruntime": Engine(_onnxruntime, "onnxruntime", _ALL, exported=True),
    "openvino": Engine(_openvino, "openvino", _ALL, exported=True),
    "torch": Engine(_torch("eager"), "torch", _FLOATS, imports=_PEER),
    "torch-channels-last": Engine(_torch("channels-last"), "torch", _FLOATS, imports=_PEER),
    "torch-compiled": Engine(_torch("compiled"), "torch", _FLOATS, imports=_PEER),
}


def chosen(names: list[str] | None) -> tuple[list[str], list[str]]:
    """Those to run, and a line for each that is not installed. One that was asked for and is not there is an error."""
    for name in names or ():
        if name not in ENGINES:
            raise UserError(f"--engines: there are {', '.join(ENGINES)}, not {name!r}")
    there, missing = [], []
    for name in dict.fromkeys(names or ENGINES):
        engine = ENGINES[name]
        if importlib.util.find_spec(engine.package):
            there.append(name)
        elif names:
            raise UserError(f"--engines: {name} is not installed: pip install {engine.package}")
        else:
            missing.append(f"{name}: left out, it is not installed: pip install {engine.package}")
    return there, missing
