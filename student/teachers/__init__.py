"""Networks that teach the student: published ones by name, any ``nn.Module``, any ONNX file."""
