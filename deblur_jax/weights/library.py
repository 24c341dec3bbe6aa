"""The user's own sets of weights, by name: in one folder, each with its checksum.

Everything else below `cli` leaves the environment alone. This folder is the exception, because `Restorer("my-weights")`
must find in Python what the command line has put there.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from deblur_jax.errors import UserError
from deblur_jax.files import make_folder, write_whole
from deblur_jax.models import zoo
from deblur_jax.weights import store
from deblur_jax.weights.store import Weights

__all__ = ["add", "check", "check_new", "folder", "keep", "load", "names", "path", "remove"]

# As files they must be safe everywhere: some systems tell no capitals apart, and dots begin suffixes.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def folder() -> Path:
    """Where they are: $XDG_DATA_HOME/deblur_jax/weights, or that in ~/.local/share."""
    given = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(given):  # others do not count, by the convention
        return Path(given, "deblur_jax", "weights")
    try:
        return Path.home() / ".local" / "share" / "deblur_jax" / "weights"
    except RuntimeError:
        raise UserError("no home folder is known to keep weights in: set XDG_DATA_HOME to a folder") from None


def names() -> list[str]:
    with contextlib.suppress(UserError):  # without a home there are none
        found = [file for file in folder().glob("*.safetensors") if os.path.isfile(file)]
        return sorted(file.stem for file in found if _NAME.fullmatch(file.stem))
    return []


def path(name: str) -> Path:
    """Of the set called so, which must be there."""
    if name not in names():
        raise UserError(f"{name}: no weights of yours are called so ({', '.join(names()) or 'there are none'})")
    return _file(name)


def load(name: str) -> Weights:
    """The set called so, if it is still what was added."""
    check(name)
    return store.load(path(name))


def check(name: str) -> None:
    """Refuses a file that is no longer what was added."""
    file, noted = path(name), _noted(name)
    again = f"add it again with --overwrite, or deblur weights remove {name}"
    if not noted:
        raise UserError(f"{file}: has no checksum beside it ({_note(name).name}); {again}")
    if _digest(_read(file)) not in noted:
        raise UserError(f"{file}: damaged, its sha256 is not the one it was added with; {again}")


def add(file: Path, *, name: str | None = None, sha256: str | None = None, overwrite: bool = False) -> Path:
    """Copies a weights file into the folder, under its own name or another; returns where it is.

    With `sha256`, only the file that has it.
    """
    file = Path(file)
    name = file.stem if name is None else name
    check_new(name, overwrite=overwrite)
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UserError(f"--sha256 must be 64 hexadecimal digits, not {sha256!r}")
    data = _read(file)
    if sha256 is not None and _digest(data) != sha256.lower():
        raise UserError(f"{file}: not the file that was meant, its sha256 is {_digest(data)}")
    store.load(file)
    return _install(name, data)


def keep(weights: Weights, name: str, *, overwrite: bool = False) -> Path:
    """Adds weights that are no file yet."""
    check_new(name, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, f"{name}.safetensors")
        store.save(
            file,
            network=weights.network,
            params=weights.params,
            card=weights.card,
            merged=weights.merged,
            variant=weights.variant,
        )
        return _install(name, _read(file))


def remove(name: str) -> None:
    file = path(name)
    try:
        file.unlink()
        _note(name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{file}: cannot be removed: {error.strerror}") from None


def check_new(name: str, *, overwrite: bool = False) -> None:
    """Refuses names that cannot be given: unsafe ones, those of networks and bundled weights, and those that are taken.

    A network's name stays its own, whatever the file holds: it means the weights that this version comes with, or none.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot be a name: a to z, digits, - and _ only, at most 64; give another with --as")
    if name in zoo.NETWORKS or name in store.bundled():
        raise UserError(f"{name}: the name of a network that comes with the package; give another with --as")
    if name in names() and not overwrite:
        raise UserError(f"{_file(name)}: exists already; --overwrite replaces it")


def _install(name: str, data: bytes) -> Path:
    file, note, digest = _file(name), _note(name), _digest(data)
    make_folder(folder())
    # Until the new file is in place both checksums hold, so that a crash at any moment leaves a good set.
    before = _noted(name) if file.is_file() else []
    try:
        write_whole(note, _lines(name, [*before, digest]))
        write_whole(file, data)
    except BaseException:
        _take_back(name, before)
        raise
    if before:
        with contextlib.suppress(UserError):  # both may stay
            write_whole(note, _lines(name, [digest]))
    return file


def _take_back(name: str, before: list[str]) -> None:
    with contextlib.suppress(UserError, OSError):
        if _file(name).is_file():
            write_whole(_note(name), _lines(name, before))
        else:
            _note(name).unlink(missing_ok=True)


def _file(name: str) -> Path:
    return folder() / f"{name}.safetensors"


def _note(name: str) -> Path:
    """Its checksum, as `sha256sum -c` reads it."""
    return folder() / f"{name}.sha256"


def _noted(name: str) -> list[str]:
    try:
        return [line.split()[0] for line in _note(name).read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return []


def _lines(name: str, digests: list[str]) -> bytes:
    return "".join(f"{digest}  {name}.safetensors\n" for digest in digests).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from None
