"""How a clip is encoded: codec, quality and pixel format, inherited from the input or chosen."""

import dataclasses
import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec import Codec
from av.codec.context import CodecContext, Flags

from deblur_jax.errors import UserError
from deblur_jax.restore.images import silenced_stderr
from deblur_jax.restore.inputs import WRITABLE_CLIPS
from deblur_jax.restore.video_io import FAILURES, Clip, Colours, depth_of, reason

__all__ = ["CODECS", "Encoding", "choose", "opened"]


@dataclass(frozen=True)
class _Codec:
    encoder: str
    crf: int | None = None  # of its own scale, where nobody sees a difference
    worst: int = 0
    options: tuple[tuple[str, str], ...] = ()
    quantiser: int | None = None  # for the old ones without crf


CODECS = {
    "h264": _Codec("libx264", 17, 51, (("preset", "medium"),)),
    "hevc": _Codec("libx265", 19, 51, (("preset", "fast"), ("x265-params", "log-level=none"))),
    "vp9": _Codec("libvpx-vp9", 22, 63, (("b", "0"), ("deadline", "good"), ("cpu-used", "4"), ("row-mt", "1"))),
    "vp8": _Codec("libvpx", 8, 63, (("b", "20M"), ("deadline", "good"), ("cpu-used", "4"))),
    "av1": _Codec("libsvtav1", 22, 63, (("preset", "8"),)),
    "ffv1": _Codec("ffv1"),
    "prores": _Codec("prores_ks"),
    "mpeg4": _Codec("mpeg4", quantiser=2),
    "mpeg2video": _Codec("mpeg2video", quantiser=2),
    "mjpeg": _Codec("mjpeg", quantiser=2),
}
_IN_TRANSPORT_STREAMS = ("h264", "hevc", "mpeg2video")  # FFmpeg would write others as data that nobody reads
_INSTEAD = {"webm": "vp9"}  # for codecs that cannot be written; else H.264


@dataclass(frozen=True)
class Encoding:
    """All that makes one encoder like another: segments encoded by equal ones can be joined."""

    codec: str
    width: int
    height: int
    pixel_format: str
    rate: Fraction
    colours: Colours
    aspect: Fraction | None
    options: tuple[tuple[str, str], ...]
    quantiser: int | None
    global_header: bool
    key_frames: int  # at least one in so many frames
    interlaced: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Fraction) else v for k, v in dataclasses.asdict(self).items()}

    def set_up(self, context: Any) -> None:
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pixel_format
        context.framerate, context.time_base = self.rate, 1 / self.rate
        context.color_range, context.colorspace = self.colours.range, self.colours.matrix
        context.color_primaries, context.color_trc = self.colours.primaries, self.colours.transfer
        if self.aspect:
            context.sample_aspect_ratio = self.aspect
        context.gop_size = self.key_frames
        context.options = dict(self.options)
        context.thread_type = "FRAME"
        if self.quantiser is not None:
            context.qscale, context.global_quality = True, self.quantiser * 118  # FF_QP2LAMBDA
        if self.global_header:
            context.flags |= Flags.global_header
        if self.interlaced:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me


