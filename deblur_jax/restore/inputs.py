"""Which pictures and clips are meant by the words on a command line."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deblur_jax.errors import UserError
from deblur_jax.restore.pictures import READABLE_SUFFIXES

__all__ = ["NUMBER", "READABLE_CLIPS", "WRITABLE_CLIPS", "Found", "Inputs", "collect", "is_clip", "is_pattern"]

# What each suffix is written as. Other containers keep no exact times (avi, flv), and are read alone.
WRITABLE_CLIPS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".mts": "mpegts",
    ".m2ts": "mpegts",
}
READABLE_CLIPS = (*WRITABLE_CLIPS, ".avi", ".mpg", ".mpeg", ".3gp", ".flv", ".wmv", ".ogv")


NUMBER = re.compile(r"%(?:0?(\d+))?d")  # of numbered pictures


def is_pattern(path: str | Path) -> bool:
    """Of numbered pictures, such as `in/%05d.png`; a file that is called so is that file."""
    path = Path(path)
    return bool(NUMBER.search(path.name)) and path.suffix.lower() not in READABLE_CLIPS and not os.path.lexists(path)


def is_clip(path: Path) -> bool:
    return path.suffix.lower() in READABLE_CLIPS or is_pattern(path)


@dataclass(frozen=True)
class Found:
    path: Path
    root: Path  # the folder that was named, or the file's own: outputs may mirror what lies below it


class Inputs(list[Found]):
    """The pictures in the order of the words; those of a folder in natural order (9 before 10)."""

    skipped: int = 0  # files in folders and patterns that have another suffix

    def __init__(self) -> None:
        super().__init__()
        self.unread: list[str] = []  # folders below those named, and why they cannot be read


def collect(names: Sequence[str | Path], suffixes: Sequence[str] = READABLE_SUFFIXES) -> Inputs:
    """Files as they are named, whatever their suffix; of folders (with all below) and patterns those with a suffix.

    Each file comes once, however often and by whatever way it is named. Hidden files and folders are passed over.
    `UserError` for a name that stands for nothing.
    """
    found, seen = Inputs(), set()
    for name in names:
        text = str(name)
        if os.path.isdir(text):
            candidates = [(path, Path(text)) for path in _below(Path(text), found.unread)]
        elif os.path.lexists(text):
            _add(found, seen, Path(text), Path(text).parent)
            continue
        elif glob.has_magic(text):
            matches = sorted((Path(path) for path in glob.glob(text, recursive=True)), key=_natural)
            if not matches:
                raise UserError(f"{text}: matches no files")
            folder = _fixed_part(text)
            candidates = [(path, folder) for path in matches if path.is_file()]
            folders = [match for match in matches if match.is_dir()]
            candidates += [(path, folder) for match in folders for path in _below(match, found.unread)]
        else:
            raise UserError(f"{text}: {_why_not(text)}")
        for path, root in candidates:
            if path.suffix.lower() in suffixes:
                _add(found, seen, path, root)
            elif (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                found.skipped += 1
    return found


def _add(found: Inputs, seen: set[str], path: Path, root: Path) -> None:
    if (real := os.path.realpath(path)) not in seen:  # Path.resolve() raises for a link to itself
        seen.add(real)
        found.append(Found(path, root))


def _why_not(text: str) -> str:
    try:
        os.stat(text)
    except FileNotFoundError:
        pass
    except OSError as error:
        return error.strerror or str(error)
    return "no such file or directory"


def _below(folder: Path, unread: list[str]) -> list[Path]:
    files = []
    visited = set()

    def complain(error: OSError) -> None:
        unread.append(f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=complain):
        # A link to a folder above would be followed for ever.
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not _is_hidden(name)]
        files += [Path(parent, name) for name in names if not _is_hidden(name)]
    return sorted(files, key=_natural)


def _fixed_part(pattern: str) -> Path:
    """The folder above the first part with a wildcard."""
    fixed = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # what macOS adds to an archive


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """A sorting key: numbers by value."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(i % 2 == 1, int(part) if i % 2 else 0, part) for i, part in enumerate(parts)]
