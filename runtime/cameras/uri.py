"""The names of sources: URIs of one grammar, similar to that of jetson-inference."""

import os
import re
from pathlib import Path
from typing import Callable, Dict, Iterable, List, NamedTuple, Tuple, TypeVar
from urllib.parse import parse_qsl, unquote

from irvis.runtime.errors import FileError
from irvis.runtime.video import is_video

GRAMMAR = (
    "v4l2:///dev/video0?format=Y16&width=640&height=512&fps=9, csi://0, rtsp://HOST/PATH, gst:PIPELINE, "
    "file://VIDEO, a folder of images, test://street, or bag:FILE?topic=/camera/image"
)
CAMERA_OPTIONS = ("width", "height", "fps", "format")
OPTIONS: Dict[str, Tuple[str, ...]] = {
    "v4l2": CAMERA_OPTIONS,
    "csi": ("width", "height", "fps", "flip"),
    "rtsp": (),  # what follows the "?" is for the server
    "gst": (),
    "file": ("fps", "loop"),
    "folder": ("fps", "loop"),
    "test": ("width", "height", "fps", "bits"),
    "bag": ("topic", "loop"),
}
CAMERAS = ("v4l2", "csi", "rtsp", "gst")
FILES = ("file", "folder", "bag")
# Before an @, the last of the word, else of the pipeline's element: a password may hold what it should have escaped.
# Or the value of an option, and for the same reason all that follows in the word: user-pw=, ?password=, &pwd=, ...
PASSWORD = re.compile(
    r"(://[^\s:@/?#\[]*:)(?:\S*|[^!]*)(?=@)"
    r"|(\b(?:\w*(?:pas|pwd|psw|auth|secret|token)\w*|pw)=)(?:\"[^\"]*\"|\S+)",
    re.IGNORECASE,
)

Value = TypeVar("Value")


class SourceUri(NamedTuple):
    """The parts of a source's name."""

    text: str  # the name as given, to print: without passwords
    scheme: str  # a key of OPTIONS
    location: str  # a device, a number, an address, a pipeline, a path or a scene
    options: Dict[str, str]

    def option(self, name: str, kind: Callable[[str], Value], default: Value) -> Value:
        """Return an option's value, parsed by ``kind``. Raises FileError if it is not of that kind."""
        text = self.options.get(name)
        if text is None:
            return default
        try:
            return kind(text)
        except ValueError as error:
            raise FileError(f"{name} must be {error}. Got {text!r} in {self.text}") from error


def parse_uri(text: str) -> SourceUri:
    """Parse the name of a source. Raises FileError if it is not one, or has an option that its scheme does not.

    Plain paths are accepted too: a folder, a video, a bag, a device such as /dev/video0.
    """
    given = str(text)
    text = without_passwords(given)
    if given.startswith("gst:"):
        return SourceUri(text, "gst", given[4:].strip(), {})
    if given.startswith("rtsp://"):
        return SourceUri(text, "rtsp", given, {})
    match = re.match(r"(v4l2|csi|file|folder|test|bag)(?:://|:)([^?]*)(?:\?(.*))?$", given, re.DOTALL)
    if match is None:
        return _plain_path(given)
    scheme, location, query = match.group(1), unquote(match.group(2)), match.group(3) or ""
    options = dict(parse_qsl(query, keep_blank_values=True))
    if scheme == "file" and os.path.isdir(location):
        scheme = "folder"
    if not location and scheme in ("v4l2", "file", "folder", "bag"):
        raise FileError(f"{text} names nothing; a source is {GRAMMAR}")
    unknown = sorted(set(options) - set(OPTIONS[scheme]))
    if unknown:
        known = ", ".join(OPTIONS[scheme])
        raise FileError(f"{scheme} sources have no option {unknown[0]!r}; they have {known}. Got {text}")
    return SourceUri(text, scheme, location, options)


def without_passwords(text: str) -> str:
    """Hide passwords: ``rtsp://me:secret@host/a`` -> ``rtsp://me:***@host/a``, ``?pwd=secret`` -> ``?pwd=***``.

    Also in messages and pipelines that quote one.
    """
    return PASSWORD.sub(r"\1\2***", text)


def files_of_sources(uris: Iterable[str]) -> List[str]:
    """Return the paths of recordings among the sources, and of the files in those that are folders. Raises FileError.

    No output may overwrite them.
    """
    sources = [parse_uri(uri) for uri in uris]
    found = [source.location for source in sources if source.scheme in FILES]
    return found + [entry.path for folder in found if os.path.isdir(folder) for entry in os.scandir(folder)]


def _plain_path(given: str) -> SourceUri:
    path, text = Path(given), without_passwords(given)
    if not given:
        raise FileError(f"the name of a source is empty; a source is {GRAMMAR}")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", given):
        raise FileError(f"unknown kind of source: {text}; a source is {GRAMMAR}")
    if given.startswith("/dev/"):
        return SourceUri(text, "v4l2", given, {})
    if os.path.isdir(path):  # not path.is_dir, which raises if a name is too long
        return SourceUri(text, "folder", given, {})
    if path.suffix == ".bag":
        return SourceUri(text, "bag", given, {})
    if is_video(path):
        return SourceUri(text, "file", given, {})
    if not os.path.exists(path):
        raise FileError(f"file or folder not found: {text}; a source is {GRAMMAR}")
    raise FileError(f"not a source: {text}; a source is {GRAMMAR}")


def positive_number(text: str) -> float:
    """``"29.97"`` -> 29.97. Raises ValueError, naming what is expected."""
    if not (re.fullmatch(r"[0-9]*\.?[0-9]+", text) and 0 < float(text) <= 1000):
        raise ValueError("a number above 0, at most 1000")
    return float(text)


def whole_number(text: str) -> int:
    """``"640"`` -> 640. Raises ValueError, naming what is expected."""
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError("a whole number, 0 to 99999")
    return int(text)


def yes_or_no(text: str) -> bool:
    """``"1"`` or ``"yes"`` -> True, ``"0"`` or ``"no"`` -> False. Raises ValueError, naming what is expected."""
    if text.lower() not in ("1", "yes", "0", "no"):
        raise ValueError("1 or yes, 0 or no")
    return text.lower() in ("1", "yes")
