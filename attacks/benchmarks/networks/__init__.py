"""Families of image classifiers, one file each, from scratch; `attacks.benchmarks.architectures` gives their sizes."""
