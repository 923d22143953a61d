import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published():
    """The folder with published weights and their check files: IRVIS_TEACHERS, else the one beside the checkout."""
    folder = Path(os.environ.get("IRVIS_TEACHERS") or Path(__file__).parents[4] / "shared" / "teachers")
    if not folder.is_dir():
        pytest.skip(f"no published weights at {folder}; set IRVIS_TEACHERS to the folder with SHIP.safetensors")
    return folder
