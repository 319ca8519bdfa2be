"""Sound bounds of deployed models: what an input within a radius can change, and what it provably cannot."""
