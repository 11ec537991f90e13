"""The sampling loop and its draws."""

import math

import numpy as np
import pytest
from scipy import stats

from bestfor.policies.transformers import TransformersPolicy
from support import later

sampling = later("bestfor.lm.sampling", "torch")
torch = later("torch")


def test_candidates_that_end_leave_the_batch_and_change_nothing(checkpoint):
    policy = TransformersPolicy(checkpoint, max_new_tokens=12)
    model, prompts = policy.checkpoint.model, [[3, 9, 12, 40], [4, 7]]
    noise = np.random.default_rng(0).random((2, 40, 12))
    engine = sampling.SharedPrefix(model, policy.checkpoint._cache(), prompts)
    never = sampling.run(engine, noise, sampling.Ends(frozenset()), temperature=1.0, top_p=1.0)
    ends = frozenset(np.unique(never.tokens[:, :20, 3]).tolist())
    for build in (
        lambda: sampling.SharedPrefix(model, policy.checkpoint._cache(), prompts),
        lambda: sampling.Repeated(model, policy.checkpoint._cache(), prompts[0], 40),
    ):
        engine = build()
        rows = 2 if isinstance(engine, sampling.SharedPrefix) else 1
        drawn = sampling.run(engine, noise[:rows], sampling.Ends(ends), temperature=1.0, top_p=1.0)
        hits = np.isin(never.tokens[:rows], list(ends))
        expected = np.where(hits.any(axis=2), hits.argmax(axis=2) + 1, 12)
        assert np.array_equal(drawn.count, expected)
        assert np.array_equal(drawn.stopped, hits.any(axis=2))
        assert 0 < drawn.stopped.mean() < 1 or drawn.count.min() < 12
        for row, column in np.ndindex(drawn.count.shape):
            size = drawn.count[row, column]
            assert np.array_equal(drawn.tokens[row, column, :size], never.tokens[row, column, :size])


def test_draws_follow_the_softmax():
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5, -3.0]])
    count = 60_000
    tokens, logprob = sampling.draw(logits, np.random.default_rng(1).random((1, count)), 1.0, 1.0)
    expected = torch.softmax(logits[0].double(), 0).numpy()
    observed = np.bincount(tokens[0], minlength=6)
    assert stats.chisquare(observed, expected * count).pvalue > 1e-3
    assert np.exp(logprob[0]) == pytest.approx(expected[tokens[0]], rel=1e-5)


def test_temperature_and_top_p_shape_the_draws_but_not_the_log_probabilities():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 5.0, 0.0]])
    count = 40_000
    tokens, logprob = sampling.draw(logits, np.random.default_rng(2).random((2, count)), 0.5, 0.9)
    hot = torch.softmax(logits[0].double() / 0.5, 0).numpy()[:2]
    observed = np.bincount(tokens[0], minlength=4)
    assert observed[2:].sum() == 0, "0.86 alone is below 0.9, 0.86 + 0.12 reaches it"
    assert stats.chisquare(observed[:2], hot / hot.sum() * count).pvalue > 1e-3
    assert set(tokens[1]) == {2}
    assert logprob[1] == pytest.approx(float(torch.log_softmax(logits[1], 0)[2]))


def test_a_uniform_next_to_one_stays_inside_the_vocabulary():
    logits = torch.tensor([[0.0, 1.0, -float("inf")]])
    tokens, logprob = sampling.draw(logits, np.array([[math.nextafter(1.0, 0.0), 0.0]]), 1.0, 1.0)
    assert tokens.tolist() == [[1, 0]]
    assert np.isfinite(logprob).all()


def test_blocks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    logits, noise = torch.from_numpy(rng.normal(size=(11, 9))), rng.random((11, 4))
    whole = sampling.draw(logits, noise, 1.0, 0.7)
    monkeypatch.setattr(sampling, "BLOCK", 27)
    assert np.array_equal(whole[0], sampling.draw(logits, noise, 1.0, 0.7)[0])
