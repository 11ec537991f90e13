"""Train per-user adapters as a step of a run: a user's earliest items train, later ones label, none does both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.errors import InputError
from bestfor.policies.base import Policy
from bestfor.runs.config import RunConfig
from bestfor.runs.prompts import Prompting, build_prompts, count_unlabelled, items_by_user
from bestfor.runs.steps import Steps, digest

if TYPE_CHECKING:
    from bestfor.data.split import Dataset
    from bestfor.policies.adapters import Example

FOLDER = "adapters"


def attach_adapters(policy: Policy, config: RunConfig, data: Dataset, prompting: Prompting, steps: Steps) -> Policy:
    """Give a policy the adapters that a run asks for, trained here unless they are there already.

    A user's examples are asked for exactly as test queries are: same prompt, same retrieval, nothing later shown.

    Raises:
        InputError: nobody has an item to train on, or the base has no layers to adapt.
    """
    table = config.policy.adapters
    if table is None:
        return policy
    from bestfor.policies.adapters import LoraSettings, train_adapters
    from bestfor.policies.transformers import TransformersPolicy

    if not isinstance(policy, TransformersPolicy):
        raise InputError("[policy.adapters]", f"a policy of kind '{config.policy.kind}'", "kind 'transformers'")
    examples = training_examples(policy, data, config.policy.fit_share, prompting)
    settings = LoraSettings(**table.model_dump(), seed=config.seed, dtype=policy.dtype, device=policy.device)
    rows = [[user, [[list(one.messages), one.output] for one in examples[user]]] for user in sorted(examples)]
    # The class was once called Lora: what keys the adapters of earlier runs stays.
    written = "Lora" + repr(settings).removeprefix(type(settings).__name__)
    inputs = {"base": policy.signature, "settings": written, "examples": digest(rows)}
    out = steps.folder / FOLDER

    def train() -> None:
        train_adapters(policy.model, examples, out, settings)

    steps.run(FOLDER, inputs, [FOLDER], train)
    return replace(policy, adapters=out)


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

    rows: list[tuple[str, str, str, str, int | None]] = []
    for user, items in items_by_user(data.histories, data.queries):
        askable = [item for item in items if item.input.strip()]
        for item in askable[: count_unlabelled(len(askable), fit_share)]:
            rows.append((user, item.item_id, item.input, item.output, item.timestamp))
    columns = zip(*rows, strict=True) if rows else [()] * len(HISTORIES)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, HISTORIES, strict=True)]
    asked = build_prompts(policy, pa.table(arrays, schema=HISTORIES), QUERIES.empty_table(), len(rows), prompting)
    found: dict[str, list[Example]] = {}
    for row, prompt in zip(asked.queries.to_pylist(), asked.prompts, strict=True):
        found.setdefault(row["user_id"], []).append(Example(prompt.messages, row["reference"]))
    return found
