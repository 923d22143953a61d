"""Reports of bench.py: as text, JSON, table and plot, and compared with each other."""
