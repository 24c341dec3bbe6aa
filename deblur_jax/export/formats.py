"""The formats that a network is exported to, each as the files it takes and the function that runs them."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax import __version__
from deblur_jax.export.parity import Run
from deblur_jax.restore.exported import adapted, onnx_network, stablehlo_network
from deblur_jax.weights import Weights

__all__ = ["KINDS", "PRECISIONS", "Kind", "Made", "Options", "make", "running"]

Kind = Literal["onnx", "stablehlo", "savedmodel"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PRECISIONS = ("fp32", "fp16", "int8")
_PLATFORMS = ("cpu", "cuda", "tpu")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Options:
    to: Kind = "onnx"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    layout: Literal["nhwc", "nchw"] = "nhwc"
    whole_numbers: bool = False
    size: tuple[int, int] | None = None  # height and width; any if not given
    batch: int | None = None
    calibration: Sequence[np.ndarray] = ()  # pictures (h w 3) for int8
    # What a precision loses is measured on these: each reads a blurred and a sharp picture, 8-bit RGB.
    validation: Sequence[Callable[[], tuple[np.ndarray, np.ndarray]]] = ()

    @property
    def at_once(self) -> int | None:
        """So many pictures at a time; any number if none. Of one size there is one, where nothing is said."""
        return self.batch or (1 if self.size else None)


@dataclass(frozen=True)
class Made:
    """What an exporter hands over: the model, a file or a folder, and the bytes of its files."""

    model: str
    files: dict[str, bytes]
    least: int  # times the network's multiple, that a side must have
    runtime: dict[str, Any]
    bytes_per_pixel: float
    about: dict[str, Any] = dataclasses.field(default_factory=dict)  # what else the card says


def make(weights: Weights, options: Options) -> Made:
    return {"onnx": _onnx, "stablehlo": _stablehlo, "savedmodel": _savedmodel}[options.to](weights, options)


@contextlib.contextmanager
def running(made: Made, options: Options) -> Iterator[Run]:
    """What was made as a function of pictures as they are everywhere here."""
    if options.to == "savedmodel":
        from deblur_jax.export import savedmodel

        with savedmodel.elsewhere(made.files, made.model) as network:
            yield adapted(network, options.layout, options.whole_numbers)
    elif options.to == "onnx":
        yield onnx_network(made.files[made.model], layout=options.layout, whole_numbers=options.whole_numbers)
    else:
        yield stablehlo_network(made.files[made.model])


def _onnx(weights: Weights, options: Options) -> Made:
    from deblur_jax.export import graph, memory, onnx

    entry, variables = weights.entry, {"params": weights.deployed()}
    multiple = entry.config.multiple_of

    def converted(dtype: Any) -> tuple[Any, int]:
        return onnx.convert(
            entry.deployed(dtype=dtype).apply,
            variables,
            multiple=multiple,
            size=(options.at_once, *options.size) if options.at_once and options.size else None,
            batch=options.batch,
            layout=options.layout,
            whole_numbers=options.whole_numbers,
            about={"network": weights.network, "deblur_jax": __version__},
        )

    model, least = converted(jnp.float32)
    about: dict[str, Any] = {}
    if options.precision != "fp32":
        from deblur_jax.export import quantise, table

        exact = model
        if options.precision == "int8":
            model, about = quantise.quantised(exact, options, multiple=multiple)
        else:
            model, least = converted(jnp.float16)
        about["table"] = table.table(exact, model, options, multiple=multiple)
    runtime = {
        "kind": "onnx",
        "opset": graph.OPSET,
        "ir_version": graph.IR_VERSION,
        "needs": {"onnxruntime": ">=1.12", "numpy": ">=1.21"},
    }
    per_pixel = memory.bytes_per_pixel(model, options.layout)
    return Made("model.onnx", {"model.onnx": model.SerializeToString()}, least, runtime, per_pixel, about)


def _stablehlo(weights: Weights, options: Options) -> Made:
    from jax import export

    from deblur_jax.export.onnx import symbolic

    variables = {"params": weights.deployed()}
    module, multiple = weights.entry.deployed(), weights.entry.config.multiple_of

    def restore(pictures: jax.Array) -> Any:
        return module.apply(variables, pictures)

    def exported(least: int) -> Any:
        n, h, w, c = symbolic(multiple, least=least)
        shape = (options.at_once or n, *(options.size or (h, w)), c)
        return export.export(jax.jit(restore), platforms=_PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.float32))

    least, made = _least(exported)
    runtime = {
        "kind": "stablehlo",
        "calling_convention": made.calling_convention_version,
        "platforms": list(made.platforms),
        "needs": {"jax": f">={jax.__version__}", "numpy": ">=2.0"},
    }
    files = {"model.stablehlo": bytes(made.serialize())}
    return Made("model.stablehlo", files, least, runtime, _bytes_per_pixel(restore, multiple))


def _savedmodel(weights: Weights, options: Options) -> Made:
    from deblur_jax.export import savedmodel

    variables = {"params": weights.deployed()}
    module, multiple = weights.entry.deployed(), weights.entry.config.multiple_of

    def restore(variables: Any, pictures: jax.Array) -> Any:
        if not options.whole_numbers:
            return module.apply(variables, pictures)
        restored: Any = module.apply(variables, pictures.astype(jnp.float32) / 255)
        return jnp.round(jnp.clip(255 * restored, 0, 255)).astype(jnp.uint8)

    def converted(least: int) -> dict[str, bytes]:
        return savedmodel.convert(
            restore,
            variables,
            dtype=np.uint8 if options.whole_numbers else np.float32,
            multiple=multiple,
            least=least,
            size=options.size,
            batch=options.at_once,
            platforms=_PLATFORMS,
        )

    least, files = _least(converted)
    runtime = {
        "kind": "savedmodel",
        "signature": savedmodel.SIGNATURE,
        "platforms": list(_PLATFORMS),
        "needs": {"tensorflow": f">={savedmodel.TENSORFLOW}", "numpy": ">=1.26"},
    }
    per_pixel = _bytes_per_pixel(lambda pictures: module.apply(variables, pictures), multiple)
    return Made(savedmodel.FOLDER, files, least, runtime, per_pixel)


def _least(export: Callable[[int], _T]) -> tuple[int, _T]:
    """Some networks look around the border, for which sides must be two or four multiples: see `onnx._least`."""
    reason: Exception | None = None
    for least in (1, 2, 4):
        try:
            return least, export(least)
        except ValueError as error:
            reason = error
    assert reason is not None
    raise reason


def _bytes_per_pixel(restore: Callable[[Any], Any], multiple: int) -> float:
    side = 16 * multiple
    compiled = jax.jit(restore).lower(jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)).compile()
    needs = compiled.memory_analysis()
    return needs.temp_size_in_bytes / side**2 if needs else 4096.0
