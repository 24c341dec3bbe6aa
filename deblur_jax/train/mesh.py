"""Devices in a mesh of three axes, and what lies where.

`data` and `fsdp` share the pictures of a batch, `fsdp` besides the parameters and the optimiser state, `space` the rows
of each picture (XLA exchanges the rows that convolutions need from their neighbours).
"""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deblur_jax.errors import UserError

AXES = ("data", "fsdp", "space")


def make(data: int = -1, fsdp: int = 1, space: int = 1) -> Mesh:
    """One -1 is whatever devices are left."""
    sizes, devices = [data, fsdp, space], jax.device_count()
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise UserError(f"the mesh's axes must be 1 or more, one of them may be -1: {_told(sizes)}")
    if -1 in sizes:
        asked = -sizes[0] * sizes[1] * sizes[2]
        if devices % asked:
            raise UserError(f"{devices} devices cannot be shared by {_told(sizes)}")
        sizes[sizes.index(-1)] = devices // asked
    asked = sizes[0] * sizes[1] * sizes[2]
    if asked > devices:
        raise UserError(f"the mesh {_told(sizes)} needs {asked} devices; there are {devices} ({jax.default_backend()})")
    if asked < devices and jax.process_count() > 1:
        raise UserError(
            f"the mesh {_told(sizes)} leaves some of {devices} devices out; with several processes it may not"
        )
    mesh = jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:asked])
    # Each process brings pictures of its own.
    if any(len({device.process_index for device in rows}) > 1 for rows in mesh.devices.reshape(-1, sizes[2])):
        raise UserError(
            f"the mesh {_told(sizes)} shares the rows of a picture among processes; "
            f"space must divide the {jax.local_device_count()} devices of one"
        )
    return mesh


def _told(sizes: list[int]) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))


def rows_of_batch(mesh: Mesh) -> NamedSharding:
    """How batches arrive: shared by picture."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def pictures(mesh: Mesh) -> NamedSharding:
    """How they are computed: `b h w c`, the height shared too."""
    return NamedSharding(mesh, P(("data", "fsdp"), "space"))


def everywhere(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def of_state(mesh: Mesh, state: Any) -> Any:
    """Shardings of a tree of arrays: the last axis that `fsdp` divides, of all but small leaves."""

    def one(leaf: Any) -> NamedSharding:
        shards = mesh.shape["fsdp"]
        if shards > 1 and leaf.size >= 4096:
            for axis in reversed(range(leaf.ndim)):
                if leaf.shape[axis] % shards == 0:
                    return NamedSharding(mesh, P(*[None] * axis, "fsdp"))
        return everywhere(mesh)

    return jax.tree.map(one, state)
