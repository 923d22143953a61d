"""Frames in, fused frames out, on the robot. Needs neither torch nor onnx."""
