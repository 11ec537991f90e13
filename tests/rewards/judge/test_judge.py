import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor import rewards
from bestfor.data.candidates import History
from bestfor.endpoint import EndpointTable
from bestfor.errors import InputError
from bestfor.rewards.judge import Config, Judge
from bestfor.rewards.judge.author import MaterialLimits, cost, material
from bestfor.runs.config import parse_config
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples
from support.judges import QUICK, small, with_history, writing
from support.servers import error, judging, marked, persona


class TestJudge(RewardModelTests):
    """The suite with fewer candidates: every row is a question over the wire."""

    model = Judge
    options: ClassVar = {"model": "m", "neighbours": 1, "rated": 1}

    @pytest.fixture(autouse=True)
    def _served(self, scripted):
        self.endpoint = {"base_url": scripted(judging()).url, **QUICK}

    def examples(self, users=6, queries=1, candidates=2, **how):
        return taste_examples(users, queries, min(candidates, 4), **how)

    def build(self, **options):
        return super().build(**{"endpoint": self.endpoint, **options})


def test_a_reward_is_the_expectation_over_score_tokens(judge):
    masses = {"1": 0.1, "2": 0.2, "5": 0.6}
    model, _ = judge(judging(score=lambda found: marked(masses)))
    examples = small()
    estimate = model.fit(examples, rng=0).predict(examples)
    mean = estimate.mean
    np.testing.assert_allclose(mean, (0.1 + 0.4 + 3.0) / 0.9)
    assert "m puts 0.10 of its probability on what is no score" in estimate.notes


def test_without_probabilities_the_number_is_read_and_said(judge):
    refused = judging(score=lambda found: 4)
    model, server = judge(
        lambda request: error(400, "logprobs are off") if "logprobs" in request.body else refused(request)
    )
    examples = small()
    estimate = model.fit(examples, rng=0).predict(examples)
    assert set(estimate.mean) == {4.0}
    assert "12 answers of m are the number it wrote: it gave no probabilities" in estimate.notes
    model, server = judge(judging(score=lambda found: 2), logprobs=False)
    estimate = model.fit(examples, rng=0).predict(examples)
    assert set(estimate.mean) == {2.0}
    assert not any("logprobs" in request.body for request in server.requests)
    assert not any("probabilities" in note for note in estimate.notes)


def test_rubrics_are_averaged_and_neighbours_mixed_in(judge):
    """Each rubric gives its own score, so that the mean shows who counted, and how much."""
    points = {"r0": 1, "r1": 3, "r2": 8}

    def write(found):
        return persona("p", next(names))

    def score(found):
        return points[found["rubric"][0]]

    examples = with_history(small(users=3))
    names = iter(["r0", "r1", "r2"])
    model, _ = judge(judging(score=score, write=write), encoder=LetterEncoder(), low=0, high=9, neighbours=2, share=0.4)
    model.fit(examples, rng=0)
    rubric = {user: own.rubrics[0] for user, own in model.personas.items()}
    mean = model.predict(examples).mean
    for user, profile in model._profiles.items():
        assert [name for name, _ in profile.neighbours if name == user] == []
        near = dict(profile.neighbours)
        assert sum(near.values()) == pytest.approx(1, abs=1e-8)
        lent = 0.4 * sum(share * points[rubric[name]] for name, share in near.items())
        expected = 0.6 * points[rubric[user]] + lent
        np.testing.assert_allclose(mean[examples.user == examples.users.index(user)], expected, rtol=1e-7)


def test_several_rubrics_of_one_user(judge):
    names = iter(["r1", "r2", "r3"])
    points = {"r1": 1, "r2": 2, "r3": 9}
    model, server = judge(
        judging(score=lambda found: points[found["rubric"][0]], write=lambda found: persona("p", next(names))),
        rubrics=3,
        high=9,
        temperature=0.5,
    )
    examples = small(users=1)
    assert set(model.fit(examples, rng=0).predict(examples).mean) == {4.0}
    asked = sorted(writing(server), key=lambda request: request.body["temperature"])
    assert [request.body["temperature"] for request in asked] == [0, 0.5, 0.5]
    assert len({request.body.get("seed") for request in asked}) == 3
    assert len({json.dumps(request.body["messages"]) for request in asked}) == 1


def test_neighbours_are_those_with_similar_texts(judge):
    examples = taste_examples(users=3, queries=1, candidates=4)
    texts = {"u0": ("aaaa",), "u1": ("aaab",), "u2": ("pppp",)}
    model, _ = judge(encoder=LetterEncoder(), neighbours=1, rated=0)
    model.fit(replace(examples, history=History(texts)), rng=0)
    near = {user: profile.neighbours for user, profile in model._profiles.items()}
    assert near == {"u0": (("u1", 1.0),), "u1": (("u0", 1.0),), "u2": ()}


def test_tokens_are_told_and_usage_is_what_was_paid(judge, tmp_path):
    examples = small(users=1, queries=1)
    prices = {"input_price": 1.0, "output_price": 4.0}
    model, server = judge(judging(), cache=tmp_path)
    estimate = model.fit(examples, rng=0).predict(examples)
    assert model.notes[0] == "personas and rubrics by m: 1 answer, 10 + 5 tokens"
    assert estimate.notes[-1] == "judged by m: 3 answers, 30 + 15 tokens"
    assert (model.usage.requests, model.usage.prompt_tokens, model.usage.cost) == (4, 40, None)
    again = rewards.build("judge", cache=tmp_path, model="m", endpoint={**model.config.endpoint.model_dump(), **prices})
    later = again.fit(examples, rng=0).predict(examples)
    costs = [
        f"{note}, cost {cost}"
        for note, cost in zip((model.notes[0], estimate.notes[-1]), ("0.0000", "0.0001"), strict=True)
    ]
    assert [again.notes[0], later.notes[-1]] == costs
    assert (again.usage.requests, again.usage.cost) == (0, 0.0)
    assert len(server.requests) == 4
    again.close()


