"""One account over time."""
