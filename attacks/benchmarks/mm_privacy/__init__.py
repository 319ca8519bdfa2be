"""MM-Privacy: private values are got out of models that see, from the page before them or from what they learned."""
