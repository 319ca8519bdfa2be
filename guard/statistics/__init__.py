"""Bounds and nothing else: conformal p-values, bets, strata."""
