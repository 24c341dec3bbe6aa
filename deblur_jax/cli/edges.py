"""Write the edge map of a picture (Canny, Sobel or Laplacian)."""

import argparse
import math
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, help="a picture (an alpha channel is ignored)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the edge map: .png, .jpg or .webp")
    parser.add_argument("--method", choices=("canny", "sobel", "laplacian"), default="canny")
    parser.add_argument(
        "--thresholds",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="Canny's, on the 8-bit gradient |dx| + |dy| (default 100 200)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def run(options: argparse.Namespace) -> int:
    from deblur_jax.errors import UserError
    from deblur_jax.restore.images import check_output, read_image, write_image

    if options.thresholds and options.method != "canny":
        raise UserError(f"--thresholds goes with --method canny, not with {options.method}")
    low, high = options.thresholds or (100.0, 200.0)
    if not 0 <= low <= high < math.inf:
        raise UserError(f"thresholds must be numbers with 0 <= LOW <= HIGH, not {low:g} {high:g}")
    check_output(options.output, overwrite=options.overwrite)
    picture = read_image(options.picture)[None]

    import jax.numpy as jnp
    import numpy as np

    from deblur_jax import filters

    picture = jnp.asarray(picture)
    match options.method:
        case "canny":
            edges = np.asarray(filters.canny(picture, low=low, high=high), np.uint8) * 255
        case "sobel":
            edges = np.asarray(filters.sobel_edges(picture))
        case _:
            response = filters.laplacian(filters.grey_8bit(picture).astype(jnp.float32)[..., None])[..., 0]
            edges = np.asarray(jnp.clip(jnp.abs(response), 0, 255), np.uint8)
    write_image(options.output, edges[0], overwrite=options.overwrite)
    print(options.output)
    return 0
