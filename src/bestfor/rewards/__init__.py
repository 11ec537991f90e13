"""Reward models per user, and the baselines without which nobody knows whether they do anything."""
