"""Memory: what a model learned by heart does not leave, as it stands or in a simple disguise."""
