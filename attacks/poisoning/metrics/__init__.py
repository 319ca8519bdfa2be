"""Metrics of poisoned federations: the images that the model makes, and the detector that watches the clients."""
