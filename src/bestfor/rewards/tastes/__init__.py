"""Tastes: latent tastes that users share, carried to unrated texts by a Gaussian process."""

from bestfor.rewards.tastes.model import Config, Tastes

__all__ = ["Config", "Tastes"]
