"""TFDS and ArrayRecord, which come with the training extra; one line says so where they are missing."""

from typing import Any

from deblur_jax.errors import UserError

try:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
    from etils import epath
    from tensorflow_datasets.core import dataset_info, registered
    from tensorflow_datasets.core.splits import SplitDict
    from tensorflow_datasets.proto import tf_example_pb2
except ImportError as error:
    raise UserError(f"prepared datasets need the training extra ({error}): pip install 'deblur-jax[train]'") from None

__all__ = [
    "ArrayRecordReader",
    "ArrayRecordWriter",
    "SplitDict",
    "dataset_info",
    "epath",
    "registered",
    "tf_example_pb2",
    "tfds",
    "undecoded",
]


def undecoded(builder: Any) -> dict[str, Any]:
    """Decoders that leave the records' own bytes; TFDS would decode them with TensorFlow or PIL."""
    images = [name for name, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)]
    return {name: tfds.decode.SkipDecoding() for name in images}
