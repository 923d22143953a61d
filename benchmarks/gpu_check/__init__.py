"""What only an NVIDIA GPU can show, part by part: ``python -m irvis.benchmarks.gpu_check OUT PART ...``."""
