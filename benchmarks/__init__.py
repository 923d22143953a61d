"""Latency, board state, fusion quality, and the reports made of them."""

import irvis.runtime  # noqa: F401  it sets the largest image, before any module imports OpenCV
