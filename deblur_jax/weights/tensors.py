"""Named tensors in safetensors files."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from deblur_jax.errors import UserError


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file by name."""
    return read_file(path)[0]


def read_file(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors by name, and the texts that the file says about itself."""
    try:
        with open(path, "rb"):  # safetensors' own error does not say why a file cannot be opened
            tensors = load_file(path)
        with safe_open(path, framework="np") as file:
            return tensors, file.metadata() or {}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from None
