"""The student compared with published networks: latency against quality."""
