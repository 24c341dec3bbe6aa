"""Named tensors in safetensors files."""

import contextlib
from collections.abc import Iterator
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
    about = read_about(path)
    with _named(path):
        return load_file(path), about


def read_about(path: str | Path) -> dict[str, str]:
    """The texts that the file says about itself, without its tensors."""
    with _named(path):
        with open(path, "rb"):  # safetensors' own error does not say why a file cannot be opened
            pass
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}


@contextlib.contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong is one line with the file's name."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from None
