"""What several tests share. Imports on Python 3.8 without torch."""

import os
import signal
from pathlib import Path

import pytest

# The tests' tensors are small: PyTorch's threads would wait for each other far longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what it puts in the background with SIGINT ignored, which every program started from here would
# inherit: tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data():
    """The folder with the real data sets: IRVIS_DATA, else the one beside the checkout."""
    folder = Path(os.environ.get("IRVIS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}; set IRVIS_DATA to the folder with TNO/ and MSRS/")
    return folder


@pytest.fixture(scope="session")
def published():
    """The folder with published weights and their check files: IRVIS_TEACHERS, else the one beside the checkout."""
    folder = Path(os.environ.get("IRVIS_TEACHERS") or Path(__file__).parents[2] / "shared" / "teachers")
    if not folder.is_dir():
        pytest.skip(f"no published weights at {folder}; set IRVIS_TEACHERS to the folder with SHIP.safetensors")
    return folder


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """A folder of small generated pairs, 96x128, in ir/ and vi/."""
    from irvis.runtime.samples import write_samples

    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, 96, 128)
    return folder
