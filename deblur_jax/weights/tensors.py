"""Named tensors in safetensors files."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from deblur_jax.errors import UserError


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file by name."""
    try:
        with open(path, "rb"):  # safetensors' own error does not say why a file cannot be opened
            return load_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from None
