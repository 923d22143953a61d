"""The machine that a GPU check runs on."""

import os
import shutil
import subprocess
import sys
import time
from typing import Any, Dict


def describe_machine() -> Dict[str, Any]:
    """Return the GPU, its driver, the versions of TensorRT and Python, the number of CPUs and the date."""
    found: Dict[str, Any] = {
        "date": time.strftime("%F"),
        "python": sys.version.split()[0],
        "cpus": os.cpu_count(),
    }
    if shutil.which("nvidia-smi"):
        query = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit"
        done = subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], stdout=subprocess.PIPE, check=False)
        found["nvidia_smi"] = done.stdout.decode().strip()
    try:
        import tensorrt

        found["tensorrt"] = tensorrt.__version__
    except (ImportError, OSError):
        found["tensorrt"] = None
    return found
