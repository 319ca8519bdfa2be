"""Training that makes a classifier harder to fool, one method a file."""
