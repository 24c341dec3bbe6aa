"""Which pictures belong to which: lists plain folders. Listing only; nothing here opens a picture.

A plain folder needs no preparation. It is one of

- `pairs`: folders `blur/` and `sharp/` (or `input/` and `target/`) beside each other, at the top or further down;
- `photos`: sharp photographs, which training blurs itself;
- `clips`: video files;

each with or without `train/`, `val/`, `test/` above it. Without them everything is the split `train`.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deblur_jax.errors import UserError

__all__ = ["Example", "clips", "demand_readable", "in_sequences", "is_kept_aside", "kind_of", "paired", "pairs",
           "photos", "pictures", "place"]  # fmt: skip

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Pictures that are not read. They are listed all the same, so that the checks name them instead of a dataset
# that is silently shorter.
_UNREAD = (".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".exr", ".dng")
_CLIPS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_SPLITS = ("train", "val", "test")
_PAIRED = (("blur", "sharp"), ("input", "target"))


@dataclass(frozen=True)
class Example:
    """A sharp picture and its blurred one (None: the blur is made later). A sequence's frames count upwards.

    A picture that belongs to no sequence is a sequence of its own. The paths need not exist: where one of a pair
    is missing it stands here all the same, and the checks say so.
    """

    sequence: str
    frame: int
    sharp: Path
    blur: Path | None = None

    @staticmethod
    def unknown(sharp: Path, blur: Path | None = None) -> "Example":
        """Stands for files of which nobody can know how many there should be, so that they are missed."""
        return Example("*", 0, sharp, blur)

    @property
    def name(self) -> str:
        """The sequence and the file without its suffix."""
        stem = self.sharp.stem
        return self.sequence if self.sequence.rsplit("/", 1)[-1] == stem else f"{self.sequence}/{stem}"


def kind_of(folder: Path) -> str:
    """`prepared`, `pairs`, `photos` or `clips`; an error where it is none of them, or several."""
    demand_readable(folder)
    if (folder / "dataset_info.json").is_file():
        if not (folder / "frames.json").is_file():
            raise UserError(f"{folder}: a TFDS directory without frames.json: not made by `deblur data prepare`")
        return "prepared"
    if (folder / "plan.json").is_file():
        raise UserError(f"{folder}: preparing it was not finished; run the same `deblur data prepare` again")
    seen: dict[str, Path] = {}
    for path in _files(folder):
        if _is_picture(path):
            seen.setdefault("pairs" if _role(path.parent, folder) else "photos", path)
        elif path.suffix.lower() in _CLIPS:
            seen.setdefault("clips", path)
    if not seen:
        raise UserError(f"{folder}: holds no pictures and no video clips")
    if len(seen) > 1:
        examples = ", ".join(f"{kind} ({path.relative_to(folder)})" for kind, path in seen.items())
        raise UserError(f"{folder}: holds {examples}; give each kind a folder of its own")
    return next(iter(seen))


def demand_readable(folder: Path, advice: str = "") -> None:
    """An error, with this advice, where there is no such folder, and another where it may not be looked into."""
    try:
        os.scandir(folder).close()
        os.stat(os.path.join(folder, "."))  # may fail where names can be listed and no file be opened
    except (FileNotFoundError, NotADirectoryError):
        what = "is no directory" if os.path.exists(folder) else "no such directory"
        raise UserError(f"{folder}: {what}{advice and '; '}{advice}") from None
    except OSError as error:
        raise _unreadable(folder, error) from None


def is_kept_aside(sequence: str, share: float) -> bool:
    """Whether a picture or clip of this name is for validation, where this share of them is. A larger share has all
    of a smaller one."""
    return place(sequence) < share


def place(name: str) -> float:
    """From 0 to 1, by the name alone, so that it is the same wherever and whenever it is asked."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4], "big") / 2**32


def pairs(folder: Path) -> dict[str, list[Example]]:
    """The pairs of each split. Pictures below further folders are the frames of that sequence."""
    splits = {}
    for split, root in _split_folders(folder):
        examples = []
        for parent in _pair_folders(root):
            found = [names for names in _PAIRED if any((parent / name).is_dir() for name in names)]
            if len(found) > 1:
                raise UserError(f"{parent}: has both blur/ sharp/ and input/ target/; keep one of them")
            blur, sharp = (parent / name for name in found[0])
            for one, other in ((blur, sharp), (sharp, blur)):
                if not one.is_dir():
                    raise UserError(f"{parent}: has {other.name}/ and no {one.name}/ beside it")
            examples += paired(blur, sharp, "" if parent == root else parent.relative_to(root).as_posix())
        splits[split] = examples
    if not any(splits.values()):
        raise UserError(f"{folder}: no pictures in blur/ and sharp/")
    return splits


def photos(folder: Path) -> dict[str, list[Example]]:
    """The sharp photographs of each split, those of subfolders included."""
    splits = {}
    for split, root in _split_folders(folder):
        found = pictures(root)
        advice = "arrange them as blur/ and sharp/, or prepare the dataset"
        _refuse_blurred(folder, found, "photographs", advice)
        splits[split] = [Example(path.relative_to(root).with_suffix("").as_posix(), 0, path) for path in found]
        _refuse_repeated(f"{root}/{example.sequence}" for example in splits[split])
    if not any(splits.values()):
        raise UserError(f"{folder}: holds no pictures")
    return splits


