"""How files are written: whole or not at all; and where they may be."""

import os
import tempfile
from pathlib import Path

from deblur_jax.errors import UserError


def local(path: str | Path) -> Path:
    """The path, unless it is an address, of which `Path` would silently make a folder called `gs:`."""
    if "://" in str(path):
        scheme = str(path).partition("://")[0]
        raise UserError(f"{path}: object stores are not supported yet; mount it as a folder (not {scheme}://)")
    return Path(path)


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or none: written beside under another name, then renamed."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(temporary, 0o666 & ~umask)  # temporary files are private, results are not
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
