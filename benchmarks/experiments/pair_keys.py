"""What was measured on, or made of, a pair is kept by the pair's name and content: under one name another may come."""

import hashlib
from typing import Sequence

from irvis.runtime.files import sha256
from irvis.runtime.pairs import Pair


def key_of(pair: Pair) -> str:
    """Give a pair's name and the SHA-256 of both files. Raises FileError."""
    return f"{pair.name} {sha256(pair.infrared)} {sha256(pair.visible)}"


def digest_pairs(pairs: Sequence[Pair]) -> str:
    """Give a SHA-256 of the pairs' names and contents, in their order. Raises FileError."""
    return hashlib.sha256("\n".join(map(key_of, pairs)).encode()).hexdigest()
