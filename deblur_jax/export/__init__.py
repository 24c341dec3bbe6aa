"""Networks as artifacts that run without JAX: ONNX and StableHLO, proven equal."""
