import pytest

from irvis.runtime.imports import import_failure


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "cv2 is not installed: pip install it"),
        (
            ImportError("libGL.so.1: cannot open\n  shared object file"),
            "a package cannot be imported (libGL.so.1: cannot open shared object file); `irvis doctor` says which",
        ),
    ],
)
def test_what_is_missing_or_broken_is_one_line(error, line):
    assert str(import_failure(error, "pip install it")) == line


def test_a_bug_of_irvis_is_not_hidden():
    for error in (ModuleNotFoundError(name="irvis.runtime.none"), ImportError("no name", name="irvis.runtime.files")):
        with pytest.raises(ImportError) as caught:
            import_failure(error, "pip install it")
        assert caught.value is error
