"""Train per-user adapters as a step of a run: a user's earliest items train, later ones label, none does both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bestfor.encoders import load_encoder
from bestfor.errors import InputError
from bestfor.policies.base import Policy
from bestfor.runs.config import RunConfig
from bestfor.runs.prompts import Prompting, early_prompts
from bestfor.runs.rewarded import attach_rewarded
from bestfor.runs.steps import Steps, digest
from bestfor.types import FloatArray

if TYPE_CHECKING:
    from bestfor.data.split import Dataset
    from bestfor.policies.adapters import Example, LoraSettings

FOLDER, SOUPS, INDEX = "adapters", "soups", "adapters.json"


def attach_adapters(policy: Policy, config: RunConfig, data: Dataset, prompting: Prompting, steps: Steps) -> Policy:
    """Give a policy the adapters that a run asks for, trained here unless they are there already.

    A user's examples are asked for exactly as test queries are: same prompt, same retrieval, nothing later shown.

    Raises:
        InputError: nobody has an item to train on, or the base has no layers to adapt.
    """
    table = config.policy.adapters
    if table is None:
        return policy
    from bestfor.policies.adapters import LoraSettings
    from bestfor.policies.transformers import TransformersPolicy

    if not isinstance(policy, TransformersPolicy):
        raise InputError("[policy.adapters]", f"a policy of kind '{config.policy.kind}'", "kind 'transformers'")
    keys = table.model_dump(exclude={"groups", "soup", "rewarded"})
    settings = LoraSettings(**keys, seed=config.seed, dtype=policy.dtype, device=policy.device)
    if table.rewarded is not None:
        return attach_rewarded(policy, config, data, prompting, steps, settings)
    examples = training_examples(policy, data, config.policy.fit_share, prompting)
    rows = [[user, [[list(one.messages), one.output] for one in examples[user]]] for user in sorted(examples)]
    # The class was once called Lora: what keys the adapters of earlier runs stays.
    written = "Lora" + repr(settings).removeprefix(type(settings).__name__)
    inputs: dict[str, Any] = {"base": policy.signature, "settings": written, "examples": digest(rows)}
    trainer = AdapterTraining(policy.model, examples, settings, steps.folder, config.policy.encoder)
    if table.groups:
        inputs["groups"] = table.groups
    found = steps.run(FOLDER, inputs, [FOLDER], lambda: trainer.train(table.groups))
    if not table.soup:
        return replace(policy, adapters=trainer.own)
    steps.run(SOUPS, {"adapters": found, "soup": table.soup}, [SOUPS], lambda: trainer.mix(table.soup))
    return replace(policy, adapters=trainer.soups)


@dataclass(frozen=True)
class AdapterTraining:
    """Training of a run's adapters, and what is made of several users' together.

    Attributes:
        base: the checkpoint.
        examples: each user's texts.
        settings: how adapters are trained.
        folder: the run's folder.
        encoder: name of the encoder by which users' texts are compared.
    """

    base: str | Path
    examples: Mapping[str, Sequence[Example]]
    settings: LoraSettings
    folder: Path
    encoder: str

    @property
    def own(self) -> Path:
        """Folder of the adapters as they are trained."""
        return self.folder / FOLDER

    @property
    def soups(self) -> Path:
        """Folder of mixed adapters."""
        return self.folder / SOUPS

    def train(self, groups: int) -> None:
        """Train an adapter for each user; with groups, one for each group of users who write alike below theirs."""
        from bestfor.policies.adapters import train_adapters
        from bestfor.policies.soups import group_users, train_in_groups

        if not groups:
            train_adapters(self.base, self.examples, self.own, self.settings)
            return
        members = group_users(self._vectors(sorted(self.examples)), groups, self.settings.seed)
        train_in_groups(self.base, self.examples, members, self.own, self.settings)

    def mix(self, nearest: int) -> None:
        """Mix, for each user, the adapters of the users who write most alike."""
        from bestfor.policies.soups import mix_adapters, soup_weights

        users = json.loads((self.own / INDEX).read_text(encoding="utf-8"))["users"]
        weights = soup_weights(self._vectors(sorted(users)), nearest)
        parts = {user: [(self.own, other, one) for other, one in found.items()] for user, found in weights.items()}
        mix_adapters(self.base, parts, self.soups)

    def _vectors(self, users: Sequence[str]) -> dict[str, FloatArray]:
        """Mean embedding of what each user wrote."""
        encoder = load_encoder(self.encoder, cache=self.folder / "embeddings")
        texts = [[one.output for one in self.examples[user]] for user in users]
        rows = np.asarray(encoder.encode([text for own in texts for text in own]), dtype=np.float64)
        ends = np.cumsum([len(own) for own in texts])[:-1]
        return {user: own.mean(axis=0) for user, own in zip(users, np.split(rows, ends), strict=True)}


def training_examples(
    policy: Policy, data: Dataset, fit_share: float, prompting: Prompting
) -> dict[str, list[Example]]:
    """Choose each user's examples: the items that are too early to be labelled.

    Args:
        policy: its budget bounds the prompts.
        data: histories, and the queries that no example may be.
        fit_share: share of a user's items, the latest, that are kept for labels.
        prompting: what stands in a prompt.

    Returns:
        Candidates by user; users without any are left out.
    """
    from bestfor.policies.adapters import Example

    asked = early_prompts(policy, data.histories, data.queries, fit_share, prompting)
    found: dict[str, list[Example]] = {}
    for row, prompt in zip(asked.queries.to_pylist(), asked.prompts, strict=True):
        found.setdefault(row["user_id"], []).append(Example(prompt.messages, row["reference"]))
    return found