def clips(folder: Path) -> dict[str, list[Path]]:
    """The sharp video files of each split."""
    splits = {
        split: sorted((p for p in _files(root) if p.suffix.lower() in _CLIPS), key=_natural)
        for split, root in _split_folders(folder)
    }
    for found in splits.values():
        _refuse_blurred(folder, found, "clips", "name a folder of sharp ones alone, such as sharp/")
    if not any(splits.values()):
        raise UserError(f"{folder}: holds no video clips ({' '.join(_CLIPS)})")
    return splits


def pictures(folder: Path) -> list[Path]:
    """All pictures below, in natural order (9 before 10)."""
    return sorted((path for path in _files(folder) if _is_picture(path)), key=_natural)


def paired(blur: Path, sharp: Path, sequence: str = "") -> list[Example]:
    """Pictures of the same name below two folders. Where one is missing its expected path is given.

    `sequence` is what the two folders are frames of; pictures in further folders are sequences below it.
    """
    by_name = [_by_name(blur), _by_name(sharp)]
    groups: dict[str, list[tuple[Path, Path]]] = {}
    for name in sorted(by_name[0].keys() | by_name[1].keys(), key=lambda name: _natural(Path(name))):
        one, other = (found.get(name) for found in by_name)
        one, other = one or blur / other.relative_to(sharp), other or sharp / one.relative_to(blur)  # pyright: ignore
        parent = "/".join(part for part in (sequence, Path(name).parent.as_posix()) if part not in ("", "."))
        groups.setdefault(parent, []).append((one, other))
    return [example for group, found in groups.items() for example in in_sequences(group, found)]


def in_sequences(sequence: str, found: list[tuple[Path, Path]]) -> list[Example]:
    """The frames (blur, sharp) of one sequence; of none, when it has no name: then each is one of its own.

    A frame's number is the last one in its file's name, or its place if the names do not count upwards.
    """
    if not sequence:
        return [Example(sharp.stem, 0, sharp, blur) for blur, sharp in found]
    numbers = [int(digits[-1]) if (digits := re.findall(r"\d+", sharp.stem)) else -1 for _, sharp in found]
    if min(numbers) < 0 or max(numbers) >= 2**31 or any(a >= b for a, b in itertools.pairwise(numbers)):
        numbers = range(len(found))
    return [Example(sequence, n, sharp, blur) for n, (blur, sharp) in zip(numbers, found, strict=True)]


def _by_name(folder: Path) -> dict[str, Path]:
    found = pictures(folder)
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in found]
    if len(set(names)) < len(names):
        _refuse_repeated(f"{folder}/{name}" for name in names)
    return dict(zip(names, found, strict=True))


def _refuse_blurred(folder: Path, found: Iterable[Path], what: str, advice: str) -> None:
    parents = {path: path.relative_to(folder).parts[:-1] for path in found}
    paired = any("target" in parts for parts in parents.values())
    for path, parts in parents.items():
        # Datasets call their folders train_blur, blurry, blur_gamma, ...: taking those for sharp would be a pity.
        if wrong := next((p for p in parts if "blur" in p.lower() or (paired and p == "input")), None):
            raise UserError(
                f"{folder}: {what} should be sharp, and one lies in {wrong}/ ({path.relative_to(folder)}); {advice}"
            )


def _refuse_repeated(names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise UserError(f"{name}: two pictures have this name and differ in their suffix; keep one")
        seen.add(name)


def _split_folders(folder: Path) -> list[tuple[str, Path]]:
    demand_readable(folder)
    splits = [(name, folder / name) for name in _SPLITS if (folder / name).is_dir()]
    if not splits:
        return [("train", folder)]
    roots = {root for _, root in splits}
    for path in sorted(folder.iterdir()):
        if path in roots or path.name.startswith("."):
            continue
        if stray := next((p for p in (_files(path) if path.is_dir() else [path]) if _is_picture(p) or _is_clip(p)), 0):
            raise UserError(f"{stray}: lies beside {', '.join(n + '/' for n, _ in splits)}; move it into one of them")
    return splits


def _pair_folders(root: Path) -> Iterator[Path]:
    """The folders with a `blur/` or a `sharp/` in them."""
    names = {name for pair in _PAIRED for name in pair}
    for parent, folders, _ in _walk(root):
        folders.sort(key=lambda f: _natural(Path(f)))
        if names & set(folders):
            yield Path(parent)
            folders[:] = [f for f in folders if f not in names]


def _role(folder: Path, root: Path) -> bool:
    """Whether the folder is one side of pairs."""
    names = {name for pair in _PAIRED for name in pair}
    return bool(names & set(folder.relative_to(root).parts))


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in _walk(folder):
        folders.sort()
        yield from (Path(parent, file) for file in sorted(files) if not _is_hidden(file))


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Every folder below once, with what is in it; the caller may sort the folders and take some out."""
    top, visited = Path(os.path.realpath(root)), set()

    def complain(error: OSError) -> None:
        # What a builder lists may be missing. Any other folder left out would make a shorter dataset, and say nothing.
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise _unreadable(error.filename, error) from None

    for parent, folders, files in os.walk(root, followlinks=True, onerror=complain):
        real = os.path.realpath(parent)
        # A link to a folder above would be followed for ever, and from train/ into val/.
        if real in visited or (visited and top.is_relative_to(real)):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not _is_hidden(name)]
        yield parent, folders, files


def _unreadable(folder: str | Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be read: {error.strerror}; mend its permissions, or move it away")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # what macOS adds to an archive


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES + _UNREAD


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in _CLIPS


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """A sorting key: numbers by value."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(i % 2 == 1, int(part) if i % 2 else 0, part) for i, part in enumerate(parts)]
