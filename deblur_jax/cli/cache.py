"""Compiled networks are kept between calls, so that the second call starts fast."""

import contextlib
import os
from pathlib import Path

_MOST = 100_000_000  # bytes; Nano at one size takes 0.05 million


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
    prune(folder, _MOST)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def prune(folder: Path, most: int) -> None:
    """Where there is more than that, what was not read for longest goes, down to half of it."""
    with contextlib.suppress(OSError):  # another process may be at it too
        files = [(status.st_atime, status.st_size, path) for path in folder.iterdir() for status in [path.stat()]]
        total = sum(size for _, size, _ in files)
        if total <= most:
            return
        for _, size, path in sorted(files):
            if total <= most / 2:
                break
            path.unlink(missing_ok=True)
            total -= size
