"""The GPU's peaks with PyTorch, the ceilings of a roofline: ``python -m irvis.benchmarks.gpu_check.peaks``.

Prints JSON: bytes per second (read and written) of a copy larger than any cache and of a copy of a student's tensor,
and operations per second of matrix products in FP32, TF32 and FP16.
"""

import json
import time
from typing import Any, Callable, Dict

import torch

TENSOR = (1, 32, 480, 640)


def median_s(work: Callable[[], Any], runs: int = 30) -> float:
    """Return the median time of ``work`` on the GPU, measured between events, in seconds."""
    for _ in range(5):
        work()
    times = []
    for _ in range(runs):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        times.append(started.elapsed_time(ended) / 1e3)
    return sorted(times)[runs // 2]


def measure_peaks() -> Dict[str, Any]:
    """Return the peaks by name."""
    found: Dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "date": time.strftime("%F"),
    }
    large = torch.randn(1 << 28, device="cuda")
    copied = torch.empty_like(large)
    found["copy_1GiB_bytes_per_s"] = 2 * large.numel() * 4 / median_s(lambda: copied.copy_(large))
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("fp16", torch.float16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
        found[f"matmul_{name}_flop_per_s"] = 2 * 8192**3 / median_s(lambda x=a, y=b: x @ y, 10)  # type: ignore[misc]
    small = torch.randn(TENSOR, device="cuda", dtype=torch.float16)
    other = torch.empty_like(small)
    found["copy_tensor_fp16_bytes_per_s"] = 2 * small.numel() * 2 / median_s(lambda: other.copy_(small), 200)
    return found


if __name__ == "__main__":
    print(json.dumps(measure_peaks()))
