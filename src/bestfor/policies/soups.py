"""Mix adapters of several users into one for each: personalized soups, and adapters of groups of similar users.

    update_u = sum over v of w_uv update_v,    sum over v of w_uv = 1

Personalized soups (Jang et al. 2023) interpolate adapters that were tuned apart; here those of the users who wrote most
like u, u among them, in proportion to exp(cosine / temperature) of mean embeddings. The sum is exact: ranks lie side by
side, nothing is trained. PROPER (Zhang et al. 2025) adapts a model to a group of similar users before it adapts to one
of them: :func:`train_in_groups` clusters users by the same vectors, trains an adapter for each group on all that its
members wrote, and each member's own on top of it. Rewarded soups (Rame et al. 2023) interpolate adapters that were
tuned for different rewards: :func:`weight_grid` has the weights that are tried.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.cluster.vq import kmeans2

from bestfor.errors import InputError
from bestfor.files import sweep, write_text, writing
from bestfor.lm.adapter_files import DOWN, INDEX, NOTES, PREFIX, UP, AdapterFolder, file_of
from bestfor.lm.adapters import Pair, summed
from bestfor.lm.location import fingerprint, locate
from bestfor.policies.adapters import Example, train_adapters
from bestfor.policies.finetune.settings import LoraSettings
from bestfor.rng import key
from bestfor.types import FloatArray

Part = tuple[Path, str, float]
"""A folder of adapters, whose adapter of it, and its weight."""


def mix_adapters(base: str | Path, parts: Mapping[str, Sequence[Part]], out: Path) -> dict[str, Any]:
    """Write a folder in which each user's adapter is a weighted sum of others.

    Args:
        base: the checkpoint to which they all belong.
        parts: for each user the adapters that are summed, those for all of their folders included.
        out: the new folder.

    Returns:
        What its ``adapters.json`` holds.

    Raises:
        InputError: nobody, a folder without adapters or with those of another base, or a user without any update.
    """
    if not any(parts.values()):
        raise InputError("adapters to mix", "none", "at least one user with one")
    print_of_base = fingerprint(locate(base))
    folders = {path: AdapterFolder(path, print_of_base) for found in parts.values() for path, _, _ in found}
    sweep(out)
    out.mkdir(parents=True, exist_ok=True)
    rank, users = 0, {}
    for user, found in sorted(parts.items()):
        mixed = summed([_scaled(folders[path].of(whose), weight) for path, whose, weight in found])
        if not mixed:
            raise InputError("adapters to mix", f"no update for user '{user}'", "one")
        tensors = {f"{PREFIX}{layer}{DOWN}": down.contiguous() for layer, (down, _) in mixed.items()}
        tensors |= {f"{PREFIX}{layer}{UP}": up.contiguous() for layer, (_, up) in mixed.items()}
        told = {whose: round(weight, 6) for _, whose, weight in found}
        with writing(out / file_of(user), sync=False) as partial:
            save_file(tensors, partial, metadata={NOTES: json.dumps({"user": user, "told": told}, sort_keys=True)})
        users[user] = {"file": file_of(user), "mixed": told}
        rank = max(rank, *(len(down) for down, _ in mixed.values()))
    first = next(iter(folders.values())).index["settings"]
    # Updates come scaled already, so alpha equals the rank.
    record = {"base": print_of_base, "settings": {**first, "rank": rank, "alpha": float(rank)}, "users": users}
    write_text(out / INDEX, json.dumps(record, indent=1, sort_keys=True) + "\n", sync=False)
    return record


def soup_weights(
    vectors: Mapping[str, FloatArray], nearest: int, temperature: float = 0.1
) -> dict[str, dict[str, float]]:
    """Weigh, for each user, the adapters of the users nearest in meaning, the user's own among them.

    Args:
        vectors: a vector of what each user wrote, of one length.
        nearest: how many adapters are mixed for a user; all where there are fewer.
        temperature: the lower, the more the nearest counts.

    Returns:
        For each user the weights of others, which sum to 1.

    Raises:
        InputError: nearest below 1, or a temperature that is not above 0.
    """
    if nearest < 1 or not temperature > 0:
        asked = f"{nearest} adapters at temperature {temperature}"
        raise InputError("soup", asked, "at least one, at a temperature above 0")
    names = sorted(vectors)
    rows = np.stack([vectors[name] / max(float(np.linalg.norm(vectors[name])), 1e-12) for name in names])
    alike = rows @ rows.T
    np.fill_diagonal(alike, 1.0)
    found: dict[str, dict[str, float]] = {}
    for place, name in enumerate(names):
        kept = np.argsort(-alike[place], kind="stable")[:nearest]
        if place not in kept:
            kept = np.array([place, *kept[:-1]])
        weight = np.exp((alike[place, kept] - 1.0) / temperature)
        found[name] = {names[other]: float(one) for other, one in zip(kept, weight / weight.sum(), strict=True)}
    return found


def weight_grid(count: int, steps: int) -> list[tuple[float, ...]]:
    """List the weights of so many adapters, which sum to 1, in steps of 1 / steps, those of the first falling.

    Raises:
        InputError: fewer than 1 adapter or step.
    """
    if count < 1 or steps < 1:
        raise InputError("weights of a soup", f"{count} adapters in {steps} steps", "at least 1 of each")
    bars = combinations(range(steps + count - 1), count - 1)
    parts = [np.diff((-1, *places, steps + count - 1)) - 1 for places in bars]
    return sorted((tuple((part / steps).tolist()) for part in parts), reverse=True)


def group_users(vectors: Mapping[str, FloatArray], groups: int, seed: int = 0) -> dict[str, int]:
    """Cluster users by what they wrote (k-means of vectors of length 1, started by k-means++).

    Args:
        vectors: a vector of what each user wrote, of one length.
        groups: how many clusters at most; empty ones are left out.
        seed: of the start.

    Returns:
        The number of each user's group, from 0.

    Raises:
        InputError: fewer than 1 group.
    """
    if groups < 1:
        raise InputError("groups", str(groups), "at least 1")
    names = sorted(vectors)
    rows = np.stack([vectors[name] / max(float(np.linalg.norm(vectors[name])), 1e-12) for name in names])
    if groups >= len(names):
        return {name: place for place, name in enumerate(names)}
    start = np.random.default_rng(key(seed, "groups"))
    _, label = kmeans2(rows.astype(np.float64), groups, minit="++", rng=start, missing="warn")
    _, number = np.unique(label, return_inverse=True)
    return dict(zip(names, number.tolist(), strict=True))


def train_in_groups(
    base: str | Path,
    examples: Mapping[str, Sequence[Example]],
    groups: Mapping[str, int],
    out: Path,
    config: LoraSettings,
) -> dict[str, Any]:
    """Train an adapter for each group on its members' texts, each member's own on top, and lay both into one folder.

    Args:
        base: a checkpoint's folder, ``"embedded"``, a fetched model or a hub name.
        examples: each user's texts.
        groups: each user's group.
        out: the folder; those of the groups lie within it, so that a training that was killed goes on.
        config: how; ``shared_steps`` are those of a group's adapter.

    Returns:
        What ``adapters.json`` holds.

    Raises:
        InputError: no ``shared_steps``, or what :func:`bestfor.policies.adapters.train_adapters` raises.
    """
    if not config.shared_steps:
        raise InputError("shared_steps", "0", "steps for the groups' adapters")
    parts: dict[str, list[Part]] = {}
    for number in sorted(set(groups.values())):
        members = {user: found for user, found in examples.items() if groups.get(user) == number and found}
        if not members:
            continue
        folder = out / f"group-{number}"
        trained = train_adapters(base, members, folder, config)
        parts |= {user: [(folder, user, 1.0)] for user in trained["users"]}
    record = mix_adapters(base, parts, out) | {"groups": {user: groups[user] for user in parts}}
    record["trained"] = asdict(config)
    write_text(out / INDEX, json.dumps(record, indent=1, sort_keys=True) + "\n", sync=False)
    return record


def _scaled(layers: Mapping[str, Pair], weight: float) -> dict[str, Pair]:
    return {layer: (down, (up * weight).to(torch.float32)) for layer, (down, up) in layers.items()}
