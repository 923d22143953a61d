"""Checkpoint to ONNX, ONNX to TensorRT engine."""
