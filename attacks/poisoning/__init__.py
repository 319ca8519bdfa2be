"""Poisoning of federations: what malicious clients learn from, send and say."""
