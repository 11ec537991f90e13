"""Condition a fitted model on what other people said of the very texts that it scores.

    y_v(t) = R_v(t) + l_v + x_v'd_t + e,   d_t ~ N(0, diag(c_t)),  e ~ N(0, n_v)

R_v(t) is what the model predicts for rater v, d_t are p effects of the text that its words did not tell: the first
moves everybody (x = 1), others, where a kind has them, along directions in which people differ. Given the ratings of
one text the effects are normal in closed form; with C^1/2 = diag(c_t)^1/2, rows X of the raters and N = diag(n_v),

    A = I + C^1/2 X'N^-1 X C^1/2,   d_t | y ~ N(C^1/2 A^-1 C^1/2 X'N^-1 (y - R - l),  C^1/2 A^-1 C^1/2)

and the asking user's reward moves by x_u'd_t (Rasmussen & Williams 2006, section 2.1). n_v is what the model's
predictive variance for the rater holds beside the text's effects, so that its calibration carries over. Each text is
conditioned on by itself, and nothing of the model changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.data.others import OtherRatings
from bestfor.types import BoolArray, FloatArray, IntArray, RewardEstimate, Scores

NUMBERS = 1 << 21
"""Numbers in rows of loadings that are held at once."""
LEAST_NOISE = 0.05
"""Share of a rater's predictive variance that is noise at least."""
UNHEARD = "what other people said of the texts was not looked at: kind '{kind}' does not learn from it"


@dataclass(frozen=True)
class Raters:
    """Loadings of some people's rewards on a text's effects, and the level of what they say.

    Attributes:
        loading: shape (u, p), x; the first column is 1.
        level: shape (u,), mean of l.
        known: shape (u,), the part of the predictive variance that a known level takes away.
    """

    loading: FloatArray
    level: FloatArray
    known: FloatArray


class TextHearer(Protocol):
    """A fitted kind that learns from what others said of a text."""

    @property
    def hidden_variance(self) -> float:
        """Variance of a text's first effect that ``std_mean`` does not hold while nobody said anything of it."""
        ...

    @property
    def rating_noise(self) -> float | None:
        """Variance of a rating's noise where it was learned; None: what ``std`` holds beside the text's effects."""
        ...

    def text_effects(self, candidates: Candidates) -> FloatArray:
        """Prior variances c of each row's text, shape (n, p), in squared units of the utility."""
        ...

    def raters(self, users: Sequence[str]) -> Raters:
        """Say how these people's rewards move with a text's effects."""
        ...

    def fitted_rewards(self, candidates: Candidates) -> RewardEstimate:
        """Rewards with standard deviations, by the fit alone."""
        ...


@dataclass(frozen=True)
class Told:
    """Changes of rewards by others' ratings.

    Attributes:
        gain: shape (n,), added to the mean.
        before: shape (n,), variance of the text's effects for the user before the ratings.
        after: shape (n,), and after them.
        hidden: the part of ``before`` that no standard deviation of the mean held.
        noise: variance of a rating's noise, 0 where it was not learned.
    """

    gain: FloatArray
    before: FloatArray
    after: FloatArray
    hidden: float
    noise: float

    def take(self, rows: BoolArray) -> Told:
        """Some of the rows."""
        return Told(self.gain[rows], self.before[rows], self.after[rows], self.hidden, self.noise)


def condition(
    model: TextHearer, candidates: Candidates, others: OtherRatings, loading: FloatArray | None = None
) -> Told:
    """Condition the rewards of n rows on what others said of their texts.

    Args:
        model: fitted.
        candidates: the rows.
        others: of these rows.
        loading: shape (p,), of the one user who asks; None takes what the model knows of each row's user.
    """
    items = _items(candidates)
    root = np.sqrt(np.maximum(model.text_effects(_of_items(candidates, items)), 0.0))
    mine = model.raters(candidates.users).loading[candidates.user] if loading is None else loading[None, :]
    scaled = root[items.code] * mine
    before = np.sum(scaled**2, axis=1)
    gain, after = np.zeros(len(candidates)), before.copy()
    fixed = model.hidden_variance, model.rating_noise or 0.0
    if not len(others.user):
        return Told(gain, before, after, *fixed)
    raters, residual, noise = _residuals(model, candidates, others, items, root)
    code, row = others.user, others.row
    for rows, place in _batches(others, root.shape[1]):
        x = raters.loading[code[place]] * root[items.code[row[place]]]
        weight = 1 / noise[place]
        weighed = (x * weight[:, :, None]).swapaxes(1, 2)
        inverse = np.linalg.inv(np.eye(x.shape[2]) + weighed @ x)
        told = inverse @ (weighed @ residual[place][:, :, None])
        gain[rows] = np.sum(told[:, :, 0] * scaled[rows], axis=1)
        after[rows] = np.einsum("bi,bij,bj->b", scaled[rows], inverse, scaled[rows])
    return Told(gain, before, np.clip(after, 0.0, before), *fixed)


