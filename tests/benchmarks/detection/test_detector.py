import sys

import pytest

from irvis.benchmarks.detection.detector import Settings, open_detector
from irvis.runtime.errors import IrvisError, ModelError

OWN = """
class Own:
    about, pretrained = "mine", True

    def __init__(self, classes, weights, device):
        self.given = classes, weights, device

    def fit(self, training, validation, settings, folder): ...

    def detect(self, image): ...


def broken(classes, weights, device):
    raise RuntimeError("no\\nmodel")


def less(classes, weights, device):
    return object()
"""


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    (tmp_path / "own_detector.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_detector", None)


def test_the_defaults_are_the_paper_s():
    assert Settings() == (100, 32, 640, 0, 0.01, 0.937, 5e-4)


def test_a_detector_of_one_s_own_is_found_in_this_folder(tmp_path):
    detector = open_detector("own_detector:Own", ("people",), tmp_path, "cpu")
    assert detector.given == (("people",), tmp_path, "cpu")
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("yolov5", IrvisError, "--detector must be dfine or package.module:function. Got 'yolov5'"),
        ("own_detector:broken", ModelError, "own_detector:broken cannot be called from .*: RuntimeError: no model"),
        ("own_detector:absent", ModelError, "AttributeError"),
        ("absent_detector:build", ModelError, "ModuleNotFoundError"),
        ("own_detector:less", ModelError, "must return a Detector. Missing: about, pretrained, fit, detect"),
    ],
)
def test_what_is_no_detector_is_one_line(name, error, said):
    with pytest.raises(error, match=said) as caught:
        open_detector(name, ("people",), None, "cpu")
    assert len(str(caught.value).splitlines()) == 1
