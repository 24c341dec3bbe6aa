"""Pictures in and out."""

from deblur_jax.restore.images import encode_image, read_image, write_image

__all__ = ["encode_image", "read_image", "write_image"]
