"""Families of image classifiers, one file each, from scratch; `attacks.benchmarks.networks.architectures` gives their
sizes.
"""
