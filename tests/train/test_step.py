import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deblur_jax.blur.clips import average_frames
from deblur_jax.blur.synthesis import Recipe
from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.train import mesh as meshes
from deblur_jax.train import peak
from deblur_jax.train import step as steps
from tests.train.conftest import TINY


def trained(config, count=3, *, batches=None, recipe=None):
    """The state after some steps on random pairs."""
    mesh = meshes.make(**config.mesh)
    module = zoo.get(config.network).varied(**config.variant).training()
    state = steps.start(module, config, mesh)
    step = steps.train_step(module, config, mesh, recipe or Recipe())
    generator = np.random.default_rng(0)
    numbers = []
    for i in range(count):
        batch = {name: generator.integers(0, 256, (8, 32, 32, 3), np.uint8) for name in ("blur", "sharp")}
        for pictures in batch.values():
            pictures[::2] //= 8  # every other one is dark
        if batches:
            batch = batches(i, batch)
        batch = {name: jax.device_put(value, meshes.rows_of_batch(mesh)) for name, value in batch.items()}
        state, out = step(state, batch)
        numbers.append(jax.device_get(out))
    return state, numbers


def close(a, b, tolerance=1e-5):
    for one, other in zip(jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b)), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


@pytest.fixture(scope="module")
def cache():
    return {}


@pytest.fixture
def alone(tiny, cache):
    if "alone" not in cache:
        cache["alone"] = trained(tiny())
    return cache["alone"]


@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 4, 1), (2, 2, 2)], ids=str)
def test_layouts_agree_with_one_device(tiny, alone, mesh):
    state, numbers = trained(tiny(mesh=dict(zip(meshes.AXES, mesh, strict=True))))
    close(numbers, alone[1])
    close(state.params, alone[0].params)
    close(state.ema, alone[0].ema)


def test_fsdp_shares_parameters_and_optimiser(tiny):
    config = tiny(mesh={"data": 1, "fsdp": 4, "space": 1}, variant={**TINY, "widths": (32,)})
    mesh = meshes.make(**config.mesh)
    state = steps.start(zoo.get("nano").varied(**config.variant).training(), config, mesh)
    for tree in (state.params, state.optimiser, state.ema):
        large = [leaf for leaf in jax.tree.leaves(tree) if leaf.size >= 4096]
        assert large
        for leaf in large:
            assert leaf.addressable_shards[0].data.size == leaf.size // 4


def test_a_step_gives_the_state_back_as_it_lay(tiny):
    """Or it would be compiled twice, which takes minutes for a large network."""
    levels = {"widths": (8, 16, 128), "down_blocks": (0, 0), "up_blocks": (0, 0)}
    config = tiny(mesh={"data": 1, "fsdp": 2, "space": 1}, variant={**TINY, **levels})
    state, _ = trained(config, 1)
    lies = jax.tree.map(lambda leaf: leaf.sharding, state)
    asked = meshes.of_state(meshes.make(**config.mesh), state)
    for leaf, one, other in zip(*map(jax.tree.leaves, (state, lies, asked)), strict=True):
        assert one.is_equivalent_to(other, leaf.ndim)


@pytest.mark.slow
def test_accumulation_equals_the_whole_batch(tiny, alone):
    state, numbers = trained(tiny(at_once=2))
    close(numbers, alone[1])
    close(state.params, alone[0].params)
    close(trained(tiny(at_once=4, mesh={"data": 2, "fsdp": 2, "space": 1}))[0].params, alone[0].params)


def test_where_the_loss_is_not_finite_the_gradient_counts_as_zero(tiny, alone, monkeypatch):
    real = steps.to_float
    # Bytes cannot hold a NaN; the float pictures of a batch of zeros become one.
    monkeypatch.setattr(steps, "to_float", lambda x: jnp.where(x.max() == 0, jnp.nan, real(x)))
    state, numbers = trained(tiny(), 2, batches=lambda i, b: {n: v * (i != 1) for n, v in b.items()})
    once, _ = trained(tiny(), 1)
    assert [bool(n["finite"]) for n in numbers] == [True, False]
    assert int(state.step) == 2
    zero = jax.tree.map(jnp.zeros_like, once.params)
    updates, expected = steps.optimiser(tiny()).update(zero, once.optimiser, once.params)
    close(state.optimiser, expected)
    close(state.params, optax.apply_updates(once.params, updates))


