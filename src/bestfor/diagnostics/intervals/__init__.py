"""Compute confidence intervals: clustered by user, by user and text, and by the jackknife."""
