"""Checkpoint to ONNX, ONNX to TensorRT engine."""

import irvis.runtime  # noqa: F401  it sets the largest image, before any module imports OpenCV
