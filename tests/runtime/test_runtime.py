"""The package itself: light until something of it is asked for."""

import os
import subprocess
import sys

import pytest

import irvis.runtime


def python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr == ""
    return result.stdout


def test_importing_it_imports_neither_numpy_nor_opencv_and_limits_images_all_the_same():
    code = "import os, sys, irvis.runtime; print({'numpy', 'cv2'} & set(sys.modules))"
    assert python(f"{code}; print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])") == f"set()\n{1 << 28}\n"


def test_onnxruntime_keeps_no_telemetry(tmp_path):
    pytest.importorskip("onnxruntime")
    # Where CI is set, ONNX Runtime keeps none anyway.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment.update(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    code = "from irvis.runtime import Fuser; Fuser(providers=['CPUExecutionProvider']).close()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_everything_that_it_offers_is_there():
    assert set(irvis.runtime.__all__) <= set(dir(irvis.runtime))
    assert all(getattr(irvis.runtime, name).__name__ == name for name in irvis.runtime.__all__)
    assert python("from irvis.runtime import *; print(Fuser.__module__, FusionLoop.__module__)") == (
        "irvis.runtime.fuser irvis.runtime.loop\n"
    )


def test_what_it_does_not_offer_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'irvis\.runtime' has no attribute 'Fusser'"):
        irvis.runtime.Fusser  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Fusser'"):
        from irvis.runtime import Fusser  # noqa: F401
