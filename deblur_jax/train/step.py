"""The state of a run, and the one jitted step that changes it."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from optax import contrib

from deblur_jax import metrics
from deblur_jax.blur.synthesis import Recipe, synthesise
from deblur_jax.filters import brightened, darkened, darkness
from deblur_jax.losses import objective
from deblur_jax.models import facts, layers, zoo
from deblur_jax.pipeline.loader import to_float
from deblur_jax.train import mesh as meshes
from deblur_jax.train.config import Config

Batch = dict[str, jax.Array]

_GENTLE = 0.1  # of Muon's rate, for biases and the layers that write the picture


class State(NamedTuple):
    step: jax.Array  # how many are done; also the position in the data
    params: Any
    optimiser: Any
    ema: Any


def optimiser(config: Config) -> optax.GradientTransformation:
    o = config.optim
    rate = optax.warmup_cosine_decay_schedule(0.0, o.lr, min(o.warmup, config.steps - 1), config.steps, o.final)
    clip = optax.clip_by_global_norm(o.clip) if o.clip else optax.identity()

    def kernels(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    # Kernels shrink, biases do not.
    if o.name == "adamw":
        return optax.chain(clip, optax.adamw(rate, *o.betas, weight_decay=o.weight_decay, mask=kernels))
    # A kernel is a matrix from what it sees to what it gives. Its update has the size that Adam's has
    # (arXiv:2502.16982). Biases, which are Adam's, and the last kernels, whose steps all go the same way in the
    # picture, take smaller steps: or ReLUs shut, one after the other, and never open again.
    as_matrix = contrib.MuonDimensionNumbers((0, 1, 2), (3,))
    muon = contrib.muon(
        rate,
        weight_decay=o.weight_decay,
        weight_decay_mask=kernels,
        adam_b1=o.betas[0],
        adam_b2=o.betas[1],
        adam_learning_rate=lambda step: _GENTLE * rate(step),
        muon_weight_dimension_numbers=lambda params: jax.tree.map(lambda p: as_matrix if p.ndim == 4 else None, params),
        consistent_rms=0.2,
    )

    def last(params: Any) -> Any:
        named = jax.tree_util.tree_map_with_path(lambda path, _: "tail" in jax.tree_util.keystr(path), params)
        return jax.tree.map(operator.and_, named, kernels(params))

    return optax.chain(clip, muon, optax.masked(optax.scale(_GENTLE), last))


def start(module: nn.Module, config: Config, mesh: Mesh, params: Any = None) -> State:
    """The state before the first step, on the mesh, the same on any."""
    if params is None:
        # rbg compiles in a fraction of threefry's time, but its numbers depend on the sharding: made in one place.
        key = jax.random.key(config.seed, impl="rbg")
        params = jax.device_get(jax.jit(module.init)(key, jnp.zeros((1, 64, 64, 3)))["params"])

    placed = jax.tree.map(jax.device_put, params, meshes.of_state(mesh, params))
    # Leaf by leaf: one program for all of them would be compiled for minutes where there are thousands. Copies, because
    # the step gives up what it gets.
    params, ema = (jax.tree.map(jnp.copy, placed) for _ in range(2))
    state = State(jnp.zeros((), jnp.int32), params, optimiser(config).init(params), ema)
    return jax.device_put(state, meshes.of_state(mesh, state))


def train_step(
    module: nn.Module, config: Config, mesh: Mesh, recipe: Recipe, recorded: jax.Array | None = None
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """Jitted; the old state is given up. Where loss or gradient are not finite, the gradient counts as zero."""
    update = optimiser(config)
    brightens = zoo.get(config.network).brightens
    shares = [float(share) for share in config.scales] or None
    # At the mean of all parts, as if there were one.
    parts = config.batch // config.at_once if config.at_once else 1

    def loss(params: Any, blur: jax.Array, sharp: jax.Array, dark: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        estimates: Any = module.apply({"params": params}, brightened(blur, dark), train=True)
        estimates = [darkened(estimate, dark) for estimate in estimates]
        targets = layers.targets(sharp, estimates)
        return objective(estimates, targets, weights=dict(config.loss), scale_weights=shares, blurred=blur)

    def gradients(params: Any, blur: jax.Array, sharp: jax.Array, dark: jax.Array) -> Any:
        (value, named), grads = jax.value_and_grad(loss, has_aux=True)(params, blur, sharp, dark)
        return grads, {"loss": value, **named}

    def step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        grown = jnp.minimum(1.0, 0.25 + 0.75 * state.step / config.blur.grow) if config.blur.grow else 1.0
        blur, sharp = pairs(key, batch, recipe=recipe, recorded=recorded, mesh=mesh, reach=grown)
        # Pictures are about as bright as their crops.
        about = jnp.exp(jax.random.uniform(jax.random.fold_in(key, 1), (len(blur),), minval=-0.3, maxval=0.3))
        dark = _darkness(blur, about) * brightens
        if parts == 1:
            grads, named = gradients(state.params, blur, sharp, dark)
        else:
            # Each part has pictures of every device.
            split = [x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1) for x in (blur, sharp, dark)]
            zero = jax.eval_shape(gradients, state.params, *[x[0] for x in split])
            zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zero)

            def add(total: Any, part: Any) -> tuple[Any, None]:
                blur, sharp, dark = part
                blur, sharp = (jax.lax.with_sharding_constraint(x, meshes.pictures(mesh)) for x in (blur, sharp))
                return jax.tree.map(jnp.add, total, gradients(state.params, blur, sharp, dark)), None

            summed = jax.lax.scan(add, zero, split)[0]
            grads, named = jax.tree.map(lambda x: x / parts, summed)
        norm, idle = optax.tree.norm(grads), _idle(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(named["loss"])
        # Not by choosing between the old state and the new one, which takes longer than to compute it.
        grads = jax.tree.map(lambda g: jnp.where(finite, g, 0.0), grads)
        updates, opt = update.update(grads, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        # Early on the mean follows fast, or it would remember the beginning for long.
        decay = jnp.minimum(config.ema, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda e, p: decay * e + (1.0 - decay) * p, state.ema, params)
        new = State(state.step + 1, params, opt, ema)
        # Left to XLA, some leaves would come out sharded in another way, and the second step be compiled once more.
        new = jax.lax.with_sharding_constraint(new, meshes.of_state(mesh, new))
        # The parameters may overflow where the gradient does not.
        sound = jnp.isfinite(optax.tree.norm(params))
        return new, {**named, "gradient": norm, "idle": idle, "finite": finite, "sound": sound}

    platform = mesh.devices.flat[0].platform
    return jax.jit(step, donate_argnums=0, compiler_options=layers.compiler_options(platform))


def _darkness(pictures: jax.Array, about: float | jax.Array = 1.0) -> jax.Array:
    return darkness(about * jnp.median(pictures[:, ::4, ::4], axis=(1, 2, 3)))


def _idle(grads: Any) -> jax.Array:
    """The share of channels whose bias has no gradient at all: their ReLU is shut on the whole batch.

    A network may die without a word while the loss goes down. (What serves scales of weight 0 counts as idle, too.)
    """
    biases = jnp.concatenate([g for g in jax.tree.leaves(grads) if g.ndim == 1])
    return jnp.mean(biases == 0.0)


def operations(config: Config, side: int) -> float:
    """Of a step with one picture: forward and backward are three times the forward pass (what remat computes anew
    is not counted), a multiply-accumulate is two operations."""
    known = facts.read().get(config.network)
    if known and not config.variant:
        return 6e3 * known.kmac_per_pixel * side * side
    entry = zoo.get(config.network)
    module, corner = entry.varied(**config.variant).deployed(), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), corner)
    macs = facts.count_macs(jax.make_jaxpr(module.apply)(variables, corner))
    return 6.0 * macs * side * side / 64**2


def pairs(
    key: jax.Array,
    batch: Batch,
    *,
    recipe: Recipe,
    recorded: jax.Array | None,
    mesh: Mesh,
    reach: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Float pictures from the loader's bytes; those without a blurred partner are blurred here."""

    def shared(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, meshes.pictures(mesh))

    sharp = to_float(batch["sharp"])
    given = to_float(batch["blur"]) if "blur" in batch else None
    frames = None
    if sharp.ndim == 5:  # neighbouring frames; the middle one is what it is about
        middle = sharp.shape[1] // 2
        frames, sharp = sharp, sharp[:, middle]
        given = None if given is None else given[:, middle]
    if given is not None and "paired" not in batch:
        return shared(given), shared(sharp)
    made = synthesise(key, sharp, recipe=recipe, recorded=recorded, frames=frames, reach=reach)
    if given is None:
        return shared(made.blur), shared(made.sharp)
    m = recipe.margin
    paired = batch["paired"][:, None, None, None]
    inner = slice(m, sharp.shape[1] - m)
    blur = jnp.where(paired, given[:, inner, inner], made.blur)
    return shared(blur), shared(jnp.where(paired, sharp[:, inner, inner], made.sharp))


def judge(
    module: nn.Module, mesh: Mesh, *, brightens: bool
) -> Callable[[Any, jax.Array, jax.Array], dict[str, jax.Array]]:
    """Scores of each picture, and the pictures, for the validation."""

    def scores(params: Any, blur: jax.Array, sharp: jax.Array) -> dict[str, jax.Array]:
        dark = _darkness(blur) * brightens
        estimate: Any = module.apply({"params": params}, brightened(blur, dark))
        estimate = darkened(estimate, dark)
        estimate = jnp.clip(estimate.astype(jnp.float32), 0.0, 1.0)
        return {
            "psnr": metrics.psnr(estimate, sharp),
            "ssim": metrics.ssim(estimate, sharp),
            "laplacian": metrics.laplacian_score(estimate),
            "estimate": estimate,
        }

    options = layers.compiler_options(mesh.devices.flat[0].platform)
    return jax.jit(scores, out_shardings=meshes.everywhere(mesh), compiler_options=options)
