"""A whole training step against the same network's in PyTorch, eager and compiled: same batch, same precision.

On two CPU cores (float32, two crops of 128x128, PyTorch 2.15) ours, eager and compiled took, in milliseconds:

               Nano           Small             Medium            Large
    jax 0.10   34 : 75 : 62   306 : 404 : 370   457 : 866 : 804   1596 : 2466 : 2372
    jax 0.12   37 : 91 : 77   290 : 495 : 436   574 : 947 : 873   1261 : 2571 : 2419

Of one run each; the same work took up to a quarter more or less from run to run. Ours hold 51, 168, 306 and 812 MB.

What costs is the convolutions, and `models.winograd` needs a quarter of their products: one with 24 channels at 128x128
takes 3.1 ms forward and 7.3 ms for both gradients (jax 0.10; PyTorch 2.8 and 5.6), with 64 at 64x64 2.3 and 5.1 (3.4,
7.7), with 104 at 32x32 2.0 and 3.9 (2.7 and 5.8), with 192 there 3.1 and 6.1 (ours without it 6.8 and 15.0). So shares
of the peak, which count the products of plain convolutions, may be more than one. Before it Small took 532 and Large
3754 ms (jax 0.10). A quarter of what is left is passes that make and join tiles, at some 20 GB/s; of the processor's
time in Large's step a tenth to a quarter is the system's, for 145 000 pages (and twice as many where XLA holds on to
what the backward pass is to compute anew: `layers.compiler_options`).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.bench import machine
from deblur_jax.bench.measure import Timing, interleaved
from deblur_jax.bench.synthesis import _crops
from deblur_jax.blur.synthesis import Recipe
from deblur_jax.errors import UserError
from deblur_jax.losses import objective
from deblur_jax.models import layers, zoo
from deblur_jax.train import config as configs
from deblur_jax.train import mesh as meshes
from deblur_jax.train import peak
from deblur_jax.train import step as steps

NETWORKS = ("nano", "small", "medium", "large")
OURS = "deblur_jax"
_TOLERANCE = 1e-4


class Figures(NamedTuple):
    network: str
    work: str
    timing: Timing | None
    images_per_s: float
    utilisation: float  # of the peak of the same device and precision
    memory: int | None  # bytes at most; None where nobody counts them
    note: str = ""


def dtype_here() -> str:
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def peak_here() -> float:
    return peak.operations_per_second(meshes.make(1), dtype_here())


def compare(networks: Sequence[str], *, batch: int, side: int, rounds: int) -> Iterator[Figures]:
    """Ours, eager PyTorch and compiled PyTorch of each network. It fails if theirs computes something else."""
    try:
        from deblur_jax.bench import torch_networks
    except ImportError:
        raise UserError("PyTorch, which this compares with, is not installed: pip install torch") from None
    import torch  # pyright: ignore[reportMissingImports]

    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"JAX runs on {jax.devices()[0].device_kind}, and this PyTorch has no device but the CPU")
    for name in networks:
        if name not in NETWORKS:
            raise UserError(f"--networks: there are {', '.join(NETWORKS)} here, not {name!r}")
        agree(name, device)
        works, memory, notes = {}, {}, {}
        config = _config(name, batch, side)
        pictures = np.rint(255 * _crops(batch, side)).astype(np.uint8)
        given = {"blur": pictures, "sharp": pictures[:, ::-1].copy()}
        works[OURS], params, memory[OURS] = _ours(config, given)
        for work in ("PyTorch eager", "PyTorch compiled"):
            before = torch.cuda.memory_allocated() if device == "cuda" else 0
            network = torch_networks.build(zoo.get(name).config, params, device)
            try:
                peer = torch_networks.Step(network, given, config, half=device == "cuda", compiled="compiled" in work)
                if device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                peer()
                works[work] = peer
                memory[work] = torch.cuda.max_memory_allocated() - before if device == "cuda" else None
            except Exception as error:
                # Compiling asks for a C++ compiler or Triton, and fails in as many ways as there are setups.
                if "compiled" not in work:
                    raise
                notes[work] = f"does not run here: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        highest = _most_in_use()
        timings = interleaved(works, rounds=rounds)
        if _most_in_use() > highest:  # of the whole process so far: only a new height is this network's
            memory[OURS] = _most_in_use()
        operations = batch * steps.operations(config, side)
        for work, timing in timings.items():
            share = operations / timing.median / peak_here()
            yield Figures(name, work, timing, batch / timing.median, share, memory[work])
        for work, note in notes.items():
            yield Figures(name, work, None, 0.0, 0.0, None, note)


def _most_in_use() -> int:
    """What a GPU's allocator counted; a CPU's does not."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _config(name: str, batch: int, side: int) -> Any:
    config = configs.base()
    config.network, config.batch, config.crop, config.dtype = name, batch, ((0, side),), dtype_here()
    config.mesh.data = 1
    return configs.complete(config)


