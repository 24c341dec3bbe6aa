"""Write one page that shows what the software does: photographs blurred and restored, on this machine, just now."""

import argparse
import html
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

_STYLE = """
:root { color-scheme: light dark; --soft: #6a7078; --line: #8884 }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; max-width: 1080px; margin: 0 auto;
  padding: 32px 20px 64px }
h1 { font-size: 30px; letter-spacing: -.02em; margin: 0 0 8px } h2 { font-size: 20px; margin: 48px 0 8px }
p { max-width: 76ch } .soft, figcaption { color: var(--soft); font-size: 14px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 10px 0 }
td, th { padding: 5px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
td:first-child, th:first-child { text-align: left; padding-left: 0 }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 8px;
  align-items: start }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 8px; margin: 12px 0 }
figure { margin: 0 } .scroll { overflow-x: auto }
.row img, .pair figure img { width: 100%; display: block; border-radius: 3px }
"""

_PIECE = (480, 720)  # height and width of what is shown of a photograph


class _Scene(NamedTuple):
    picture: int  # of the samples
    title: str
    kind: str  # of `deblur blur`
    options: tuple[str, ...]
    said: str


_SCENES = (
    _Scene(1, "Camera shake over 17 pixels", "shake", ("--extent", "17", "--seed", "5"), "a long exposure"),
    _Scene(2, "Out of focus by 7 pixels", "defocus", ("--extent", "7"), "a disc"),
    _Scene(0, "Camera shake over 11 pixels", "shake", ("--extent", "11", "--seed", "3"), "a hand that trembles"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder for index.html (default: demo)")
    parser.add_argument("-m", "--model", default="nano", help="as of deblur restore (nano)")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")


def run(options: argparse.Namespace) -> int:
    from deblur_jax import weights
    from deblur_jax.cli.cache import use_compile_cache
    from deblur_jax.files import make_folder, write_whole
    from deblur_jax.restore.compare import SLIDER_STYLE
    from deblur_jax.restore.images import check_output

    loaded = weights.find(options.model)
    make_folder(options.output)
    page = check_output(options.output / "index.html", overwrite=options.overwrite, suffixes=(".html",))

    from deblur_jax import samples
    from deblur_jax.cli import demo_clip
    from deblur_jax.restore.restorer import Restorer

    use_compile_cache()
    restorer = Restorer(loaded)
    restorer.restore(_piece(samples.PICTURES[0]))  # compiles
    shown = [_scene(scene, samples.PICTURES[scene.picture], restorer) for scene in _SCENES]
    sections = [
        _summary(shown),
        *(one.figure for one in shown),
        demo_clip.section(samples.PICTURES[0], restorer),
        _untouched(restorer),
        _limits(restorer),
        _networks(),
    ]
    text = (
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>deblur_jax</title><style>{_STYLE}{SLIDER_STYLE}</style><h1>deblur_jax</h1>"
        "<p>Photographs that ship with the package, blurred by its own model of a camera (in linear light, with "
        f"photon noise), and restored by <b>{html.escape(options.model)}</b>. Everything here was made on this machine "
        "just now. Pull the handle; blurred is on the left, restored on the right.</p>" + "".join(sections)
    )
    write_whole(page, text.encode())
    print(page.resolve())
    return 0


class _Shown(NamedTuple):
    title: str
    figure: str
    scores: dict[str, dict[str, float]]
    seconds: float


def _scene(scene: _Scene, path: Path, restorer: Any) -> _Shown:
    from deblur_jax.restore.compare import slider

    sharp = _piece(path)
    blurred = _blurred(sharp, scene.kind, scene.options)
    start = time.perf_counter()
    restored = restorer.restore(blurred)
    seconds = time.perf_counter() - start
    pictures = {"blurred": blurred, "restored": restored, "sharp": sharp}
    scores = {name: _scores(pixels, sharp) for name, pixels in pictures.items()}
    edges = "".join(_figure(_canny(pixels), f"edges, {name}", ".png") for name, pixels in pictures.items())
    gain = scores["restored"]["psnr"] - scores["blurred"]["psnr"]
    figure = (
        f"<h2>{scene.title}</h2><p class=soft>{scene.said}; {path.name}, {gain:+.2f} dB in {seconds:.2f} s</p>"
        f"<div class=pair>{slider(blurred, restored, labels=('blurred', 'restored'))}{_figure(sharp, 'sharp')}</div>"
        f"<div class=row>{edges}</div>"
    )
    return _Shown(scene.title, figure, scores, seconds)


def _summary(shown: list[_Shown]) -> str:
    header = (
        "<tr><th><th>PSNR blurred<th>restored<th>SSIM blurred<th>restored<th>Laplacian blurred<th>restored<th>sharp"
    )
    rows = []
    for one in shown:
        b, r, s = (one.scores[name] for name in ("blurred", "restored", "sharp"))
        rows.append(
            f"<tr><td>{one.title}<td>{b['psnr']:.2f} dB<td>{r['psnr']:.2f} dB<td>{100 * b['ssim']:.1f} %"
            f"<td>{100 * r['ssim']:.1f} %<td>{b['laplacian']:.0f}<td>{r['laplacian']:.0f}<td>{s['laplacian']:.0f}"
        )
    return f"<div class=scroll><table>{header}{''.join(rows)}</table></div>"


def _untouched(restorer: Any) -> str:
    """What the network does to pictures that need nothing."""
    from deblur_jax import samples

    rows = []
    for path in samples.PICTURES:
        sharp = _piece(path)
        psnr = _scores(restorer.restore(sharp), sharp)["psnr"]
        rows.append(f"<tr><td>{path.name}<td>{f'{psnr:.1f} dB' if math.isfinite(psnr) else 'not a pixel changed'}")
    return (
        "<h2>Sharp pictures</h2><p>A sharp picture should come back as it was. PSNR between a sharp photograph "
        "and what the network makes of it (above 40 dB no eye sees the difference; <code>--selective</code> copies "
        f"such files untouched):</p><table>{''.join(rows)}</table>"
    )


def _limits(restorer: Any) -> str:
    """Where it ends: measured, not promised."""
    from deblur_jax import samples
    from deblur_jax.restore.compare import slider

    sharp = _piece(samples.PICTURES[0])
    rows, heaviest = [], None
    for extent in (5, 11, 17, 25, 35):
        blurred = _blurred(sharp, "shake", ("--extent", str(extent), "--seed", "1"))
        restored = restorer.restore(blurred)
        before, after = (_scores(pixels, sharp)["psnr"] for pixels in (blurred, restored))
        rows.append(f"<tr><td>{extent} pixels<td>{before:.2f} dB<td>{after:.2f} dB<td>{after - before:+.2f} dB")
        heaviest = blurred, restored
    assert heaviest is not None
    return (
        "<h2>What it cannot do yet</h2><p>The longer the shake, the less comes back: the network does not invent what "
        "is gone. And a background out of focus on purpose looks to it like a fault, which it makes harder: such a "
        "picture can come back worse, above all if it is nearly sharp. One like that, shaken ever more:</p>"
        f"<table><tr><th>shake<th>blurred<th>restored<th>gain{''.join(rows)}</table>"
        f"{slider(*heaviest, labels=('35 pixels of shake', 'restored'))}"
    )


def _networks() -> str:
    from deblur_jax.models import facts
    from deblur_jax.weights.store import bundled

    header = "<tr><th>network<th>parameters<th>GMAC at 1280x720<th>weights<th>origin"
    body = (
        f"<tr><td>{name}<td>{f.parameters / 1e6:.2f} M<td>{f.gmac(1280, 720):,.1f}"
        f"<td>{'included' if name in bundled() else 'train them'}<td>{html.escape(f.origin)}"
        for name, f in facts.read().items()
    )
    return f"<h2>The networks</h2><div class=scroll><table>{header}{''.join(body)}</table></div>"


def _piece(path: Path) -> Any:
    """The middle of a photograph, 8 bits."""
    import numpy as np

    from deblur_jax.restore.images import read_image

    pixels = read_image(path)
    (height, width), (h, w) = _PIECE, pixels.shape[:2]
    top, left = max(0, (h - height) // 2), max(0, (w - width) // 2)
    return np.rint(255 * pixels[top : top + height, left : left + width]).astype(np.uint8)


def _blurred(sharp: Any, kind: str, options: tuple[str, ...]) -> Any:
    """What `deblur blur` writes with these options."""
    import jax.numpy as jnp
    import numpy as np

    from deblur_jax import filters
    from deblur_jax.cli import blur

    parser = argparse.ArgumentParser()
    blur.add_arguments(parser)
    chosen = parser.parse_args(["picture", "-o", "out.png", "--kind", kind, "--photons", "4000", *options])
    blur.check(chosen)
    made = blur.blurred(jnp.asarray(sharp, jnp.float32) / 255.0, chosen)
    return np.asarray(filters.to_8bit(blur.taken(made.light, chosen)))


def _scores(pixels: Any, sharp: Any) -> dict[str, float]:
    import jax.numpy as jnp

    from deblur_jax import metrics

    x, y = (jnp.asarray(p[None], jnp.float32) / 255.0 for p in (pixels, sharp))
    return {
        "psnr": float(metrics.psnr(x, y)[0]),
        "ssim": float(metrics.ssim(x, y)[0]),
        "laplacian": float(metrics.laplacian_score(x)[0]),
    }


def _canny(pixels: Any) -> Any:
    import jax.numpy as jnp
    import numpy as np

    from deblur_jax import filters

    return np.asarray(filters.canny(jnp.asarray(pixels[None], jnp.float32) / 255.0))[0].astype(np.uint8) * 255


def _figure(pixels: Any, caption: str, suffix: str = ".jpg") -> str:
    from deblur_jax.restore.compare import data_uri

    return f"<figure><img src='{data_uri(pixels, suffix=suffix)}'><figcaption>{caption}</figcaption></figure>"
