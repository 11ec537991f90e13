"""Real answers of three users: whose requests, what each would get, and what cannot be shown."""

import numpy as np
import pyarrow as pa
import pytest

from bestfor.data import schema
from bestfor.data.candidates import Candidates
from bestfor.files import hash_text
from bestfor.pool import CandidatePool
from bestfor.rewards import build
from bestfor.runs.answers import answers_of

USERS = ("ann", "bob", "cat", "dan")
TEXTS = ("one", "two words", "three short words", "a b c d", "a b c d e")


def row(query, candidate, text):
    return {"query_id": query, "candidate": candidate, "text_id": text, "text": text, "logprob": None} | {
        "finish_reason": "stop", "policy": "p", "seed": 0,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Every user has one test query: ann and bob the same prompt and texts, the others their own."""
    queries, candidates, utilities = [], [], []
    for place, user in enumerate(USERS):
        prompt = "say it" if user in ("ann", "bob") else f"say it, {user}"
        query = f"q-{user}"
        queries.append((query, user, prompt, None, "test", None))
        texts = TEXTS if user in ("ann", "bob") else TEXTS[: 4 - place // 3]
        candidates += [row(query, at, text) for at, text in enumerate(texts)]
        utilities += [(query, at, "rougeL", at / 10) for at in range(len(texts))]
    columns = zip(*queries, strict=True)
    table = pa.table([pa.array(one, field.type) for one, field in zip(columns, schema.QUERIES, strict=True)], schema=schema.QUERIES)  # fmt: skip  # noqa: E501
    schema.write(table, tmp_path / "queries.parquet")
    measured = zip(*utilities, strict=True)
    table = pa.table([pa.array(one, field.type) for one, field in zip(measured, schema.UTILITIES, strict=True)], schema=schema.UTILITIES)  # fmt: skip  # noqa: E501
    schema.write(table, tmp_path / "utilities" / "rougeL.parquet")
    pool = CandidatePool(tmp_path / "pool")
    pool.plan([pool.append(pa.Table.from_pylist(candidates, schema=schema.CANDIDATES))])
    return tmp_path


class ByLength:
    """Ann and dan like long texts, the others short ones."""

    kind = "by length"

    def score_many(self, users, prompts, texts, history=None):
        from bestfor.types import Scores

        sign = [1.0 if user in ("ann", "dan") else -1.0 for user in users]
        return [Scores(one * np.array([len(text.split()) for text in said], float), served="own") for one, said in zip(sign, texts, strict=True)]  # fmt: skip  # noqa: E501


def test_everyones_request_is_answered_for_all_three(folder):
    found = answers_of(folder, ByLength(), "mine", "rougeL")
    users = sorted(USERS, key=hash_text)[:3]
    assert (found["model"], found["rule"], found["users"]) == ("mine", "best", users)
    shared = {"ann", "bob"} <= set(users)
    assert len(found["requests"]) == 3 - shared
    for request in found["requests"]:
        size, longest = request["size"], request["owner"] in ("ann", "dan")
        mean = pytest.approx((size - 1) / 20)
        best = {"utility": (size - 1) / 10, "rank": 1} if longest else {"utility": 0.0, "rank": size}
        assert request["pick"] == {**best, "of": size, "random": mean}
        assert [answer["user"] for answer in request["answers"]] == users
        for answer in request["answers"]:
            longest = answer["user"] in ("ann", "dan")
            assert answer["candidate"] == (request["size"] - 1 if longest else 0)
            assert answer["text"] == TEXTS[answer["candidate"]]
            assert answer["owner_utility"] == answer["candidate"] / 10
            sign = 1 if request["owner"] in ("ann", "dan") else -1
            assert answer["owner_reward"] == sign * len(answer["text"].split())


def stored(folder, label, value):
    """Write rewards of every candidate as a run holds them."""
    rows = CandidatePool(folder / "pool").scan().to_pylist()
    table = [
        {"query_id": one["query_id"], "candidate": one["candidate"], "model": label, "mean": value(one), "std": None}
        for one in rows
    ]
    schema.write(pa.Table.from_pylist(table, schema=schema.REWARDS), folder / "rewards" / f"{label}.parquet")


def test_a_model_of_the_package_answers(folder):
    fit = Candidates.of(["ann", "bob"], ["x", "y"], [TEXTS, TEXTS], [np.arange(5.0), np.arange(5.0)])
    length = build("length").fit(fit, rng=0)
    found = answers_of(folder, length, "length", "rougeL")
    assert all(len({answer["candidate"] for answer in request["answers"]}) == 1 for request in found["requests"])


def test_one_reward_for_all_users_is_taken_from_the_run(folder):
    """``logprob`` has no rewards for requests from outside, but those of the run are everybody's."""
    fit = Candidates.of(["ann", "bob"], ["x", "y"], [TEXTS, TEXTS], [np.arange(5.0), np.arange(5.0)])
    logprob = build("logprob").fit(fit, rng=0)
    stored(folder, "logprob", lambda one: float(one["candidate"] % 3))
    found = answers_of(folder, logprob, "logprob", "rougeL")
    assert len(found["users"]) > 1
    for request in found["requests"]:
        assert [answer["candidate"] for answer in request["answers"]] == [2] * len(found["users"])
        assert {answer["reward"] for answer in request["answers"]} == {2.0}
        assert {answer["served"] for answer in request["answers"]} == {"everybody"}


class Costly(ByLength):
    """A model that must not be asked anew."""

    kind = "lora"
    personal = True

    def served(self, user):
        return "own"

    def score_many(self, *given, **more):
        raise AssertionError("a new call of the model")


def test_a_costly_model_is_not_asked_anew(folder, monkeypatch):
    from bestfor.runs import answers

    sign = {"q-ann": 1.0, "q-bob": -1.0}
    stored(folder, "lora", lambda one: sign.get(one["query_id"], 1.0) * len(one["text"].split()))
    alone = answers_of(folder, Costly(), "lora", "rougeL")
    assert alone["requests"] == []
    assert "would need new calls of the model" in alone["reason"]
    monkeypatch.setattr(answers, "hash_text", {"ann": "0", "bob": "1", "cat": "2", "dan": "3"}.get)
    monkeypatch.setattr(answers, "USERS", 2)
    found = answers_of(folder, Costly(), "lora", "rougeL")
    assert found["users"] == ["ann", "bob"]
    [request] = found["requests"]
    assert [answer["text"] for answer in request["answers"]] == [TEXTS[-1], TEXTS[0]]
    assert [answer["owner_reward"] for answer in request["answers"]] == [-5.0, -1.0]
    assert "reason" not in found


def test_rewards_that_are_not_there_are_a_reason(folder):
    fit = Candidates.of(["ann", "bob"], ["x", "y"], [TEXTS, TEXTS], [np.arange(5.0), np.arange(5.0)])
    logprob = build("logprob").fit(fit, rng=0)
    assert answers_of(folder, logprob, "logprob", "rougeL")["reason"]
