"""One account over time."""

from guard.monitor.eprocess import EProcess

__all__ = ["EProcess"]
