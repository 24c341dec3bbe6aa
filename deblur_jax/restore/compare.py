"""Before and after, for eyes: side by side as a picture, and a page with a slider to pull."""

import base64
import html
import threading
from pathlib import Path

import cv2
import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.files import make_folder, write_whole
from deblur_jax.restore import pictures
from deblur_jax.restore.images import encode_image
from deblur_jax.restore.pictures import Picture

__all__ = ["SLIDER_STYLE", "Comparisons", "data_uri", "side_by_side", "slider"]

_LONGEST = 1400  # pixels of the page's pictures; larger ones are reduced

# The upper picture is cut off at the handle; a range input over both makes mouse, touch and keys work.
SLIDER_STYLE = """
.slider { position: relative; line-height: 0; --at: 50%; max-width: 100%; display: inline-block }
.slider img { width: 100%; border-radius: 4px }
.slider .before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0) }
.slider input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize }
.slider::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; background: #fff;
  box-shadow: 0 0 4px #000a; pointer-events: none }
.slider b { position: absolute; bottom: 8px; padding: 2px 8px; border-radius: 4px; background: #000a; color: #fff;
  font: 600 12px/1.5 system-ui, sans-serif; pointer-events: none }
.slider b:nth-of-type(1) { left: 8px } .slider b:nth-of-type(2) { right: 8px }
"""

_PAGE_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 0 auto; padding: 24px }
figure { margin: 0 0 40px } figcaption { margin: 6px 0; overflow-wrap: anywhere }
"""


def data_uri(pixels: np.ndarray, *, quality: int = 90, suffix: str = ".jpg") -> str:
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(encode_image(pixels, suffix, quality=quality)).decode()}"


def slider(before: np.ndarray, after: np.ndarray, *, labels: tuple[str, str] = ("before", "after")) -> str:
    """Two 8-bit pictures of one size, one above the other."""
    one, other = (f"<img class={c} alt='{c}' src='{data_uri(p)}'>" for c, p in (("after", after), ("before", before)))
    left, right = (html.escape(label) for label in labels)
    pull = "this.parentNode.style.setProperty('--at', this.value + '%')"
    return (
        f"<div class=slider>{one}{other}<b>{left}</b><b>{right}</b>"
        f'<input type=range min=0 max=100 step=.1 value=50 aria-label="{left} or {right}" oninput="{pull}"></div>'
    )


def side_by_side(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """With a thin white line between."""
    return np.hstack([before, np.full((len(before), 4, 3), 255, np.uint8), after])


class Comparisons:
    """Collects pictures as they are restored, for a folder of its own."""

    def __init__(self, folder: Path, *, overwrite: bool = False, beside: bool = False) -> None:
        """`beside` those of a run before: the page gets a number."""
        self._folder, self._overwrite, self._page = folder, overwrite, folder / "index.html"
        self._figures: list[str] = []
        self._taken: set[str] = set()
        self._lock = threading.Lock()
        number = 2
        while beside and self._page.exists():
            self._page, number = folder / f"index-{number}.html", number + 1
        if self._page.exists() and not overwrite:
            raise UserError(f"{self._page}: exists already; --overwrite replaces it")
        make_folder(folder)

    def add(self, name: str, before: Picture, after: Picture) -> None:
        pair = [_colours(picture) for picture in (before, after)]
        path = self._folder / f"{self._unique(Path(name).stem)}.jpg"
        if path.exists() and not self._overwrite:
            raise UserError(f"{path}: exists already, so there is no comparison; --overwrite replaces it")
        # Wider than JPEG can be: reduced.
        write_whole(path, encode_image(side_by_side(*(_reduced(p, 16_000) for p in pair)), ".jpg", quality=95))
        figure = slider(*(_reduced(p, _LONGEST) for p in pair))
        with self._lock:
            self._figures.append(f"<figure>{figure}<figcaption>{html.escape(name)}</figcaption></figure>")

    def _unique(self, stem: str) -> str:
        with self._lock:
            unique, number = stem, 2
            while unique in self._taken:
                unique, number = f"{stem}-{number}", number + 1
            self._taken.add(unique)
        return unique

    def finish(self) -> None:
        """Writes the page."""
        if self._figures:
            page = (
                "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
                f"<title>Before and after</title><style>{_PAGE_STYLE}{SLIDER_STYLE}</style>"
                f"<h1>Before and after</h1>{''.join(self._figures)}"
            )
            write_whole(self._page, page.encode(errors="replace"))


def _colours(picture: Picture) -> np.ndarray:
    pixels = pictures.to_8bit(picture.pixels)
    return np.repeat(pixels, 3, -1) if pixels.shape[2] == 1 else pixels


def _reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    scale = longest / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
