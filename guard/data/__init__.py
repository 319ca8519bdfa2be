"""Data as users bring it: rows, labels, pixels, copies."""
