"""Keys for what was measured on or made from a pair: its name and content, since another pair may have its name."""

import hashlib
from typing import Sequence

from irvis.runtime.files import sha256
from irvis.runtime.pairs import Pair


def key_of(pair: Pair) -> str:
    """Return a pair's name and the SHA-256 of both files. Raises FileError."""
    return f"{pair.name} {sha256(pair.infrared)} {sha256(pair.visible)}"


def digest_pairs(pairs: Sequence[Pair]) -> str:
    """Return a SHA-256 of the pairs' names and contents, in order. Raises FileError."""
    return hashlib.sha256("\n".join(map(key_of, pairs)).encode()).hexdigest()
