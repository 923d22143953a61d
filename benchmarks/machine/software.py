"""Versions of what a latency depends on besides irvis: L4T, JetPack, CUDA, TensorRT."""

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Optional

from irvis.benchmarks.machine.system_files import read_text

# From NVIDIA's JetPack archive, for the releases that run on a Xavier since JetPack 4.5.
JETPACK = {
    "32.5.0": "4.5", "32.5.1": "4.5.1", "32.5.2": "4.5.1", "32.6.1": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2",
    "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5", "32.7.6": "4.6.6", "35.1.0": "5.0.2", "35.2.1": "5.1",
    "35.3.1": "5.1.1", "35.4.1": "5.1.2", "35.5.0": "5.1.3", "35.6.0": "5.1.4", "35.6.1": "5.1.5", "35.6.2": "5.1.5",
    "35.6.3": "5.1.5", "35.6.4": "5.1.6", "35.6.5": "5.1.7",
}  # fmt: skip


def read_l4t(root: Path) -> Optional[str]:
    """Return the release of Linux for Tegra, such as ``35.4.1``."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release") or "")
    return f"{match.group(1)}.{match.group(2)}" if match else None


def read_cuda(root: Path) -> Optional[str]:
    """Return the version of the CUDA toolkit: JetPack 5 keeps it as JSON, JetPack 4 as text."""
    folder = root / "usr/local/cuda"
    try:
        return str(json.loads(read_text(folder / "version.json") or "")["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        match = re.search(r"CUDA Version ([\d.]+)", read_text(folder / "version.txt") or "")
    return match.group(1) if match else None


def read_tensorrt(root: Path) -> Optional[str]:
    """Return TensorRT's version: the Debian package's, as on a Jetson, else the Python package's."""
    status = read_text(root / "var/lib/dpkg/status") or ""
    match = re.search(r"^Package: libnvinfer\d+\n(?:[^\n]+\n)*?Version: ([\d.]+)", status, re.MULTILINE)
    if match is not None:
        return match.group(1)
    try:
        return metadata.version("tensorrt")
    except metadata.PackageNotFoundError:
        return None


def read_gpu_name(root: Path) -> Optional[str]:
    """Return the name of the first discrete NVIDIA GPU."""
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"^Model:\s*(\S.*)$", read_text(file) or "", re.MULTILINE)
        if match:
            return match.group(1).strip()
    return None