def _ours(config: Any, given: dict[str, np.ndarray]) -> tuple[Callable[[], Any], Any, int | None]:
    """The step of `deblur train`, its parameters before it, and its memory."""
    mesh = meshes.make(**config.mesh)
    module = zoo.get(config.network).varied(**config.variant).training(dtype=jnp.dtype(config.dtype).type)
    state = steps.start(module, config, mesh)
    params = jax.device_get(state.params)
    batch = jax.device_put(given, meshes.rows_of_batch(mesh))
    jitted: Any = steps.train_step(module, config, mesh, Recipe())
    step = jitted.lower(state, batch).compile()
    held = [state]

    def work() -> Any:
        held[0], numbers = step(held[0], batch)
        return numbers

    planned = step.memory_analysis()
    memory = None
    if planned is not None:
        kept = planned.argument_size_in_bytes + planned.output_size_in_bytes - planned.alias_size_in_bytes
        memory = kept + planned.temp_size_in_bytes
    return work, params, memory


def agree(name: str, device: str) -> None:
    """Fails where estimates, loss or gradient of PyTorch's network differ from ours, in float32."""
    import torch  # pyright: ignore[reportMissingImports]

    from deblur_jax.bench import torch_networks

    module, generator = zoo.get(name).training(), np.random.default_rng(0)
    blur, sharp = generator.random((2, 1, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), blur)["params"]
    # Random ones: of the initial parameters the last layer is nearly zero.
    params = jax.tree.map(
        lambda leaf: (0.5 * generator.normal(size=leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5).astype("f4"),
        shapes,
    )

    @jax.jit
    def ours(params: Any) -> Any:
        def loss(params: Any) -> Any:
            estimates: Any = module.apply({"params": params}, blur, train=True)
            targets = layers.pyramid(jnp.asarray(sharp), len(estimates))
            return objective(estimates, targets, weights={"l1": 1.0, "ssim": 0.1})[0], estimates

        (value, estimates), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return estimates, value, gradient

    with jax.default_matmul_precision("highest"):
        estimates, value, gradient = jax.device_get(ours(params))
    torch.backends.cudnn.allow_tf32, before = False, torch.backends.cudnn.allow_tf32
    network = torch_networks.build(zoo.get(name).config, params, device)
    there = [torch.from_numpy(x).to(device).permute(0, 3, 1, 2) for x in (blur, sharp)]
    theirs: Any = [e.detach().permute(0, 2, 3, 1).cpu().numpy() for e in network(there[0])]
    loss = torch_networks.objective(network, there[0], there[1], 0.1)
    loss.backward()
    torch.backends.cudnn.allow_tf32 = before
    norms = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(gradient)))
    their_norm = float(sum((p.grad**2).sum() for p in network.parameters())) ** 0.5
    compared = [*zip(estimates, theirs, strict=True), (value, loss.item()), (norms, their_norm)]
    worst = max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in compared)
    if not worst <= _TOLERANCE:
        raise UserError(f"{name}: PyTorch's network computes something else: they differ by {worst:.2g}")


def record(figures: Sequence[Figures], *, command: str, **about: Any) -> dict[str, Any]:
    """What is kept of a run."""
    return {
        **machine.about(command),
        "dtype": dtype_here(),
        "peak_tflops": peak_here() / 1e12,
        **about,
        "figures": [{**f._asdict(), "timing": f.timing and f.timing._asdict()} for f in figures],
    }
