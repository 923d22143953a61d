"""Checks that need an NVIDIA GPU, part by part: ``python -m irvis.benchmarks.gpu_check OUT PART ...``."""
