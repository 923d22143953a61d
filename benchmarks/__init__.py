"""Latency, board state, fusion quality, and the reports made of them."""
