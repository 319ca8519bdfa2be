"""Data sets, real and drawn, one file each."""
