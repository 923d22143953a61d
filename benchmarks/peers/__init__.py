"""Published networks beside the student: latency against quality."""
