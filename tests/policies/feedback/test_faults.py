"""Textual feedback where it cannot be had: nothing to compare, nothing said, refusals, a spent budget, broken calls."""

import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.endpoint import Budget, EndpointConfig
from bestfor.errors import BestforError, InputError
from bestfor.policies.base import Sampled, UnfinishedError
from bestfor.policies.feedback import FeedbackPolicy
from bestfor.pool import CandidatePool
from bestfor.runs.prompts import Prompting
from bestfor.runs.sampling import SamplingSettings, generate
from support.answers import prompts
from support.reader import kind_of, marks, obedient
from support.servers import Reply, chat, error

SCORES = {
    "tie": lambda asked, texts: [[1.0] * len(one) for one in texts],
    "unscored": lambda asked, texts: [[np.nan] * len(one) for one in texts],
}


@pytest.mark.parametrize("reason", SCORES)
def test_without_a_difference_nothing_is_made_up(feedback, reason):
    made, server = feedback(score=SCORES[reason])
    [trace] = made.refine(prompts("a"), 6, seed=0)
    assert {kind_of(request) for request in server.requests} == {"draft"}
    assert len({request.body["seed"] for request in server.requests}) == 2
    assert trace.steps[0].plain == reason
    assert trace.best == 0
    assert trace.critique_tokens == 0
    assert any("1 of 1 steps" in note and "sampled the request anew" in note for note in made.notes)


def test_candidates_without_a_score_are_neither_best_nor_worst(feedback):
    made, _ = feedback(score=lambda asked, texts: [[np.nan, *one[1:]] for one in marks(asked, texts)])
    [trace] = made.refine(prompts("a"), 6, seed=0)
    assert {trace.steps[0].best, trace.steps[0].worst} == {1, 2}
    assert trace.best == np.nanargmax(trace.scores)
    assert np.isnan(trace.scores[0])


@pytest.mark.parametrize("what", ["critique", "advice"])
def test_an_empty_critique_or_advice_leads_to_fresh_samples(feedback, what):
    made, server = feedback(lambda request: chat(" ") if kind_of(request) == what else obedient(request))
    [trace] = made.refine(prompts("a"), 6, seed=0)
    assert trace.steps[0].plain == f"empty {what}"
    assert [kind_of(request) for request in server.requests].count("revision") == 0
    # what was generated in vain counts all the same
    assert trace.spent[-1] == sum(one.tokens for one in trace.candidates) + trace.critique_tokens
    assert trace.critique_tokens >= 5


def test_a_failed_critique_leaves_its_query_unfinished_and_the_others_whole(feedback):
    def refuses(request):
        bad = kind_of(request) == "critique" and "Asked now: b" in request.body["messages"][-1]["content"]
        return error(400, "not this one") if bad else obedient(request)

    made, server = feedback(refuses)
    with pytest.raises(UnfinishedError, match=r"query 'b#critique-1'.*not this one") as caught:
        made.sample(prompts("a", "b", "c"), 6, seed=0)
    assert [sorted(got) for got in caught.value.written] == [list(range(6)), [0, 1, 2], list(range(6))]
    assert not caught.value.hopeless
    server.answer, before = obedient, len(server.requests)
    written = made.complete(prompts("a", "b", "c"), 6, seed=0, have=caught.value.written)
    assert [kind_of(request) for request in server.requests[before:]] == ["critique", "advice", "revision"]
    whole, _ = feedback()
    assert [[one.text for one in got] for got in written] == [
        [one.text for one in got] for got in whole.sample(prompts("a", "b", "c"), 6, seed=0)
    ]
    assert set(made.spent) == set(), "tokens of what was there already are not known here"


def test_a_step_that_broke_off_is_gone_on_with(feedback):
    made, server = feedback()
    [written] = made.sample(prompts("a"), 9, seed=0)
    server.requests.clear()
    have = [{index: one for index, one in enumerate(written) if index not in (4, 7, 8)}]
    assert made.complete(prompts("a"), 9, seed=0, have=have)[0][:4] == written[:4]
    drawn = [request.body.get("n", 1) for request in server.requests if kind_of(request) == "revision"]
    assert sum(drawn) == 3


def test_a_spent_budget_ends_it_and_is_one_for_drafts_and_critiques(feedback):
    server_config = EndpointConfig(budget=Budget(max_requests=4))
    made, server = feedback(server=server_config)
    with pytest.raises(UnfinishedError, match="budget") as caught:
        made.sample(prompts("a", "b", "c"), 6, seed=0)
    assert caught.value.hopeless
    assert len(server.requests) == 4
    assert [sorted(got) for got in caught.value.written] == [[0, 1, 2]] * 3


