"""How hard to train an author's adapter, chosen on authors who are not in the tables: the train split's.

    python benchmarks/acl_tune.py MODEL [--users 24]

Prints the mean loss, in nats a token, of the later half of each author's titles: of the base, and with adapters
trained on the earlier half at several rates and numbers of steps.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import typer

from acl_corpus import TITLE
from acl_titles import DATA
from bestfor.data.sources.lamp import load_lamp
from bestfor.lm.adapters import attached
from bestfor.policies.adapters import Example, LoraSettings, encode_examples, train_adapters
from bestfor.policies.finetune.training import weighted_loss
from bestfor.policies.transformers import TransformersPolicy
from bestfor.runs.adapters import training_examples
from bestfor.runs.prompts import Prompting, build_prompts

SETTINGS = ((5e-4, 4), (5e-4, 8), (1e-3, 8), (2e-3, 8))


def main(model: Path, users: int = 24, data: Path = DATA) -> None:
    """Train adapters at each setting and measure them."""
    policy = TransformersPolicy(model)
    authors = load_lamp(data / "train_questions.json", data / "train_outputs.json", users=users)
    prompting = Prompting(TITLE, 0, "none")
    early = training_examples(policy, authors, 0.5, prompting)
    asked = build_prompts(policy, authors.histories, authors.queries, 99, prompting, fit_share=0.5)
    late: dict[str, list[Example]] = {}
    for row, prompt in zip(asked.queries.to_pylist(), asked.prompts, strict=True):
        if row["split"] == "fit":
            late.setdefault(row["user_id"], []).append(Example(prompt.messages, row["reference"]))
    print(f"base: {loss(policy, late):.3f}", flush=True)
    for rate, steps in SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            train_adapters(model, early, Path(folder), LoraSettings(rate=rate, steps=steps))
            adapted = replace(policy, adapters=folder)
            print(f"rate {rate:g}, {steps} steps: {loss(adapted, late):.3f}", flush=True)


def loss(policy: TransformersPolicy, texts: dict[str, list[Example]]) -> float:
    """Mean over authors of the mean loss a token of their titles."""
    checkpoint = policy.checkpoint
    found: list[float] = []
    for user, examples in sorted(texts.items()):
        rows = encode_examples(checkpoint, examples, 2048)
        updates = {} if policy.adapters is None else policy._adapters.of(user)
        with torch.inference_mode(), attached(checkpoint.model, [updates] * len(rows)):
            total, weight = weighted_loss(checkpoint.model, rows)
        found.append(float(total) / weight)
    return sum(found) / len(found)


if __name__ == "__main__":
    typer.run(main)
