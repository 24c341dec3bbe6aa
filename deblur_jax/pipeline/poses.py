"""Recorded camera motion: pose files as visual odometry writes them, one `timestamp tx ty tz qx qy qz qw` a line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deblur_jax.errors import UserError

# What the axes of a recorded body are to a camera whose x points right, y down, z ahead.
CAMERA = "x y z"
TUMVI = "-x -z -y"  # TUM-VI's poses are of its inertial unit


def read_poses(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds `(n)` and unit quaternions `(n 4)`, x y z w, in float64."""
    path = Path(path)
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file of poses") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            row = [float(word) for word in line.replace(",", " ").split()]
        except ValueError:
            row = []
        if len(row) != 8 or not np.isfinite(row).all():
            raise UserError(f"{path}, line {number}: not `timestamp tx ty tz qx qy qz qw`: {line[:60]}")
        if rows and row[0] <= rows[-1][0]:
            raise UserError(f"{path}, line {number}: the time does not rise")
        if not 0.5 < np.linalg.norm(row[4:]) < 2.0:
            raise UserError(f"{path}, line {number}: not a unit quaternion")
        rows.append(row)
    if len(rows) < 2:
        raise UserError(f"{path}: fewer than two poses")
    table = np.array(rows)
    return table[:, 0], table[:, 4:] / np.linalg.norm(table[:, 4:], axis=1, keepdims=True)


def exposures(
    paths: Sequence[str | Path],
    *,
    shortest: float = 1 / 60,
    longest: float = 1 / 6,
    views: int = 24,
    count: int = 1024,
    axes: str = CAMERA,
    seed: int = 0,
) -> np.ndarray:
    """Random exposures cut out of recordings, for `blur.draw_recorded`: float32 `(count views 3)`.

    Each is the scene's rotation in the picture (right, down, clockwise) at equal times, about its own mean; lengths
    are between `shortest` and `longest` seconds. Gaps in a recording are not bridged.
    """
    recordings = [read_poses(path) for path in paths]
    if not recordings:
        raise UserError("no pose file was named")
    turn = _axes(axes)
    generator = np.random.default_rng(seed)
    lengths = np.array([times[-1] - times[0] for times, _ in recordings])
    if longest >= lengths.max():
        raise UserError(f"{paths[0]}: {lengths.max():.2f} s long at most, and exposures last {longest:g} s")
    room = np.maximum(lengths - longest, 0.0)
    found = []
    for _ in range(20 * count):
        times, quaternions = recordings[generator.choice(len(recordings), p=room / room.sum())]
        length = np.exp(generator.uniform(np.log(shortest), np.log(longest)))
        start = generator.uniform(times[0], times[-1] - length)
        first, last = np.searchsorted(times, start, "right") - 1, np.searchsorted(times, start + length)
        inside = slice(first, last + 1)
        if np.diff(times[inside]).max() > 3 * np.median(np.diff(times)):
            continue
        vectors = _rotation_vectors(quaternions[inside]) @ turn.T
        moments = start + length * (np.arange(views) + 0.5) / views
        at = np.stack([np.interp(moments, times[inside], vectors[:, axis]) for axis in range(3)], -1)
        # The camera turns one way, the picture the other; right is a turn about y, down one against x.
        found.append(-np.stack([at[:, 1], -at[:, 0], at[:, 2]], -1))
        if len(found) == count:
            moved = np.stack(found)
            return (moved - moved.mean(1, keepdims=True)).astype(np.float32)
    raise UserError(f"{paths[0]}: the recordings have too many gaps for exposures of {longest:g} s")


def _axes(words: str) -> np.ndarray:
    matrix = np.zeros((3, 3))
    for row, word in enumerate(words.split()):
        name = word.lstrip("-")
        if row < 3 and name in ("x", "y", "z"):
            matrix[row, "xyz".index(name)] = -1.0 if word.startswith("-") else 1.0
    if len(words.split()) != 3 or not np.isclose(np.linalg.det(matrix), 1.0):
        raise UserError(f'axes must be a right-handed choice such as "{TUMVI}", not "{words}"')
    return matrix


def _rotation_vectors(quaternions: np.ndarray) -> np.ndarray:
    """Of each orientation as seen from the middle one, `(n 3)`."""
    x, y, z, w = quaternions.T
    mx, my, mz, mw = quaternions[len(quaternions) // 2] * [-1.0, -1.0, -1.0, 1.0]
    relative = np.stack(
        [
            mw * x + mx * w + my * z - mz * y,
            mw * y - mx * z + my * w + mz * x,
            mw * z + mx * y - my * x + mz * w,
        ],
        -1,
    )
    real = mw * w - mx * x - my * y - mz * z
    relative *= np.where(real < 0, -1.0, 1.0)[:, None]  # q and -q are one orientation; take the shorter way
    sine = np.linalg.norm(relative, axis=1)
    return relative * (2.0 * np.arctan2(sine, np.abs(real)) / np.maximum(sine, 1e-12))[:, None]