def test_a_server_that_is_down_is_not_asked_on(feedback):
    made, server = feedback(
        lambda request: obedient(request) if kind_of(request) == "draft" else Reply(503),
        server=EndpointConfig(retries=1),
    )
    with pytest.raises(UnfinishedError):
        made.sample(prompts(*"abcdef"), 9, seed=0)
    assert "revision" not in {kind_of(request) for request in server.requests}


@pytest.mark.parametrize(
    ("score", "found"),
    [
        (lambda asked, texts: [[1.0]], r"scores \[1.0\] of query 'a'; expected 3 numbers"),
        (lambda asked, texts: [], "0 lists; expected 1"),
        (lambda asked, texts: [[np.inf, 1, 2]], "scores.*of query 'a'"),
    ],
)
def test_scores_that_do_not_fit_are_told(feedback, score, found):
    made, _ = feedback(score=score)
    with pytest.raises(InputError, match=found):
        made.sample(prompts("a"), 3, seed=0)


def test_settings_are_checked(feedback):
    made, _ = feedback()
    for change, found in (
        ({"width": 0}, "width"),
        ({"critique_tokens": 0}, "critique_tokens"),
        ({"identity": ""}, "name"),
    ):
        with pytest.raises(InputError, match=found):
            replace(made, **change)
    with pytest.raises(InputError, match="query 'a' twice"):
        made.sample(prompts("a", "a"), 3, seed=0)
    assert made.sample([], 3, seed=0) == []


def test_a_pool_is_filled_and_gone_on_with(feedback, tmp_path):
    """The pipeline takes it as any policy: n candidates in the order written, what a failed call left is kept."""
    rows = [(name, "ann", name, "answer", "test", None) for name in "ab"]
    queries = pa.Table.from_pylist([dict(zip(QUERIES.names, row, strict=True)) for row in rows], schema=QUERIES)
    made, server = feedback(lambda request: error(400, "no") if kind_of(request) == "advice" else obedient(request))
    sampling = SamplingSettings(6, 1, 0, Prompting(retriever="none"))
    pool = CandidatePool(tmp_path)
    none = pa.Table.from_pylist([], schema=HISTORIES)
    with pytest.raises(BestforError, match="6 candidates are missing"):
        generate(made, none, queries, pool, sampling, progress=False)
    server.answer = obedient
    generate(made, none, queries, pool, sampling, progress=False)
    table = pool.scan()
    assert table["candidate"].to_pylist() == [*range(6)] * 2
    assert set(table["policy"].to_pylist()) == {"m with feedback"}
    found = [text.count("!") for text in table["text"].to_pylist()]
    assert max(found[:3]) < max(found[3:6])


class Memory:
    """A policy without a model: a text names its query, the call, the seed and its index."""

    name, signature = "memory", {"kind": "memory"}

    def __init__(self, chunk):
        self.chunk = chunk

    def sample(self, prompts, n, *, seed):
        return [[Sampled(f"{one.query_id} {seed} {i}", 1 + i, None, "stop") for i in range(n)] for one in prompts]


def scores_of(values):
    """Scores by the hash of a text, of few values, so that some tie and some are missing."""

    def score(asked, texts):
        return [[values[zlib.crc32(text.encode()) % len(values)] for text in one] for one in texts]

    return score


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 3),
    st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 8))),
)
def test_whatever_scores_are_it_goes_on_from_anywhere_to_the_same_end(values, width, n, chunk, kept):
    made = FeedbackPolicy(Memory(chunk), scores_of(values), "hash", width=width)
    asked = prompts("c", "a", "b")
    traces = made.refine(asked, n, seed=1)
    for trace in traces:
        assert len(trace.candidates) == n
        assert len(trace.steps) == -(-n // width) - 1
        assert trace.spent[-1] == sum(one.tokens for one in trace.candidates) + trace.critique_tokens
        assert (np.diff(trace.spent) > 0).all()
        known = [score for score in trace.scores if not np.isnan(score)]
        assert not known or trace.scores[trace.best] == max(known)
        for number, step in enumerate(trace.steps, 1):
            before = [score for score in trace.scores[: number * width] if not np.isnan(score)]
            differs = len(set(before)) > 1
            assert step.plain == ("" if differs else "tie" if before else "unscored")
            assert (step.critique is not None) == (step.advice is not None) == differs
            if differs:
                assert trace.scores[step.best] == max(before)
                assert trace.scores[step.worst] == min(before)
    written = [list(trace.candidates) for trace in traces]
    assert [one[:width] for one in written] == [one[:width] for one in Memory(1).sample(asked, n, seed=1)]
    pairs = zip(asked, written, strict=True)
    have = [{i: one[i] for i in range(n) if (prompt.query_id, i) in kept} for prompt, one in pairs]
    assert made.complete(asked, n, seed=1, have=have) == written
    assert made.sample(asked[::-1], n, seed=1) == written[::-1]
