"""Simulate people: users with known tastes, their texts, and the true utility of any text."""

from bestfor.data.world.world import (
    INSTRUCTIONS,
    World,
    WorldData,
    build,
    build_steady,
    history_length,
    noise_std,
    noisy,
    taste_of,
    true_utility,
    user_id,
)

__all__ = [
    "INSTRUCTIONS",
    "World",
    "WorldData",
    "build",
    "build_steady",
    "history_length",
    "noise_std",
    "noisy",
    "taste_of",
    "true_utility",
    "user_id",
]