@pytest.mark.slow
def test_only_given_pairs_use_what_was_given():
    """Pictures with a partner keep it; the others are blurred here, with the margin cut off."""
    mesh = meshes.make(1)
    recipe = Recipe(shares=(("gaussian", 1.0),), margin=4, kernel_size=9)
    generator = np.random.default_rng(0)
    batch = {name: jnp.asarray(generator.integers(0, 256, (2, 40, 40, 3), np.uint8)) for name in ("blur", "sharp")}
    batch["paired"] = jnp.array([True, False])
    blur, sharp = steps.pairs(jax.random.key(0), batch, recipe=recipe, recorded=None, mesh=mesh)
    assert blur.shape == sharp.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(blur[0], batch["blur"][0, 4:36, 4:36].astype(np.float32) / np.float32(255))
    assert jnp.abs(blur[1] - batch["blur"][1, 4:36, 4:36] / 255.0).max() > 0.1
    assert jnp.std(blur[1]) < jnp.std(sharp[1])


def test_dark_crops_are_brightened_and_judged_as_they_were(tiny):
    """As the `Restorer` does with whole pictures, so that a network learns what it will see."""
    config, mesh = tiny(), meshes.make(1)
    module = zoo.get("nano").varied(**config.variant).training()
    params = steps.start(module, config, mesh).params
    generator = np.random.default_rng(3)
    blur, sharp = (jnp.asarray(generator.random((2, 32, 32, 3), np.float32) ** [[[[1]]], [[[7]]]]) for _ in range(2))
    found = steps.judge(module, mesh, brightens=True)(params, blur, sharp)["estimate"]
    by_hand = jax.jit(module.apply)({"params": params}, jnp.concatenate([blur[:1], jnp.sqrt(blur[1:])]))
    assert 0.001 < np.median(blur[1]) < 0.02  # the square root it is
    np.testing.assert_allclose(found[0], jnp.clip(by_hand[0], 0.0, 1.0), atol=1e-6)
    np.testing.assert_allclose(found[1], jnp.clip(by_hand[1], 0.0, 1.0) ** 2, atol=1e-5)


def test_strengths_grow_with_the_steps(tiny):
    """The same sharp pictures, blurred more from step to step until they are blurred as much as without growing."""
    recipe = Recipe(shares=(("gaussian", 1.0),), margin=4, kernel_size=17, noisy=0.0, compressed=0.0)
    sharp = np.random.default_rng(5).integers(0, 256, (8, 40, 40, 3), np.uint8)
    losses = []
    for grow in (8, 0):
        config = tiny()
        config.blur.grow, config.optim.lr = grow, 0.0
        _, numbers = trained(config, 9, batches=lambda *_: {"sharp": sharp}, recipe=recipe)
        losses.append([float(n["l1"]) for n in numbers])
    growing, whole = losses
    assert growing[0] < 0.9 * whole[0]
    assert growing[-1] == pytest.approx(whole[-1], rel=1e-5)


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        ((3, 3, 1), "needs 9 devices; there are 8"),
        ((-1, 3, 1), "8 devices cannot be shared"),
        ((-1, -1, 1), "one of them may be -1"),
        ((0, 1, 1), "must be 1 or more"),
    ],
)
def test_meshes_that_cannot_be(mesh, words):
    with pytest.raises(UserError, match=words):
        meshes.make(*mesh)


@pytest.mark.slow
def test_remat_computes_the_same_in_less_memory(tiny):
    """Two steps agree; what is held beside state and batch is less than half."""

    def run(remat):
        variant = {"scales": 1, "widths": (16,), "blocks": (12,)}
        config = tiny(network="small", variant=variant, remat=remat)
        config.loss.ssim = 0.0
        mesh = meshes.make(**config.mesh)
        module = zoo.get("small").varied(**variant).training(remat=remat)
        generator = np.random.default_rng(0)
        batch = {name: generator.integers(0, 256, (8, 32, 32, 3), np.uint8) for name in ("blur", "sharp")}
        state = steps.start(module, config, mesh)
        compiled = steps.train_step(module, config, mesh, Recipe()).lower(state, batch).compile()
        for _ in range(2):
            state, numbers = compiled(state, batch)
        return state, numbers, compiled.memory_analysis().temp_size_in_bytes

    (plain, numbers, most), (again, same, less) = run(False), run(True)
    close(same, numbers, 1e-6)
    close(again, plain, 1e-6)  # the same tree, too
    assert less < 0.5 * most


