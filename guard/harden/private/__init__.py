"""Training with differential privacy: what one patient can change in the weights is bounded."""
