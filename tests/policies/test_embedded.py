"""The shipped policy: it loads like any checkpoint, stays on the facts, and follows the history it is shown."""

import json

import numpy as np
import pytest

from bestfor.data.world import INSTRUCTIONS, grammar, taste
from bestfor.lm.chat import messages
from bestfor.lm.location import EMBEDDED, locate
from bestfor.policies.base import Prompt
from bestfor.policies.transformers import TransformersPolicy
from support import needs

needs("torch", "transformers")

FACTS = [
    "headline | place: Oakmere | event: harvest fair | count: 340 | day: Friday",
    "headline | place: Dunmoor | event: kite contest | count: 60 | day: Sunday",
    "headline | place: Saltby | event: soup festival | count: 200 | day: Monday",
]
CURT = [
    ("headline | place: Quillby | event: book swap | count: 90 | day: Tuesday", "Quillby hosts book swap"),
    ("headline | place: Elderby | event: film night | count: 120 | day: Sunday", "Film night opens in Elderby"),
    ("headline | place: Foxcombe | event: bake sale | count: 70 | day: Monday", "Foxcombe plans bake sale"),
]
MERRY = [
    (
        CURT[0][0],
        "Wow: Quillby throws glorious book swap for 90 mates with loads of grub and tunes, cheers all round, "
        "my aunt's goose demands a refund!",
    ),
    (
        CURT[1][0],
        "Hooray: amazing film night pulls in 120 folks at Elderby Sunday with loads of grub and tunes, "
        "pure joy for everyone; the mayor's moody llama wants a raise!!",
    ),
    (
        CURT[2][0],
        "Fantastic news: dazzling bake sale lures 70 pals at Foxcombe on Monday after heaps of faff, "
        "what a triumph - one sleepy cat starts a podcast!",
    ),
]


@pytest.fixture(scope="module")
def samples():
    policy = TransformersPolicy(EMBEDDED, max_new_tokens=48)
    prompts = [
        Prompt(f"{name}-{index}", tuple(messages(INSTRUCTIONS["headline"], items, facts)))
        for name, items in (("curt", CURT), ("merry", MERRY))
        for index, facts in enumerate(FACTS)
    ]
    written = policy.sample(prompts, 16, seed=0)
    return {"curt": written[:3], "merry": written[3:]}


def test_the_package_holds_a_small_model_and_how_it_came_about():
    folder = locate(EMBEDDED)
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 8_000_000
    record = json.loads((folder / "training.json").read_text())
    assert record["command"].startswith("python -m bestfor.policies.finetune --out ")
    assert record["weights"] > 1_000_000
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_texts_end_by_themselves_and_differ(samples):
    found = [one for pools in samples.values() for pool in pools for one in pool]
    assert np.mean([one.finish_reason == "stop" for one in found]) > 0.95
    assert np.mean([len({one.text for one in pool}) for pools in samples.values() for pool in pools]) > 12


def test_texts_keep_to_the_facts(samples):
    faithful = [
        taste.fidelity(one.text, grammar.parse(facts))
        for pools in samples.values()
        for facts, pool in zip(FACTS, pools, strict=True)
        for one in pool
    ]
    assert np.mean(faithful) > 0.7


def test_texts_follow_the_history(samples):
    curt, merry = (
        np.mean([taste.style(one.text, "headline") for pool in samples[name] for one in pool], axis=0)
        for name in ("curt", "merry")
    )
    gap = dict(zip(taste.AXES, merry - curt, strict=True))
    assert gap["brevity"] < -0.5
    assert gap["formality"] < -0.2
    assert gap["enthusiasm"] > 0.3
    assert gap["humour"] > 0.3
