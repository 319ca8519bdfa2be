"""The table of poisoned generators under federated training: arms, one federation measured, run, tables."""
