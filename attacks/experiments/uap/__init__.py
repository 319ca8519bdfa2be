"""The table of universal perturbations: cells, run, tables."""
