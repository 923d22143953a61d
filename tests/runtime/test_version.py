from importlib import metadata

import pytest

from irvis.runtime.version import irvis_version


def test_the_installed_version() -> None:
    assert irvis_version() == metadata.version("irvis")


def test_a_folder_on_the_path_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert irvis_version() == "not installed"
