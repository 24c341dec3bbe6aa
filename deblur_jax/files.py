"""How files are written: whole or not at all; and where they may be."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deblur_jax.errors import UserError


def is_address(path: str | Path) -> bool:
    """Of an object store, such as gs://bucket/folder. `Path` would silently make a folder called `gs:` of it."""
    return "://" in str(path)


def local(path: str | Path) -> Path:
    """The path, where only a folder will do."""
    if is_address(path):
        raise UserError(f"{path}: pictures are read from folders: mount the store, or copy it")
    return Path(path)


@contextlib.contextmanager
def store(address: str) -> Iterator[Any]:
    """An address as something like a `Path`. Whatever goes wrong there is one line with the address."""
    from etils import epath

    try:
        yield epath.Path(address)
    except UserError:
        raise
    except ImportError as error:
        package = {"gs": "gcsfs", "s3": "s3fs"}.get(address.partition("://")[0], error.name)
        raise UserError(f"{address}: reading this needs another package: pip install {package}") from None
    except Exception as error:  # each store has its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{address}: {reason}") from None


def make_folder(folder: Path) -> None:
    """With all folders above it; one that is there stays."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or none: written beside under another name, then renamed. A link stays one, to the new file."""
    real = Path(os.path.realpath(path))
    try:
        # The name must not become too long.
        with tempfile.NamedTemporaryFile(dir=real.parent, prefix=f".{real.name[:40]}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(temporary, _mode(real))
                os.replace(temporary, real)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _mode(path: Path) -> int:
    """The file's own if it is there; temporary files are private, results are not."""
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
