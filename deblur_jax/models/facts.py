"""The facts of the networks: counted and measured, never typed in.

`facts.json` holds them so that listing the networks needs no JAX. `make facts` (or
`python -m deblur_jax.models.facts`) writes it anew; a test compares it with a fresh measurement.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("facts.json")


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of the network as it is deployed."""

    parameters: int
    kmac_per_pixel: float  # thousand multiply-accumulates of convolutions and matrix products
    multiple_of: int  # picture sides are padded to multiples of this
    receptive_field: int | None  # side of the square of input pixels that one output depends on; None: it sees all
    origin: str
    brightens: bool = False  # whether dark pictures are brightened for it (filters/dark.py), as where it learns
    # Of networks that see the whole picture, where a tile is another picture than the whole:
    tile: int | None = None  # side of the largest tiles to cut pictures into; None: as large as fits
    overlap: int | None = None  # pixels at each inner border of a tile that are not kept
    # Of networks that take minutes to compile, so that no tile is compiled to see that it is too large (on a CPU):
    working: int | None = None  # bytes for a pixel
    compiling: int | None = None  # bytes for compiling, and for what is compiled

    @property
    def margin(self) -> int:
        """Pixels at each inner border of a tile that the network does not restore as it would in the whole."""
        return self.overlap or 0 if self.receptive_field is None else (self.receptive_field - 1) // 2

    def gmac(self, width: int, height: int) -> float:
        return self.kmac_per_pixel * width * height / 1e6


def read() -> dict[str, Facts]:
    """All networks in the zoo's order. Imports nothing heavy."""
    return {name: Facts(**facts) for name, facts in json.loads(PATH.read_text()).items()}


def of(weights: Any) -> Facts:
    """Of the network that `Weights` are for. A mean's follow from its members'. One that has no name here is measured:
    a variant has other parameters, costs and another receptive field than the network it is named after."""
    named, known = weights.network, read()
    if weights.variant or not all(name in known for name in named.split("+")):
        return measure_network(weights.entry)
    return known.get(named) or of_mean([known[name] for name in named.split("+")])


def of_mean(members: list[Facts]) -> Facts:
    """Of networks without tiles of their own."""
    fields = [member.receptive_field or 0 for member in members]
    return Facts(
        parameters=sum(member.parameters for member in members),
        kmac_per_pixel=sum(member.kmac_per_pixel for member in members),
        multiple_of=math.lcm(*(member.multiple_of for member in members)),
        receptive_field=max(fields),
        origin="the mean of their answers",
        brightens=all(member.brightens for member in members),
    )


def measure(name: str) -> Facts:
    """Counts the parameters and operations and measures the receptive field of a network of the zoo."""
    from deblur_jax.models import zoo

    return measure_network(zoo.get(name))


def measure_network(network: Any) -> Facts:
    """The same of a `zoo.Network`, which may be a variant that has no name."""
    import jax
    import jax.numpy as jnp

    module, multiple = network.deployed(), network.config.multiple_of
    side = 4 * multiple
    picture = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), picture)
    macs = count_macs(jax.make_jaxpr(module.apply)(variables, picture))
    tiling = getattr(network.config, "tiling", None)
    return Facts(
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)),
        kmac_per_pixel=macs / side**2 / 1e3,
        multiple_of=multiple,
        receptive_field=None if tiling else receptive_field(module, multiple),
        origin=network.origin,
        brightens=network.brightens,
        **(tiling or {}),
    )


def count_macs(closed_jaxpr) -> int:
    """Multiply-accumulates of all convolutions and matrix products in a jaxpr, also in the jaxprs inside it.

    Of alternatives (one lowering per platform) the dearest counts.
    """
    from jax.extend import core

    total = 0
    for equation in closed_jaxpr.eqns:
        match equation.primitive.name:
            case "conv_general_dilated":
                kernel, spec = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec
                per_output = math.prod(kernel) // kernel[spec[0]]
                total += math.prod(equation.outvars[0].aval.shape) * per_output
            case "dot_general":
                contracted = equation.params["dimension_numbers"][0][0]
                total += math.prod(equation.outvars[0].aval.shape) * math.prod(
                    equation.invars[0].aval.shape[i] for i in contracted
                )
            case "while" | "scan":
                # A loop's length multiplies what is in it; no network has one, so nobody has counted right yet.
                raise ValueError(f"cannot count the operations of a {equation.primitive.name}")
            case "cond":
                total += max(count_macs(branch) for branch in equation.params["branches"])
            case _:
                inner = (core.Jaxpr, core.ClosedJaxpr)
                total += sum(count_macs(p) for p in equation.params.values() if isinstance(p, inner))
    return total


def receptive_field(module, multiple: int) -> int:
    """Side of the smallest square, centred on any output pixel, that holds every input pixel it depends on.

    Measured along the width, on a strip that is long enough: one column of the input is not-a-number, and
    so is then every output that reads it, however little it weighs. (A gradient would vanish on the way.)
    """
    import jax
    import jax.numpy as jnp

    length = 512
    while True:
        strip = jnp.full((1, multiple, length, 3), 0.5)
        shapes = jax.eval_shape(module.init, jax.random.key(0), strip)
        variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
        apply, reach, whole = jax.jit(module.apply), 0, True
        # How far a column reaches depends on where in a block of `multiple` pixels it lies: try them all.
        for at in range(length // 2 // multiple * multiple, length // 2 // multiple * multiple + multiple):
            tainted = jnp.isnan(apply(variables, strip.at[:, :, at].set(jnp.nan))).any((0, 1, 3))
            columns = jax.device_get(tainted).nonzero()[0]
            reach = max(reach, at - int(columns.min()), int(columns.max()) - at)
            whole &= columns.min() > 0 and columns.max() < length - 1
        if whole:
            return 2 * reach + 1
        length *= 2


def _write() -> None:
    from deblur_jax.models import zoo

    facts = {name: _known(dataclasses.asdict(measure(name))) for name in zoo.NETWORKS}
    PATH.write_text(json.dumps(facts, indent=1) + "\n")


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None or key == "receptive_field"}


if __name__ == "__main__":
    _write()
