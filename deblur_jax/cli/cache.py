"""Compiled networks are kept between calls, so that the second call starts fast."""

import os
from pathlib import Path


def use_compile_cache() -> None:
    """In the user's cache folder, unless JAX has been told of another one or it cannot be made."""
    import jax

    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deblur_jax" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
