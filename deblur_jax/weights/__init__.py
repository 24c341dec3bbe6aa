"""What a set of weights is on disk."""

from deblur_jax.weights.tensors import read_tensors

__all__ = ["read_tensors"]
