"""Ordinary behaviour: what hospitals do on ordinary days, and what a guard makes of it."""
