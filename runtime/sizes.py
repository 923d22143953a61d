"""Frame sizes and counts on a command line. Sizes are HEIGHTxWIDTH, in the order of numpy, not of video formats."""

import argparse
import re
from typing import Sequence, Tuple

DEFAULT_SIZE = (480, 640)  # (H, W), the paper's
MINIMUM = 16  # pixels; the smallest height and width that the student takes


def parse_size(text: str) -> Tuple[int, int]:
    """``"480x640"`` -> ``(480, 640)``: the ``type=`` of an argument. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"a size is HEIGHTxWIDTH in pixels, such as 480x640. Got {text!r}")
    height, width = int(match.group(1)), int(match.group(2))
    if min(height, width) < MINIMUM:
        raise argparse.ArgumentTypeError(f"height and width must each be {MINIMUM} or more. Got {text!r}")
    return height, width


def parse_count(text: str) -> int:
    """``"3"`` -> ``3``: the ``type=`` of an argument, a whole number from 1. Raises argparse.ArgumentTypeError."""
    value = int(text) if text.isdecimal() and len(text) < 20 else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more. Got {text!r}")
    return value


def format_size(size: Sequence[int]) -> str:
    """``(480, 640)`` -> ``"480x640"``."""
    return f"{size[0]}x{size[1]}"