def choose(
    clip: Clip,
    target: Path,
    *,
    codec: str | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    width: int | None = None,
    every: int = 1,
    key_frames: int = 120,
) -> tuple[Encoding, list[str]]:
    """The input's own codec and pixel format where they can be written, and what must be said otherwise."""
    container = WRITABLE_CLIPS[target.suffix.lower()]
    notes: list[str] = []
    if codec is not None and codec not in CODECS:
        raise UserError(f"no codec is called {codec!r} here; {', '.join(CODECS)} can be written")
    name = codec or clip.codec
    if not _holds(container, name):
        if codec:
            raise UserError(f"{target.suffix} cannot hold {codec}; .mkv can")
        name = _INSTEAD.get(container, "h264")
        notes.append(f"{clip.codec} is written as {name}: {target.suffix} cannot hold it, or it cannot be written here")
    kind = CODECS[name]
    options = kind.options
    if kind.crf is not None:
        if crf is not None and crf > kind.worst:
            raise UserError(f"--crf of {name} is from 0 to {kind.worst}, not {crf}")
        options = (*options, ("crf", str(kind.crf if crf is None else crf)))
    elif crf is not None and kind.quantiser is None:
        raise UserError(f"--crf: {name} has none")
    if clip.hdr:
        told = clip.hdr.options(kind.encoder)
        if not told:
            notes.append(f"what it says of its HDR mastering display is not copied: {name} cannot hold it here")
        given = dict(options)
        options = tuple((given | {k: ":".join(filter(None, (given.get(k), v))) for k, v in told.items()}).items())
    if clip.interlaced and name == "h264":
        options = (*options, ("x264-params", f"{clip.interlaced}=1"))
    if kind.quantiser is not None and crf is not None and crf > 31:
        raise UserError(f"--crf of {name} is from 0 to 31, not {crf}")
    quantiser = kind.quantiser if crf is None or kind.quantiser is None else max(1, crf)
    written = pixel_format or _pixel_format(kind.encoder, clip.pixel_format)
    if pixel_format and pixel_format not in _formats(kind.encoder):
        raise UserError(f"{name} cannot be written as {pixel_format!r}; {' '.join(_formats(kind.encoder))} can")
    if not pixel_format and depth_of(written) < clip.depth:
        notes.append(f"{clip.depth} bits are written as {depth_of(written)}: {name} cannot hold more here")
    colours = clip.colours
    if av.VideoFormat(written).is_rgb != av.VideoFormat(clip.pixel_format).is_rgb:
        colours = dataclasses.replace(colours, matrix=0, range=2) if av.VideoFormat(written).is_rgb else Colours(1)
    encoding = Encoding(
        name,
        width or clip.width,
        clip.height,
        written,
        min(max(clip.rate / every, Fraction(1)), Fraction(1000)).limit_denominator(60000),
        colours,
        clip.aspect,
        options,
        quantiser,
        container != "mpegts",
        key_frames,
        # FFmpeg's MPEG-2 asks each frame which field comes first, and PyAV's say the lower one.
        (name, clip.interlaced) in (("h264", "tff"), ("h264", "bff"), ("mpeg2video", "bff")),
    )
    if clip.interlaced and not encoding.interlaced:
        notes.append("written as progressive: players will show both fields at once")
    if (encoding.width % 2 or encoding.height % 2) and not _opens(encoding):
        # 4:2:0 of H.264 and HEVC has even sides.
        full = f"yuv444p{'10le' if depth_of(written) > 8 else ''}"
        if pixel_format or full not in _formats(kind.encoder):
            size = f"{encoding.width}x{encoding.height}"
            raise UserError(f"{name} cannot be written as {written} of {size}; try --codec vp9 and .mkv")
        notes.append(f"written as {full}: {written} of {name} has even sides")
        encoding = dataclasses.replace(encoding, pixel_format=full)
    return encoding, notes


def opened(encoding: Encoding) -> Any:
    """An encoder of its own. Its frames are numbered, their times are put on when all is joined."""
    context = CodecContext.create(CODECS[encoding.codec].encoder, "w")
    encoding.set_up(context)
    with silenced_stderr():  # SVT-AV1 talks
        try:
            context.open()
        except FAILURES as error:
            raise UserError(
                f"{encoding.codec} cannot be written as {encoding.pixel_format} of {encoding.width}x{encoding.height}: "
                f"{reason(error)}"
            ) from None
    return context


def _opens(encoding: Encoding) -> bool:
    try:
        opened(encoding)
    except UserError:
        return False
    return True


def _holds(container: str, codec: str) -> bool:
    if codec not in CODECS or container == "mpegts":
        return codec in _IN_TRANSPORT_STREAMS

    # `supported_codecs` needs an output; nothing is written to this one.
    with av.open(io.BytesIO(), "w", format=container) as probe:
        return codec in probe.supported_codecs


def _formats(encoder: str) -> list[str]:
    # The names with a j are old ones for full range, which is said beside.
    return [f.name for f in Codec(encoder, "w").video_formats or () if not f.name.startswith("yuvj")]


def _pixel_format(encoder: str, wanted: str) -> str:
    """The same; else as many bits and as much colour, as little more as there is."""
    wanted = "rgb24" if wanted == "pal8" else wanted.replace("yuvj", "yuv")
    names = _formats(encoder)
    if wanted in names:
        return wanted

    def distance(name: str) -> tuple[Any, ...]:
        ours, theirs = av.VideoFormat(wanted), av.VideoFormat(name)
        bits = depth_of(name) - depth_of(wanted)
        colour = _chroma(theirs) - _chroma(ours)
        alpha = len(theirs.components) - len(ours.components)
        return bits < 0, colour < 0, ours.is_rgb != theirs.is_rgb, abs(bits), abs(colour), abs(alpha)

    return min(names, key=distance)


def _chroma(format: av.VideoFormat) -> float:
    """How many samples of colour there are for each of light."""
    if len(format.components) < 3:
        return 0.0
    return format.chroma_width(64) * format.chroma_height(64) / 64**2
