"""The machine that runs a benchmark: its power mode, clocks, temperatures and energy."""
