"""Tastes: latent tastes that users share, carried to unrated texts by a Gaussian process."""

from bestfor.rewards.tastes.items import RatedItems, list_items
from bestfor.rewards.tastes.model import Config, Tastes

__all__ = ["Config", "RatedItems", "Tastes", "list_items"]
