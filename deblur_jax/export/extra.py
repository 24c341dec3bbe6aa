"""What comes with the export extra; one line says so where it is missing."""

from deblur_jax.errors import UserError

try:
    import onnx
except ImportError as error:
    raise UserError(f"exporting ONNX needs the export extra ({error}): pip install 'deblur-jax[export]'") from None

__all__ = ["onnx"]
