"""The few sharp photographs that ship with the package. CREDITS.md beside them names their authors."""

from pathlib import Path

PICTURES = tuple(sorted(Path(__file__).parent.glob("*.jpg")))
