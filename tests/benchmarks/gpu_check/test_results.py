from pathlib import Path

import pytest

from irvis.benchmarks.gpu_check.results import Results
from irvis.runtime.errors import FileError


def test_what_was_found_is_there_in_the_next_run(tmp_path: Path) -> None:
    results = Results(tmp_path / "build.json")
    assert "engine" not in results
    results.put("engine", {"seconds": 12.5})
    again = Results(tmp_path / "build.json")
    assert "engine" in again
    assert again["engine"] == {"seconds": 12.5}


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    Results(tmp_path / "build.json").put("engine", {"failed": "no memory"})
    again = Results(tmp_path / "build.json")
    assert "engine" not in again
    assert again["engine"] == {"failed": "no memory"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 99, "found": {}}', "\xff"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "build.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(FileError, match="not the results of a GPU check"):
        Results(path)
    assert path.read_bytes() == content.encode("latin-1")
