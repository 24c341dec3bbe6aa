"""What all tests need. The devices must be forced before JAX starts."""

import os
import tempfile
from pathlib import Path

# Compiling is most of the time, and a third of that is optimising. (`make test-all` optimises the slow ones; the last
# flag counts.)
os.environ["XLA_FLAGS"] = (
    f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Both workers, and the commands that tests start, share what was compiled.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Where TensorFlow is installed beside, stores would be asked through it, and it knows but the real ones.
os.environ["EPATH_USE_TF"] = "false"
# Weights that somebody keeps on this machine are no business of the tests.
os.environ["XDG_DATA_HOME"] = str(Path(tempfile.gettempdir(), f"deblur-tests-{os.getpid()}"))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import samples, weights
from deblur_jax.models import zoo
from deblur_jax.models.nano import Nano, NanoConfig, merge
from deblur_jax.restore import read_image


@pytest.fixture(scope="session")
def photo() -> jax.Array:
    """A batch of one real photograph, 96x131 pixels."""
    return jnp.asarray(read_image(samples.PICTURES[-1])[None, 200:296, 300:431])


@pytest.fixture
def noise():
    """Uniform noise of a given shape."""
    return lambda *shape, seed=0: jax.random.uniform(jax.random.key(seed), shape, jnp.float32)


@pytest.fixture
def initialise():
    """A module's own initial variables. (The rbg generator: threefry takes 20 s to compile for a few layers.)"""
    return lambda module, x, seed=0: jax.jit(module.init)(jax.random.key(seed, impl="rbg"), x)


@pytest.fixture
def random_variables():
    """Variables for a module without running its initialisers, which would take seconds to compile."""

    def fill(module, *, seed=0, scale=1.0):
        generator = np.random.default_rng(seed)
        shapes = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))

        def draw(leaf):
            fan_in = max(1, np.prod(leaf.shape[:-1]))
            return jnp.asarray(scale * generator.normal(size=leaf.shape) / np.sqrt(fan_in), leaf.dtype)

        return jax.tree.map(draw, shapes)

    return fill


@pytest.fixture
def nano(random_variables, tmp_path, monkeypatch):
    """Saves weights of a Nano whose last layer is scaled down; returns the file's path.

    The zoo's Nano is a small one meanwhile, for the compiler's sake; the real one's facts hold for it all the more.
    """
    tiny = NanoConfig(widths=(6, 8), down_blocks=(1,), middle_blocks=1, up_blocks=(1,))
    monkeypatch.setitem(zoo.NETWORKS, "nano", zoo.Network(Nano, tiny, "ours", merge))

    def nano(name="mild.safetensors", *, seed=0, scale=0.02):
        params = jax.tree.map(np.asarray, random_variables(zoo.get("nano").deployed(), seed=seed))["params"]
        params["tail"] = jax.tree.map(lambda leaf: scale * leaf, params["tail"])
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        weights.save(tmp_path / name, network="nano", params=params, card={"data": "noise"}, merged=True)
        return tmp_path / name

    return nano
