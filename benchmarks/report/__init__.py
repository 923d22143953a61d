"""What a run of bench.py found: as text, JSON, table and picture, and one beside another."""
