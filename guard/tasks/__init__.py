"""What a model answers, and what it decides by it."""
