"""How personal and how diverse a policy is in the embedded world.

    python benchmarks/eval_policy.py --model src/bestfor/assets/policy --users 60 --n 16 [--write]

For unseen users of a world: mean true utility of samples given the user's own latest items, another user's items, or
none; and what Best-of-N could gain. ``--write`` adds the figures to the checkpoint's training.json.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from transformers import PreTrainedTokenizerBase

from bestfor import rng
from bestfor.data.world import INSTRUCTIONS, World, WorldData, build, grammar, taste, taste_of, true_utility
from bestfor.lm.chat import Item, messages
from bestfor.policies.base import Prompt, Sampled
from bestfor.policies.transformers import TransformersPolicy
from bestfor.types import FloatArray

Whose = Literal["own", "other", "none"]


@dataclass(frozen=True)
class Figures:
    """What was measured for one way to choose the history; utilities are true ones."""

    queries: int
    utility: float
    best_of_n: float
    spread: float
    fidelity: float
    style_error: float
    distinct: float
    words: float
    ended: float


def prompts_of(data: WorldData, whose: Whose, items: int) -> list[list[dict[str, str]]]:
    """The chat of every test query, with the latest items of the user, of the next user, or of nobody."""
    by_user: dict[str, list[Item]] = {}
    for row in data.histories.to_pylist():
        by_user.setdefault(row["user_id"], []).append((row["input"], row["output"]))
    names = sorted(by_user)
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    chats = []
    for row in data.queries.to_pylist():
        owner = row["user_id"] if whose == "own" else following[row["user_id"]]
        shown = [] if whose == "none" else by_user[owner][::-1][:items]
        chats.append(messages(INSTRUCTIONS[data.config.task], shown, row["input"]))
    return chats


def sample(policy: TransformersPolicy, data: WorldData, whose: Whose, items: int, n: int) -> list[list[Sampled]]:
    """N texts for each test query."""
    names = data.queries.column("query_id").to_pylist()
    chats = prompts_of(data, whose, items)
    prompts = [Prompt(name, tuple(chat)) for name, chat in zip(names, chats, strict=True)]
    return policy.sample(prompts, n, seed=data.config.seed)


def surprise(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, data: WorldData, whose: Whose, items: int
) -> float:
    """Mean negative log-likelihood of the users' own texts, in nats per text (the end included)."""
    total = 0.0
    references = data.queries.column("reference").to_pylist()
    for chat, reference in zip(prompts_of(data, whose, items), references, strict=True):
        before = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        after = str(tokenizer.apply_chat_template([*chat, {"role": "assistant", "content": reference}], tokenize=False))
        start, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
        tokens = torch.tensor([ids])
        with torch.inference_mode():
            logp = model(input_ids=tokens).logits[0, len(start) - 1 : -1].log_softmax(dim=-1)
        total -= float(logp.gather(1, tokens[0, len(start) :, None]).sum())
    return round(total / len(references), 3)


def figures(data: WorldData, samples: list[list[Sampled]]) -> Figures:
    """Means over queries; ``style_error`` is the distance between the samples' and the reference's style."""
    rows = []
    for row, found in zip(data.queries.to_pylist(), samples, strict=True):
        texts = [one.text for one in found]
        facts = grammar.parse(row["input"])
        value = true_utility(data.config, row["user_id"], row["input"], texts)
        styles = np.array([taste.style(text, facts.task) for text in texts])
        off = np.linalg.norm(styles.mean(axis=0) - taste.style(row["reference"], facts.task))
        rows.append(
            [
                value.mean(),
                value.max(),
                value.std(ddof=1),
                np.mean([taste.fidelity(text, facts) for text in texts]),
                off,
                len(set(texts)) / len(texts),
                np.mean([len(text.split()) for text in texts]),
                np.mean([one.finish_reason == "stop" for one in found]),
            ]
        )
    return Figures(len(rows), *(round(float(value), 4) for value in np.mean(rows, axis=0)))


def baselines(data: WorldData, n: int) -> dict[str, float]:
    """Mean true utility of the users' own texts, and of grammar samples that know no taste."""
    own: list[FloatArray] = []
    blind: list[FloatArray] = []
    for row in data.queries.to_pylist():
        draw = rng.derive(data.config.seed, "baseline", row["query_id"])
        texts = [grammar.write(grammar.parse(row["input"]), rng=draw) for _ in range(n)]
        blind.append(true_utility(data.config, row["user_id"], row["input"], texts))
        own.append(true_utility(data.config, row["user_id"], row["input"], [row["reference"]]))
    tastes = [np.linalg.norm(taste_of(data.config, f"u{index:04d}")) for index in range(data.config.users)]
    return {
        "own_text": round(float(np.mean(own)), 4),
        "grammar": round(float(np.mean(blind)), 4),
        "grammar_best_of_n": round(float(np.mean([value.max() for value in blind])), 4),
        "users_with_taste": int(np.sum(np.array(tastes) > 0.1)),
    }


def main(
    model: Annotated[Path, typer.Option(help="Checkpoint folder.")] = Path("src/bestfor/assets/policy"),
    users: int = 60,
    queries: int = 4,
    n: int = 16,
    items: int = 4,
    seed: int = 7,
    show: Annotated[int, typer.Option(help="Queries whose samples are printed.")] = 0,
    write: Annotated[bool, typer.Option(help="Add the figures to training.json.")] = False,
) -> None:
    """Print the figures as JSON."""
    policy = TransformersPolicy(model, max_new_tokens=96)
    tokenizer, network = policy.checkpoint.tokenizer, policy.checkpoint.model
    result: dict[str, Any] = {"command": "python " + " ".join(sys.argv), "n": n, "items": items}
    for task in ("headline", "review", "mixed"):
        data = build(World(seed=seed, users=users, task=task, queries=queries))
        result[task] = {"world": data.sha256, "baselines": baselines(data, n)}
        for whose in ("own", "other", "none"):
            begin = time.perf_counter()
            samples = sample(policy, data, whose, items, n)
            nats = surprise(network, tokenizer, data, whose, items)
            result[task][whose] = asdict(figures(data, samples)) | {"reference_nats": nats}
            print(task, whose, f"{time.perf_counter() - begin:.0f} s", result[task][whose], file=sys.stderr)
            for row, found in list(zip(data.queries.to_pylist(), samples, strict=True))[: show * queries : queries]:
                print(row["input"], "\n  own:", row["reference"], file=sys.stderr)
                print(*("  " + one.text for one in found[:6]), sep="\n", file=sys.stderr)
    print(json.dumps(result, indent=2))
    if write:
        path = model / "training.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "evaluation": result}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
