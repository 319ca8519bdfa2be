"""Triggers: marks put on the images that a malicious client learns from."""
