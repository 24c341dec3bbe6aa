"""What a set of weights is on disk."""

from deblur_jax.weights.artifact import Artifact
from deblur_jax.weights.store import Weights, find, load, misfit, pack, resolve, save
from deblur_jax.weights.tensors import read_tensors

__all__ = ["Artifact", "Weights", "find", "load", "misfit", "pack", "read_tensors", "resolve", "save"]
