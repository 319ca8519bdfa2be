"""What attackers learn from answers: one file per kind of task."""
