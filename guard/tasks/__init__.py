"""What a model answers: one file per task."""
