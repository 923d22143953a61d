"""Pages that a robot without a screen serves to a browser. Needs aiohttp."""
