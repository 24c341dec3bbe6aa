"""Safetensors files, whole and broken."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from deblur_jax.errors import UserError
from deblur_jax.weights import read_tensors


def test_tensors_come_back(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)}
    save_file(tensors, tmp_path / "x.safetensors")
    for name, value in read_tensors(tmp_path / "x.safetensors").items():
        np.testing.assert_array_equal(value, tensors[name])
        assert value.dtype == tensors[name].dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "not a whole safetensors file"), (b"x" * 99, "not a whole safetensors file")],
)
def test_broken_files_are_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_tensors(tmp_path / "x")


def test_a_truncated_file_is_named(tmp_path):
    save_file({"a": np.zeros(100)}, tmp_path / "x")
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-8])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        read_tensors(tmp_path / "x")
