"""Web pages, served by a robot without a screen. Needs aiohttp."""