def test_one_user_brings_the_neighbours_along(judge, tmp_path):
    examples = taste_examples(users=5, queries=1, candidates=3)
    model, _ = judge(encoder=LetterEncoder(), neighbours=2)
    model.fit(examples, rng=0).save(tmp_path)
    alone = Judge.load(tmp_path, user="u3")
    assert set(alone._profiles) == {"u3", *(name for name, _ in model._profiles["u3"].neighbours)}
    mine = examples.take(examples.user == 3)
    np.testing.assert_array_equal(alone.predict(mine).mean, model.predict(mine).mean)
    alone.close()


def test_a_model_on_disk_needs_a_server_only_to_judge_and_may_be_sent_to_another(judge, tmp_path):
    examples = small()
    model, server = judge()
    model.fit(examples, rng=0).save(tmp_path)
    server.close()
    loaded = Judge.load(tmp_path)
    assert loaded.personas == model.personas
    other, moved = judge(judging(score=lambda found: 3))
    loaded.reach(other.config.endpoint.model_dump())
    assert set(loaded.predict(examples).mean) == {3.0}
    assert loaded.usage.requests == len(moved.requests) == len(examples)
    loaded.close()


def test_credentials_of_an_address_are_never_stored(judge, tmp_path):
    examples = small(users=1)
    _, server = judge()
    secret = server.url.replace("http://", "http://ann:topsecret@")
    given = Judge(Config(model="m", endpoint=EndpointTable(base_url=secret, **QUICK)))
    given.fit(examples, rng=0).save(tmp_path)
    given.predict(examples)
    assert all("authorization" in request.headers for request in server.requests)
    assert not any(b"topsecret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(InputError, match=r"reward 'judge', endpoint base_url.*whose secrets were left out"):
        Judge.load(tmp_path).predict(examples)
    loaded = Judge.load(tmp_path).reach({"base_url": secret})
    np.testing.assert_array_equal(loaded.predict(examples).mean, given.predict(examples).mean)
    loaded.close()
    given.close()


WRONG = [
    ({}, "no 'model'; expected it to be given"),
    ({"modell": "m"}, "unknown key 'modell'; expected 'model'"),
    ({"model": "m", "low": 5}, "key 'high': found 5; expected a score above low = 5"),
    ({"model": "m", "high": 100}, "'high': found 100"),
    ({"model": "m", "mode": "tourney"}, "'mode': found 'tourney'"),
    ({"model": "m", "rounds": 3}, "no rounds with mode"),
    ({"model": "m", "share": 1.0}, "'share'"),
    ({"model": "m", "endpoint": {"base_ur": "x"}}, r"endpoint: found unknown key 'base_ur'; expected 'base_url'"),
    ({"model": "m", "endpoint": {"timeout": 0}}, r"'endpoint.timeout': found 0"),
    ({"model": "m", "endpoint": "http://ann:secret@x"}, r"'endpoint': found another kind of value"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_are_checked_by_both_doors(options, message):
    with pytest.raises(InputError, match=message) as caught:
        rewards.build("judge", **options)
    assert "secret" not in str(caught.value)
    run = {"data": {"source": "polis", "path": "x"}, "reward": [{"kind": "judge", **options}]}
    with pytest.raises(InputError, match=r"run.toml, \[\[reward\]\] 1") as caught:
        parse_config(run, "run.toml")
    assert "secret" not in str(caught.value)


def test_a_bad_address_or_budget_is_known_before_anything_is_done():
    for endpoint, found in (({"base_url": "x"}, "base_url: found 'x'"), ({"max_cost": 1.0}, "no prices")):
        run = {
            "data": {"source": "polis", "path": "x"},
            "reward": [{"kind": "judge", "model": "m", "endpoint": endpoint}],
        }
        with pytest.raises(InputError, match=rf"\[\[reward\]\] 1, endpoint.*{found}"):
            parse_config(run, "run.toml")


@settings(max_examples=40)
@given(
    st.lists(st.text(max_size=400), max_size=30),
    st.integers(0, 12),
    st.integers(0, 5),
    st.integers(100, 2000),
)
def test_what_is_shown_never_exceeds_its_budget(texts, items, rated, tokens):
    examples = replace(small(users=1, candidates=9), history=History({"u0": tuple(texts)}))
    said = {(query, number): text for query in examples.queries for number, text in enumerate(texts[::2])}
    examples = replace(examples, comments=said)
    [found] = material(examples, MaterialLimits(items, rated, tokens))
    rated = [part for one in (*found.liked, *found.disliked) for part in one if part]
    shown = [*found.items, *rated]
    assert sum(cost(text) for text in shown) <= tokens
    assert len(found.items) <= items
    assert found.rests_on == (len(texts) if found.items else 0)
    whole = [text for text in found.items if not text.endswith("…")]
    assert set(whole) <= set(texts)
