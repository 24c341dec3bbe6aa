"""The demo's clip: a camera that trembles over a photograph, with a tone, blurred by our own physics, then restored."""

import base64
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

_FRAMES, _RATE, _VIEWS = 48, 24, 8
_SIZE = (256, 384)  # height and width
_MARGIN = 48  # pixels that the camera may move away


def section(path: Path, restorer: Any) -> str:
    """Of the page: before and after, side by side, played together."""
    from deblur_jax.restore import video
    from deblur_jax.restore.options import ClipOptions, Options

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.mp4"), Path(folder, "after.mp4")
        _write(before, shaken(path))
        report = video.restore(before, after, lambda: restorer, Options(clip=ClipOptions(crf=23)))
        shown = "".join(_figure(clip, caption) for clip, caption in ((before, "blurred"), (after, "restored")))
    return (
        "<h2>A clip with sound</h2><p class=soft>A trembling camera over a photograph, every frame blurred by the "
        f"motion while its shutter was open. {report.frames} frames in {report.seconds:.1f} s; the sound was copied "
        f"without being encoded again.</p><div class=pair>{shown}</div>"
    )


def shaken(path: Path) -> Any:
    """Frames `(n h w 3)` of 8 bits."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from deblur_jax import blur
    from deblur_jax.restore.images import read_image

    (height, width), pixels = _SIZE, read_image(path)
    top, left = ((n - side) // 2 - _MARGIN for n, side in zip(pixels.shape, _SIZE, strict=False))
    piece = pixels[top : top + height + 2 * _MARGIN, left : left + width + 2 * _MARGIN]
    light = blur.srgb_to_linear(jnp.asarray(piece))
    focal = float(width)
    walk = blur.random_walk(jax.random.key(4, impl="rbg"), inertia=0.97, axes=3, steps=_FRAMES * _VIEWS)
    # Right and down in pixels, and a roll of about two degrees.
    rotations = walk * jnp.array([2.4 * _MARGIN / focal, 1.6 * _MARGIN / focal, 0.04])
    camera = blur.Camera(gain=1 / 4000)

    @jax.jit
    def exposed(key: Any, views: Any) -> Any:
        seen = blur.camera_shake(light, views, focal=focal)
        seen = seen[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
        return jnp.rint(255.0 * blur.capture(key, seen[None], camera)[0]).astype(jnp.uint8)

    keys = jax.random.split(jax.random.key(5, impl="rbg"), _FRAMES)
    several = rotations.reshape(_FRAMES, _VIEWS, 3)
    return np.stack([np.asarray(exposed(key, views)) for key, views in zip(keys, several, strict=True)])


def _write(path: Path, frames: Any) -> None:
    """H.264 and AAC, which every browser plays."""
    import av
    import numpy as np

    from deblur_jax.restore.video_io import Colours, from_rgb

    colours = Colours(1, 1, 1, 1)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=_RATE, options={"crf": "20"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_range, context.color_primaries, context.color_trc, context.colorspace = 1, 1, 1, 1
        sound: Any = out.add_stream("aac", rate=48000, layout="mono")
        seconds = np.arange(48000 * _FRAMES // _RATE) / 48000
        swell = 0.2 * np.sin(np.pi * seconds / seconds[-1])
        tone = swell * np.sin(2 * np.pi * (330 * seconds + 20 * np.sin(2 * seconds)))
        for start in range(0, len(tone), 1024):
            piece = tone[None, start : start + 1024].astype(np.float32)
            samples = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 48000, start, Fraction(1, 48000)
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
        for n, pixels in enumerate(frames):
            frame: Any = from_rgb(pixels, "yuv420p", colours)
            frame.pts, frame.time_base = n, Fraction(1, _RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure><video controls loop playsinline preload=auto style='width:100%' "
        f"src='data:video/mp4;base64,{data}'></video><figcaption>{caption}</figcaption></figure>"
    )
