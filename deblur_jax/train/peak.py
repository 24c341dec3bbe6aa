"""What the devices do at best, which a training step's speed is a share of."""

import functools
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

_ROUNDS = 5


@functools.cache
def operations_per_second(mesh: Mesh, dtype: str) -> float:
    """Of all devices together, each multiplying large square matrices of its own: the best of a few rounds.

    Measured on all at once, because devices forced on one CPU share its cores. With compiling it takes about a second.
    """
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    side, products = (1024, 1) if on_cpu else (8192, 10)
    shared = NamedSharding(mesh, P(mesh.axis_names))

    def drawn() -> jax.Array:
        # Random: multiplying zeros takes less power and is faster on some devices.
        generator = jax.random.key(0, impl="rbg")
        return jax.random.normal(generator, (mesh.size, side, side), jnp.dtype(dtype)) / side**0.5

    matrices = jax.jit(drawn, out_shardings=shared)()

    @functools.partial(jax.jit, out_shardings=shared)
    def multiply(a: jax.Array) -> jax.Array:
        x = a
        for _ in range(products):
            x = x @ a
        return x

    jax.block_until_ready(multiply(matrices))
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        jax.block_until_ready(multiply(matrices))
        best = min(best, time.perf_counter() - began)
    return 2.0 * side**3 * products * mesh.size / best
