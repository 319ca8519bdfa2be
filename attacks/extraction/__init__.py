"""Stealing a model: a clone trained on what the target answers."""

from attacks.extraction.knockoff import Knockoff

__all__ = ["Knockoff"]
