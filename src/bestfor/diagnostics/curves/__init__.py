"""Compute exact Best-of-N curves: the highest reward, other rules, and any function of a subset."""