def moved(estimate: RewardEstimate, told: Told) -> RewardEstimate:
    """Predictions after others' ratings; variances count the text's effects as doubt of the mean."""
    if estimate.std is None or estimate.std_mean is None:
        return RewardEstimate(estimate.mean + told.gain, estimate.std, estimate.std_mean, estimate.notes)
    doubt, whole = _variances(estimate.std_mean**2, estimate.std**2, told)
    return RewardEstimate(estimate.mean + told.gain, np.sqrt(whole), np.sqrt(doubt), estimate.notes)


def moved_scores(scores: Scores, told: Told) -> Scores:
    """The same for the scores of one request, and for the covariance of their means."""
    estimate = moved(RewardEstimate(scores.mean, scores.std, scores.std_mean), told)
    cover, before, after = scores.cov_mean, scores.std_mean, estimate.std_mean
    if cover is not None and before is not None and after is not None:
        # texts are conditioned on one by one: what their means share shrinks with them, and no more is shared
        kept = np.minimum(after / np.maximum(before, 1e-300), 1.0)
        cover = kept[:, None] * cover * kept
        cover[np.diag_indices(len(cover))] += np.maximum(after**2 - before**2, 0.0)
    return Scores(estimate.mean, estimate.std, after, scores.served, cover)


def _variances(doubt: FloatArray, whole: FloatArray, told: Told) -> tuple[FloatArray, FloatArray]:
    """Variance of the mean and predictive variance after others' ratings.

    Where the text's effects are a part of the predictive variance, that part shrinks. Where they were learned beside it
    (``noise``), both variances shrink in proportion as effects and noise, and effects alone, do: calibration stays.
    """
    if told.noise > 0:
        shrunk = np.where(told.before > 0, told.after / np.maximum(told.before, 1e-300), 1.0)
        return doubt * shrunk, whole * (told.after + told.noise) / (told.before + told.noise)
    less = told.before - told.after
    doubt = np.maximum(doubt + told.hidden, told.before) - less
    whole = np.where(less > 0, np.maximum(whole - less, doubt + LEAST_NOISE * whole), whole)
    return np.minimum(doubt, whole), whole


@dataclass(frozen=True)
class _Items:
    """Distinct pairs of what was asked and a text.

    Attributes:
        code: shape (n,), item of each row.
        first: shape (items,), a row of each.
    """

    code: IntArray
    first: IntArray


def _items(candidates: Candidates) -> _Items:
    asked = np.unique(np.array(candidates.inputs, dtype=object), return_inverse=True)[1][candidates.query]
    pair = asked * len(candidates.texts) + candidates.text
    _, first, code = np.unique(pair, return_index=True, return_inverse=True)
    return _Items(code.astype(np.int64), first)


def _rows(candidates: Candidates, users: tuple[str, ...], user: IntArray, row: IntArray) -> Candidates:
    """Rows asked by other people: one of theirs for each text of a row, a query for each of them and prompt."""
    prompts, asked = np.unique(np.array(candidates.inputs, dtype=object), return_inverse=True)
    prompt = asked[candidates.query[row]]
    pair, query = np.unique(user * len(prompts) + prompt, return_inverse=True)
    return Candidates(
        users=users,
        queries=tuple(str(code) for code in range(len(pair))),
        inputs=tuple(str(prompts[code]) for code in (pair % len(prompts)).tolist()),
        texts=candidates.texts,
        user=user,
        query=query.astype(np.int64),
        text=candidates.text[row],
        candidate=np.arange(len(row)),
        utility=np.full(len(row), np.nan),
        logprob=candidates.logprob[row],
    )


def _of_items(candidates: Candidates, items: _Items) -> Candidates:
    """One row of each item, asked by nobody in particular."""
    return _rows(candidates, ("",), np.zeros(len(items.first), dtype=np.int64), items.first)


def _residuals(
    model: TextHearer, candidates: Candidates, others: OtherRatings, items: _Items, root: FloatArray
) -> tuple[Raters, FloatArray, FloatArray]:
    """Residual of each rating, what it says beyond its prediction, and the variance of its noise, each (m,)."""
    used, user = np.unique(others.user, return_inverse=True)
    item = items.code[others.row]
    _, first, place = np.unique(user * len(items.first) + item, return_index=True, return_inverse=True)
    names = tuple(others.users[code] for code in used.tolist())
    estimate = model.fitted_rewards(_rows(candidates, names, user[first].astype(np.int64), others.row[first]))
    found = model.raters(names)
    every = Raters(*(np.zeros((len(others.users), *part.shape[1:])) for part in vars(found).values()))
    for name, part in vars(found).items():
        getattr(every, name)[used] = part
    if model.rating_noise is not None:
        noise = np.full(len(item), model.rating_noise)
    else:
        assert estimate.std is not None
        variance = estimate.std[place] ** 2
        own = np.sum((root[item] * every.loading[others.user]) ** 2, axis=1)
        noise = np.maximum(variance - own - every.known[others.user], LEAST_NOISE * variance)
    noise = noise / others.weight
    return every, others.utility - estimate.mean[place] - every.level[others.user], noise


def _batches(others: OtherRatings, effects: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Rows of equally many ratings, shape (b,), and the places of these, (b, count)."""
    count = others.count
    for many in np.unique(count[count > 0]).tolist():
        rows = np.flatnonzero(count == many)
        step = max(NUMBERS // (many * effects), 1)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            yield part, others.ends[part, None] + np.arange(many)
