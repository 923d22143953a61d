"""A part's results so far, in one JSON file, so that an interrupted part resumes where it stopped."""

from pathlib import Path
from typing import Any, Dict

from irvis.runtime.errors import FileError
from irvis.runtime.files import parse_json, read_bytes, write_json

SCHEMA_VERSION = 1


class Results:
    """Results of one part by key, written after each. Raises FileError if the file is not such a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: Dict[str, Any] = {}
        if path.exists():
            try:
                document = parse_json(read_bytes(path, "results"))
                if document["schema_version"] != SCHEMA_VERSION:
                    raise ValueError
                self.found = dict(document["found"])
            except (ValueError, KeyError, TypeError) as error:
                raise FileError(f"not the results of a GPU check: {path}; remove it to start anew") from error

    def __contains__(self, key: str) -> bool:
        return key in self.found and "failed" not in self.found[key]

    def __getitem__(self, key: str) -> Any:
        return self.found[key]

    def put(self, key: str, value: Any) -> None:
        """Save one result; one with an entry ``failed`` is tried again by the next run. Raises FileError."""
        self.found[key] = value
        document = {"schema_version": SCHEMA_VERSION, "found": self.found}
        write_json(self.path, document, allow_nan=False)
