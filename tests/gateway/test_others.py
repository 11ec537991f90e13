"""Others' ratings of the candidates count in a gateway's answers, are said there, and can be switched off."""

import numpy as np
import pytest

from bestfor.data.candidates import Candidates
from bestfor.rewards import build
from support.gateways import WORDS, as_user, writes


@pytest.fixture(scope="module")
def pooled():
    """A model without an encoder, of four people who rated the same texts."""
    draw = np.random.default_rng(0)
    texts = [f"{word} {place * 'a'}" for place, word in enumerate(WORDS * 2)]
    merit = draw.normal(size=len(texts)) / 4 + 0.5
    rows = [[merit + draw.normal(size=len(texts)) / 10] for _ in range(4)]
    fit = Candidates.of([f"u{user}" for user in range(4)], [""] * 4, [texts] * 4, [one[0] for one in rows])
    return build("pooled", components=0).fit(fit, rng=0)


def rewards(gateway, user):
    told = gateway.ask(user, bestfor={"n": 4}).json()["bestfor"]
    return told["rewards"], told["notes"], told["answer_id"]


def test_what_others_said_of_the_same_candidates_counts_and_is_said(serve, pooled):
    gateway = serve(writes(*WORDS[:4]), model=pooled)
    before, notes, _ = rewards(gateway, "ann")
    assert notes == []
    for user, value in (("ben", 1), ("eve", 0.9), (None, 0)):
        _, _, id = rewards(gateway, user)
        assert gateway.learn(id, "rating", value=value, text=WORDS[2]).status_code == 201
    after, notes, _ = rewards(gateway, "ann")
    assert notes == ["2 ratings of these very texts by 2 other people counted"]
    assert after[2] > before[2]
    assert [after[place] for place in (0, 1, 3)] == [before[place] for place in (0, 1, 3)]
    assert rewards(gateway, "ben")[1] == ["1 rating of these very texts by 1 other person counted"]
    body = {"query": "an animal", "documents": list(WORDS[:4]), "user": "ann"}
    ordered = gateway.http.post("/v1/rerank", json=body).json()
    assert ordered["bestfor"]["notes"] == notes
    assert {one["index"]: one["relevance_score"] for one in ordered["results"]} == pytest.approx(
        dict(enumerate(after)), abs=1e-8
    )
    assert gateway.http.get("/v1/users/ben", headers=as_user("ben")).status_code == 200
    assert gateway.http.delete("/v1/users/ben").status_code == 200
    assert rewards(gateway, "ann")[1] == ["1 rating of these very texts by 1 other person counted"]


def test_others_can_be_left_out(serve, pooled):
    gateway = serve(writes(*WORDS[:4]), model=pooled, others=0)
    before = rewards(gateway, "ann")[:2]
    gateway.learn(rewards(gateway, "ben")[2], "rating", value=1, text=WORDS[2])
    assert rewards(gateway, "ann")[:2] == before