def test_a_scale_left_out_is_neither_taught_nor_computed(tiny):
    def run(scales):
        variant = {"scales": 2, "widths": (12, 4), "blocks": (2, 1)}
        config = tiny(network="small", variant=variant, scales=scales)
        config.loss.ssim = config.optim.weight_decay = 0.0
        mesh = meshes.make(**config.mesh)
        module = zoo.get("small").varied(**variant).training()
        generator = np.random.default_rng(0)
        batch = {name: generator.integers(0, 256, (8, 32, 32, 3), np.uint8) for name in ("blur", "sharp")}
        state = steps.start(module, config, mesh)
        before = jax.device_get(state.params)
        compiled = steps.train_step(module, config, mesh, Recipe()).lower(state, batch).compile()
        for _ in range(2):
            state, _ = compiled(state, batch)
        same = jax.tree.map(lambda a, b: bool((a == b).all()), before, jax.device_get(state.params))
        taught = {name.split("_")[0] for name, leaves in same.items() if not all(jax.tree.leaves(leaves))}
        return taught, compiled.cost_analysis()["flops"]

    (all_of_them, most), (coarse, less) = run(()), run((0, 1))
    assert (all_of_them, coarse) == ({"scale0", "scale1"}, {"scale1"})
    assert less < 0.3 * most
    with pytest.raises(UserError, match="2 scales need as many weights"):
        run((0, 0, 1))


def test_idle_counts_what_shut_relus_leave_without_gradient(tiny):
    config = tiny()
    mesh = meshes.make(**config.mesh)
    module = zoo.get(config.network).varied(**config.variant).training()
    state = steps.start(module, config, mesh)
    biases = [p.size for p in jax.tree.leaves(state.params) if p.ndim == 1]
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    params = jax.device_get(state.params)
    params["head"]["bias"] = params["head"]["bias"] - 100.0
    shut = steps.start(module, config, mesh, params)
    step = steps.train_step(module, config, mesh, Recipe())
    alive, dead = (float(step(s, {"blur": noise, "sharp": noise // 2})[1]["idle"]) for s in (state, shut))
    assert alive == 0.0
    assert dead == pytest.approx(params["head"]["bias"].size / sum(biases))


def test_muon_takes_small_steps_with_biases_and_the_last_layer(tiny):
    config = tiny()
    config.optim.name, config.optim.lr, config.optim.warmup, config.optim.weight_decay = "muon", 1e-3, 0, 0.0
    module = zoo.get(config.network).varied(**config.variant).training()
    params = steps.start(module, config, meshes.make(**config.mesh)).params
    update = steps.optimiser(config)
    generator = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: generator.normal(size=p.shape).astype(np.float32), params)
    changes = update.update(grads, update.init(params), params)[0]
    rms = jax.tree.map(lambda c: float(jnp.sqrt(jnp.mean(c**2))), changes)
    assert rms["head"]["kernel"] == pytest.approx(0.2e-3, rel=0.3)
    assert rms["tail"]["kernel"] == pytest.approx(0.2e-4, rel=0.3)
    assert 0.5e-4 < rms["head"]["bias"] < 2e-4


def test_operations_are_those_of_the_variant(tiny):
    config = tiny(network="small", variant={})
    known = steps.operations(config, 64)
    assert known == pytest.approx(6 * 249.7e3 * 64 * 64, rel=1e-3)
    config.variant = {"blocks": (6, 6, 6)}  # what Small has anyway
    assert steps.operations(config, 64) == pytest.approx(known, rel=1e-6)
    config.variant = {"blocks": (1, 1, 1)}
    assert steps.operations(config, 64) < 0.3 * known
    config.network, config.variant = "small+small", {}  # of which no facts are listed
    assert steps.operations(config, 64) == pytest.approx(2 * known, rel=1e-6)


def test_the_peak_is_measured_once_for_the_devices():
    alone, both = meshes.make(1), meshes.make(2)
    measured = peak.operations_per_second(alone, "float32")
    assert 1e8 < measured < 1e16
    assert peak.operations_per_second(alone, "float32") == measured
    assert peak.operations_per_second(both, "float32") != measured


def test_averaged_frames_are_the_blurred_picture():
    """With a plain camera: the mean of the frames' light, and the middle frame."""
    plain = {"margin": 4, "saturated": 0.0, "noisy": 0.0, "compressed": 0.0, "exposure": (1.0, 1.0)}
    plain |= {"white_balance": (1.0, 1.0), "contrast": (0.0, 0.0), "other_gamma": 0.0, "grey": 0.0, "flat": 0.0}
    frames = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24, 3), np.uint8))
    recipe = Recipe(shares=(("frames", 1.0),), **plain)
    blur, sharp = steps.pairs(jax.random.key(0), {"sharp": frames}, recipe=recipe, recorded=None, mesh=meshes.make(1))
    inner = frames[:, :, 4:20, 4:20] / 255.0
    np.testing.assert_allclose(sharp, inner[:, 1], atol=0.51 / 255)
    means = jax.vmap(lambda clip: average_frames(clip, between=0))(inner)
    np.testing.assert_allclose(blur, means, atol=0.51 / 255)
