"""What a set of weights is on disk."""

from deblur_jax.weights.store import Weights, load, pack, resolve, save
from deblur_jax.weights.tensors import read_tensors

__all__ = ["Weights", "load", "pack", "read_tensors", "resolve", "save"]
