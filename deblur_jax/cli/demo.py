"""Write one page that shows what works so far: networks, edges, scores, and a network learning."""

import argparse
import base64
import html
import time
from pathlib import Path
from typing import Any

_STEPS, _BATCH, _CROP, _SIGMA = 300, 8, 64, 1.6

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child, td:last-child, th:last-child { text-align: left }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; margin: 1em 0 }
figure { margin: 0 } img { width: 100%; display: block } figcaption { font-size: 13px; color: #555 }
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder for index.html (default: demo)")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    parser.add_argument("--steps", type=int, default=_STEPS, help=f"training steps of the last part ({_STEPS})")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output, write_whole

    if options.steps < 1:
        raise UserError(f"--steps must be at least 1, not {options.steps}")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{options.output}: cannot be made: {error.strerror}") from None
    page = check_output(options.output / "index.html", overwrite=options.overwrite, suffixes=(".html",))
    sections = [_networks(), _edges(), _learning(options.steps)]
    text = (
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>deblur_jax</title><style>{_STYLE}</style><h1>deblur_jax, so far</h1>"
        "<p>Trained weights are not part of the package yet, so nothing here restores your photographs. "
        "The pictures, scores and the training below were made on this machine just now.</p>" + "".join(sections)
    )
    write_whole(page, text.encode())
    print(page.resolve())
    return 0


def _networks() -> str:
    from deblur_jax.models import facts

    header = "<tr><th>network<th>parameters<th>GMAC at 1280x720<th>origin"
    body = (
        f"<tr><td>{name}<td>{f.parameters / 1e6:.2f} M<td>{f.gmac(1280, 720):,.1f}<td>{html.escape(f.origin)}"
        for name, f in facts.read().items()
    )
    return f"<h2>The networks</h2><table>{header}{''.join(body)}</table>"


def _edges() -> str:
    """The Canny figure: a picture ever more blurred, its edges below, its scores beside."""
    import jax.numpy as jnp
    import numpy as np

    from deblur_jax import filters, metrics, samples
    from deblur_jax.restore.images import read_image

    parts = [
        "<h2>What blur does to edges and scores</h2>"
        "<p>Gaussian blur of rising strength; Canny's edges below; scores against the sharp picture.</p>"
    ]
    for path in samples.PICTURES:
        sharp = read_image(path)[None]
        top, left = (sharp.shape[1] - 400) // 2, (sharp.shape[2] - 400) // 2
        sharp = jnp.asarray(sharp[:, top : top + 400, left : left + 400])
        pictures, edges = [], []
        for sigma in (0.0, 1.0, 2.0, 4.0):
            blurred = filters.gaussian_blur(sharp, sigma=sigma)
            score = float(metrics.laplacian_score(blurred)[0])
            caption = f"sharp; Laplacian {score:.0f}"
            if sigma:
                psnr, ssim = float(metrics.psnr(blurred, sharp)[0]), float(metrics.ssim(blurred, sharp)[0])
                caption = f"sigma {sigma:g}; PSNR {psnr:.1f} dB, SSIM {100 * ssim:.1f} %, Laplacian {score:.0f}"
            pictures.append(_figure(np.asarray(filters.to_8bit(blurred))[0], caption))
            edges.append(_figure(np.asarray(filters.canny(blurred))[0].astype(np.uint8) * 255, "Canny", ".png"))
        parts.append(f"<div class=row>{''.join(pictures + edges)}</div>")
    return "".join(parts)


def _learning(steps: int) -> str:
    """Nano taught one known blur, judged on a picture that it has not seen."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from deblur_jax import filters, losses, metrics, samples
    from deblur_jax.models import zoo
    from deblur_jax.restore.images import read_image

    *taught, unseen = (read_image(path) for path in samples.PICTURES)
    network = zoo.get("nano")
    module, optimiser = network.training(), optax.adamw(optax.warmup_cosine_decay_schedule(0, 5e-4, 30, steps + 30))

    def crops(generator):
        for _ in range(_BATCH):
            picture = taught[generator.integers(len(taught))]
            top, left = (generator.integers(side - _CROP) for side in picture.shape[:2])
            yield picture[top : top + _CROP, left : left + _CROP]

    @jax.jit
    def step(variables, state, sharp):
        def loss(variables):
            estimates: Any = module.apply(variables, filters.gaussian_blur(sharp, sigma=_SIGMA), train=True)
            return losses.objective(estimates, (sharp,), weights={"l1": 1.0, "ssim": 0.1})[0]

        value, gradients = jax.value_and_grad(loss)(variables)
        updates, state = optimiser.update(gradients, state, variables)
        return optax.apply_updates(variables, updates), state, value

    generator = np.random.default_rng(0)
    # Threefry, the default generator, takes many seconds to compile for so many layers.
    variables = jax.jit(module.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, _CROP, _CROP, 3)))
    state, history, start = optimiser.init(variables), [], time.perf_counter()
    for _ in range(steps):
        variables, state, value = step(variables, state, jnp.asarray(np.stack(list(crops(generator)))))
        history.append(float(value))
    seconds = time.perf_counter() - start

    sharp = jnp.asarray(unseen[None, :512, :512])
    blurred = filters.gaussian_blur(sharp, sigma=_SIGMA)
    merged = {"params": network.merge(variables["params"])}
    restored: Any = jax.jit(network.deployed().apply)(merged, blurred)
    restored = jnp.clip(restored, 0.0, 1.0)
    figures = []
    for name, picture in (("blurred", blurred), ("Nano", restored), ("sharp", sharp)):
        psnr = "" if picture is sharp else f", PSNR {float(metrics.psnr(picture, sharp)[0]):.2f} dB"
        caption = f"{name}{psnr}, Laplacian {float(metrics.laplacian_score(picture)[0]):.0f}"
        figures.append(_figure(np.asarray(filters.to_8bit(picture))[0], caption))
    return (
        f"<h2>A network learning</h2><p>Nano, taught to undo <em>one known</em> blur (Gaussian, sigma {_SIGMA}) on "
        f"{len(taught)} photographs for {steps} steps ({seconds:.0f} s here), on a photograph it has not seen. It "
        "shows that network, objective and merging work; it is not a deblurring model for real photographs.</p>"
        f"<div class=row>{''.join(figures)}<figure>{_curve(history)}<figcaption>objective (mean of 10 steps), "
        f"from {np.mean(history[:10]):.3f} to {np.mean(history[-10:]):.3f}</figcaption></figure></div>"
    )


def _figure(pixels, caption: str, suffix: str = ".jpg") -> str:
    from deblur_jax.restore.images import encode_image

    data = base64.b64encode(encode_image(pixels, suffix)).decode()
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"<figure><img src='data:image/{kind};base64,{data}'><figcaption>{caption}</figcaption></figure>"


def _curve(values: list[float]) -> str:
    """A falling line as SVG, from means over ten steps."""
    means = [sum(values[i : i + 10]) / len(values[i : i + 10]) for i in range(0, len(values), 10)]
    top, across = max(means), max(1, len(means) - 1)
    points = " ".join(f"{100 * i / across:.1f},{100 - 95 * v / top:.1f}" for i, v in enumerate(means))
    return f"<svg viewBox='0 0 100 100'><polyline points='{points}' fill=none stroke='#06c' stroke-width=1 /></svg>"
