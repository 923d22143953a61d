"""Networks that teach the student: published ones by name, students, any ``nn.Module``, any ONNX file."""
