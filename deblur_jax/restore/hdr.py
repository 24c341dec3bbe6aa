"""What HDR clips say of the display they were graded on, as encoders want to be told it."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

__all__ = ["Hdr", "described", "left_behind"]

# Of each encoder: the option, the names in it, and what chromaticities and luminances are multiplied by.
_PARAMETERS = {
    "libx265": ("x265-params", "master-display", "max-cll", 50_000, 10_000),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", 1, 1),
}
# What goes with each frame.
_DYNAMIC = {
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "A53_CC": "captions inside the frames",
}


@dataclass(frozen=True)
class Hdr:
    """SMPTE ST 2086 and CTA-861.3. The points are red, green, blue and white in CIE x, y; luminance in cd/m2."""

    points: tuple[tuple[Fraction, Fraction], ...] = ()
    luminance: tuple[Fraction, Fraction] | None = None  # least and greatest
    light: tuple[int, int] | None = None  # MaxCLL, MaxFALL

    def options(self, encoder: str) -> dict[str, str]:
        """To be added to the encoder's own parameters, by the option that takes them; none if it cannot."""
        if encoder not in _PARAMETERS:
            return {}
        option, display, light, per_point, per_luminance = _PARAMETERS[encoder]
        said = []
        if self.points and self.luminance:
            said.append(f"{display}={self._display(per_point, per_luminance)}")
        if self.light:
            said.append(f"{light}={self.light[0]},{self.light[1]}")
        return {option: ":".join(said)} if said else {}

    def _display(self, per_point: int, per_luminance: int) -> str:
        def number(value: Fraction, scale: int) -> str:
            return f"{float(value):.6f}" if scale == 1 else str(round(value * scale))

        red, green, blue, white = (f"({number(x, per_point)},{number(y, per_point)})" for x, y in self.points)
        assert self.luminance is not None
        least, greatest = (number(value, per_luminance) for value in self.luminance)
        return f"G{green}B{blue}R{red}WP{white}L({greatest},{least})"


def described(side: Mapping[str, Any]) -> Hdr | None:
    """From a frame's side data by name, as FFmpeg lays it out."""
    points, luminance, light = (), None, None
    if "MASTERING_DISPLAY_METADATA" in side:
        numbers = np.frombuffer(side["MASTERING_DISPLAY_METADATA"], np.int32).tolist()
        # Ten fractions, and whether the first eight and the last two are known.
        known = [Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
        points = tuple(zip(known[:8:2], known[1:8:2], strict=True)) if numbers[20] else ()
        luminance = (known[8], known[9]) if numbers[21] else None
    if "CONTENT_LIGHT_LEVEL" in side:
        most, mean = np.frombuffer(side["CONTENT_LIGHT_LEVEL"], np.uint32).tolist()
        light = (most, mean)
    return Hdr(points, luminance, light) if points or luminance or light else None


def left_behind(side: Mapping[str, Any]) -> list[str]:
    """What goes with each frame and cannot be copied."""
    return sorted({_DYNAMIC[name] for name in side if name in _DYNAMIC})
