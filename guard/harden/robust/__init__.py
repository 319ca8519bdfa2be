"""Training that makes a model harder to fool, one method a file."""
