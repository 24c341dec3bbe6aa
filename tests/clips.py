"""Small real clips for tests, and what a file says of itself."""

from fractions import Fraction

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition

from deblur_jax import samples
from deblur_jax.restore import read_image


def photograph(width=64, height=48, shift=0):
    """A piece of a photograph, 8 bits, that moves with `shift`."""
    whole = np.rint(255 * read_image(samples.PICTURES[0])).astype(np.uint8)
    shift %= 20
    piece = whole[100 : 100 + 4 * height, 100 + 4 * shift : 100 + 4 * (shift + width)]
    return cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA)


_OPTIONS = {
    "libx264": {"crf": "10"},
    "libx265": {"crf": "10", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "10", "b": "0", "cpu-used": "8"},
    "libsvtav1": {"crf": "10", "preset": "12"},
}


def make(
    path,
    *,
    codec="libx264",
    pixel_format="yuv420p",
    size=(64, 48),
    frames=12,
    times=None,  # in the time base
    time_base=Fraction(1, 12800),
    options=None,
    colours=(1, 1, 1, 1),  # range, primaries, transfer, matrix
    sound=None,  # a codec
    subtitles=None,  # a codec
    chapters=False,
    matrix=None,
    picture=photograph,
    container_options=None,
    interlaced=False,
    attached=(),  # (name, mimetype, bytes)
    cover=None,  # an encoded PNG
    timecode=None,
):
    """A clip of 25 frames a second, or with `times`."""
    width, height = size
    times = times or [n * round(Fraction(1, 25) / time_base) for n in range(frames)]
    with av.open(str(path), "w", options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=25, options=_OPTIONS.get(codec, {}) | (options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = colours
        if interlaced:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        if matrix:
            stream.set_display_matrix(matrix)
        if timecode:
            stream.metadata["timecode"] = timecode
        for name, kind, data in attached:
            out.add_attachment(name, kind, data)
        if cover:
            beside = out.add_stream("png")
            beside.width, beside.height, beside.pix_fmt = 8, 8, "rgb24"
            beside.disposition = Disposition.attached_pic
        audio = words = None
        if sound:
            audio = out.add_stream(sound, rate=48000, layout="mono")
            audio.metadata["language"] = "fra"
        if subtitles:
            # An encoder of its own would need ASS headers; packets of these formats are written by hand.
            words = out.add_stream_from_template(_subtitles(path, subtitles).streams.subtitles[0])
            words.metadata["language"] = "deu"
        if chapters:
            said = [{"title": "first"}, {"title": "second"}]
            out.set_chapters(
                [{"id": n, "start": 200 * n, "end": 200 * (n + 1), "time_base": Fraction(1, 1000), "metadata": said[n]}
                 for n in range(2)]
            )  # fmt: skip
        out.metadata["title"] = "a title"
        if cover:
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts, packet.time_base = beside, 0, 0, Fraction(1, 25)
            out.mux(packet)
        for n, pts in enumerate(times):
            given = av.VideoFrame.from_ndarray(picture(width, height, n), format="rgb24")
            wide = {"src_colorspace": _SWSCALE[colours[3]], "dst_colorspace": _SWSCALE[colours[3]]}
            frame = given.reformat(
                format=pixel_format, src_color_range=2, dst_color_range=2 if colours[0] == 2 else 1, **wide
            )
            frame.pts, frame.time_base = pts, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio:
            size = 1024 if sound == "aac" else 960
            wave = np.sin(np.arange(int(48000 * len(times) / 25)) / 20).astype(np.float32)
            for n in range(len(wave) // size):
                tone = av.AudioFrame.from_ndarray(wave[None, n * size : (n + 1) * size], format="flt", layout="mono")
                tone.sample_rate, tone.pts, tone.time_base = 48000, n * size, Fraction(1, 48000)
                for resampled in av.AudioResampler(format=audio.format.name, layout="mono", rate=48000).resample(tone):
                    out.mux(audio.encode(resampled))
            out.mux(audio.encode(None))
        if words:
            for n in range(2):
                text = f"line {n}".encode()
                packet = av.Packet((len(text).to_bytes(2, "big") if subtitles == "mov_text" else b"") + text)
                packet.stream, packet.time_base = words, Fraction(1, 1000)
                packet.pts = packet.dts = 40 + 200 * n
                packet.duration = 150
                out.mux(packet)
    return path


# H.273's matrices as FFmpeg's scaler numbers them; small clips without a tag are BT.601.
_SWSCALE = {0: 1, 1: 1, 2: 5, 5: 5, 6: 5, 9: 9}


def _subtitles(path, codec):
    """A file with nothing but a stream of subtitles, to take its parameters from."""
    text = path.with_name("subtitles.srt")
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    if codec == "subrip":
        return av.open(str(text))
    made = path.with_name("subtitles.mp4")
    with av.open(str(text)) as given, av.open(str(made), "w") as out:
        stream = out.add_stream("mov_text")
        stream.codec_context.subtitle_header = (
            b"[Script Info]\n\n[V4+ Styles]\nFormat: Name\n\n[Events]\nFormat: Text\n"
        )
        for packet in given.demux(given.streams.subtitles[0]):
            if (subtitle := given.streams.subtitles[0].codec_context.decode2(packet)) is not None:
                written = stream.codec_context.encode_subtitle(subtitle)
                written.stream, written.pts, written.dts = stream, packet.pts, packet.pts
                written.time_base, written.duration = packet.time_base, packet.duration
                out.mux(written)
    return av.open(str(made))


def said(path):
    """All that must stay: streams, times, packets of sound and subtitles."""
    with av.open(str(path)) as clip:
        kept = [s for s in clip.streams if s.type != "data"]
        packets = {s.index: [] for s in kept}
        base = {s.index: s.time_base for s in kept}
        for packet in clip.demux(kept):
            if packet.pts is not None:
                packets[packet.stream.index].append((packet.pts * base[packet.stream.index], bytes(packet)))
        video = clip.streams.video[0]
        others = [
            (s.type, s.codec_context.name, s.time_base, s.metadata.get("language"), packets[s.index])
            for s in kept
            if s is not video
        ]
        chapters = [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in clip.chapters()]
        found = {
            "codec": video.codec_context.codec.canonical_name,
            "time_base": video.time_base,
            "aspect": video.sample_aspect_ratio,
            "times": sorted(time for time, _ in packets[video.index]),
            "others": others,
            "chapters": chapters,
            "title": clip.metadata.get("title"),
        }
    with av.open(str(path)) as clip:
        frame = next(clip.decode(video=0))
        sides = {side.type.name: bytes(side) for side in frame.side_data}
        found |= {
            "size": (frame.width, frame.height),
            "format": frame.format.name,
            "colours": (frame.color_range, frame.color_primaries, frame.color_trc, frame.colorspace),
            "matrix": sides.get("DISPLAYMATRIX"),
        }
    return found


def fields(path):
    """Which field of interlaced frames comes first."""
    with av.open(str(path)) as clip:
        assert all(frame.interlaced_frame for frame in clip.decode(video=0))
        return {2: "tff", 3: "bff", 4: "tff", 5: "bff"}[clip.streams.video[0].codec_context.field_order]


def pixels(path, format="rgb24"):
    """All frames, converted by FFmpeg as the file says."""
    with av.open(str(path)) as clip:
        return np.stack([frame.to_ndarray(format=format) for frame in clip.decode(video=0)])


def planes(path):
    """The samples of the first plane of all frames."""
    with av.open(str(path)) as clip:
        frames = list(clip.decode(video=0))
        wide = max(c.bits for c in frames[0].format.components) > 8
        rows = [np.frombuffer(f.planes[0], np.uint8).reshape(-1, f.planes[0].line_size) for f in frames]
        used = [r[: f.height, : f.width * (1 + wide)] for r, f in zip(rows, frames, strict=True)]
        return np.stack([np.ascontiguousarray(u).view(np.uint16 if wide else np.uint8) for u in used])
