"""Persons: faults that editing models in place had, and what each kind makes of labels."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

import bestfor as bf
from bestfor import rewards, rng
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.errors import BestforError, InputError
from bestfor.rewards.base_rows import WITHOUT_BASE, BaseRows
from bestfor.rewards.heads.last_layer import rating_pairs
from bestfor.rewards.posterior import Belief, RatedRows, condition
from bestfor.selection import select
from bestfor.testing.rewards import LetterEncoder, as_requests, assert_close, labels_of, taste_examples

LEARNERS = ("hierarchical", "tastes", "pooled", "ridge", "similarity", "point", "gaussian", "bradley_terry", "ensemble")
HEADS = {"point", "gaussian", "bradley_terry", "ensemble"}


def fitted(kind, examples, **options):
    options = {**({"epochs": 3} if kind in HEADS else {}), **options}
    return rewards.build(kind, encoder=LetterEncoder(), **options).fit(examples, rng=0)


@pytest.mark.parametrize("kind", LEARNERS)
def test_eight_labels_of_one_prompt_are_the_same_in_eight_calls_as_in_one(kind):
    examples = taste_examples(users=7, seed=1)
    model = fitted(kind, examples.take(examples.user < 6), **({"rounds": 4} if kind == "tastes" else {}))
    newcomer = examples.take((examples.user == 6) & (examples.query % 3 == 0))
    labels, texts = labels_of(newcomer, "u6"), list(examples.texts[:30])
    assert len(labels) == 8
    before = {user: model.score(user, "p", texts) for user in ("u0", "nobody")}
    together = model.person("u6", labels).score(labels.rated[0].prompt, texts)
    journal = Labels()
    for one in reversed(labels.rated):
        journal += Labels(rated=(one,))
        last = model.person("u6", journal)
    assert_close(together, last.score(labels.rated[0].prompt, texts))
    # as one prompt they share a level, which eight prompts of one label each do not
    apart = Labels(tuple(replace(one, prompt=f"{one.prompt} {place}") for place, one in enumerate(labels.rated)))
    moved = model.person("u6", apart).score("", texts).mean != model.person("u6", labels).score("", texts).mean
    assert np.any(moved) or kind in ("similarity", "bradley_terry")
    # what all share is nobody's to move
    for user, scores in before.items():
        assert_close(model.score(user, "p", texts), scores)


def crowd(own):
    """Everybody likes the same; u0's fit labels are mostly noise, what u0 says later is of their own taste or not."""
    draw = rng.derive(24, "crowd")
    base = taste_examples(users=40, queries=1, candidates=30, seed=24)
    vectors = LetterEncoder().encode(base.texts).astype(np.float64) * 4
    general, tastes = draw.normal(size=16), draw.normal(size=(40, 16)) * 2
    odd = base.user % 2 == 1
    utility = np.sum(vectors[base.text] * (general + np.where(odd[:, None], tastes[base.user], 0)), axis=1)
    utility = utility + np.where(odd, 0.3, 6.0) * draw.normal(size=len(base))
    wanted = general + (own * draw.normal(size=16) * 2)
    return replace(base, utility=utility), vectors @ wanted, draw


@pytest.mark.parametrize("kind", ["hierarchical", "ridge"])
def test_who_abstained_is_heard_once_their_labels_say_so(kind):
    options = {"components": 15, "style": False, "answer": False, "abstain": True}
    examples, wanted, draw = crowd(own=1.0)
    model = fitted(kind, examples, **options)
    user = next(one for one in model.abstained if int(one[1:]) % 2 == 0)
    assert model.served(user) == "abstained"
    texts = list(examples.texts)
    rated = [Rated("", texts[place], float(wanted[place] + 0.3 * draw.normal())) for place in range(200)]
    heard = model.person(user, Labels(rated=tuple(rated)))
    assert heard.served == "own"
    fresh = texts[200:]
    after = np.corrcoef(heard.score("", fresh).mean, wanted[200:])[0, 1]
    before = np.corrcoef(model.score(user, "", fresh).mean, wanted[200:])[0, 1]
    assert after > max(before, 0.3) + 0.1
    deaf = model.person(user, Labels(rated=(Rated("", texts[0], float(np.mean(examples.utility))),)))
    assert deaf.served in ("abstained", "own")
    if deaf.served == "abstained":
        assert deaf.labels_count == 1
        assert_close(deaf.score("", fresh), model.score(user, "", fresh))
        assert deaf.notes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tastes", "point", "gaussian", "bradley_terry", "ensemble"])
def test_whoever_abstains_wakes_by_further_labels(kind):
    examples, wanted, draw = crowd(own=1.0)
    options = {"rounds": 4} if kind == "tastes" else {"epochs": 30, "patience": 30, "components": 15, "hidden": 0}
    model = fitted(kind, examples, **options, abstain=True)
    model._abstained = np.array([one == "u0" for one in model._users])
    texts = list(examples.texts)
    assert model.served("u0") == "abstained"
    rated = [Rated("", texts[place], float(wanted[place] + 0.3 * draw.normal())) for place in range(80)]
    heard = model.person("u0", Labels(rated=tuple(rated)))
    assert heard.served == "own"
    after, before = (one.score("", texts[80:]).mean for one in (heard, model.person("u0", Labels())))
    assert np.corrcoef(after, wanted[80:])[0, 1] > np.corrcoef(before, wanted[80:])[0, 1] + 0.1


@pytest.mark.parametrize("kind", LEARNERS)
def test_what_people_say_brings_their_scores_nearer_to_their_taste(kind):
    examples = taste_examples(users=9, queries=4, candidates=8, seed=3)
    model = fitted(kind, examples.take(examples.user < 6), **({"rounds": 4} if kind == "tastes" else {}))
    gains = []
    for code in (6, 7, 8):
        mine = examples.take(examples.user == code)
        seen = mine.query % 4 < 3
        labels, fresh = labels_of(mine.take(seen), f"u{code}"), mine.take(~seen)
        pairs = [(a, b) for a in labels.rated for b in labels.rated if a.prompt == b.prompt and a.utility > b.utility]
        preferred = tuple(Preferred(a.prompt, a.text, b.text) for a, b in pairs[::5])
        [[prompt], [texts]] = as_requests(fresh)[1:]
        before = model.score(f"u{code}", prompt, texts).mean
        for said in (labels, Labels(preferred=preferred)):
            after = model.person(f"u{code}", said).score(prompt, texts).mean
            gains.append(np.corrcoef(after, fresh.utility)[0, 1] - np.corrcoef(before, fresh.utility)[0, 1])
    # these are there to be compared with: one weight for all, own labels alone, and no learning at all
    least = {"pooled": -0.2, "ridge": -0.2, "similarity": -0.4}.get(kind, 0.0)
    assert np.mean(gains[::2]) > least
    assert np.mean(gains[1::2]) > least


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_stronger_weight_is_more_of_the_same(kind):
    examples = taste_examples(users=8, seed=4)
    model = fitted(kind, examples)
    texts = list(examples.texts[:12])
    twice = Labels(preferred=(Preferred("p", texts[0], texts[1]),) * 2, rated=(Rated("p", texts[2], 3.0),) * 2)
    once = Labels(preferred=twice.preferred[:1], rated=twice.rated[:1])
    scores = [model.person("u1", said).score("p", texts).mean for said in (Labels(), once, twice)]
    assert all(np.all(np.isfinite(one)) for one in scores)
    if kind != "similarity":
        assert np.any(scores[1] != scores[2]), "a label that is there twice counts twice"


def test_scores_of_embeddings_at_hand():
    examples = taste_examples(users=8, seed=5)
    encoder = LetterEncoder()
    labels = labels_of(examples.take(examples.user == 2), "u2")
    texts = list(examples.texts[:8])
    for kind, options in (("hierarchical", {"kernel": "rational_quadratic"}), ("pooled", {}), ("point", {})):
        model = fitted(kind, examples, style=False, answer=False, **options)
        person = model.person("u2", labels)
        expected, found = person.score("", texts), person.score_embeddings(encoder.encode(texts))
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5, atol=1e-6)
        assert (found.std_mean is None) == (expected.std_mean is None)
        if found.std_mean is not None:
            np.testing.assert_allclose(found.std_mean, expected.std_mean, rtol=1e-4)
    person = fitted("hierarchical", examples).person("u2", labels)
    with pytest.raises(BestforError, match="surface features"):
        person.score_embeddings(encoder.encode(texts))


@pytest.mark.parametrize("kind", ["ridge", "point", "bradley_terry", "ensemble"])
def test_a_folder_without_the_labels_of_the_fit_learns_and_says_so(kind, tmp_path):
    examples = taste_examples(users=5, seed=6)
    model = fitted(kind, examples)
    model.save(tmp_path / "new")
    model._base = None
    model.save(tmp_path / "old")
    labels, texts = labels_of(examples.take(examples.user == 1), "u1"), list(examples.texts[:8])
    old, new = (rewards.load(tmp_path / name, encoder=LetterEncoder()) for name in ("old", "new"))
    np.testing.assert_array_equal(old.predict(examples).mean, new.predict(examples).mean)
    assert old.person("u1", labels).notes == (WITHOUT_BASE,)
    assert new.person("u1", labels).notes == old.person("stranger", labels).notes == ()
    assert np.any(old.person("u1", labels).score("", texts).mean != new.person("u1", labels).score("", texts).mean)
    alone = rewards.load(tmp_path / "new", encoder=LetterEncoder(), user="u1")
    assert_close(alone.person("u1", labels).score("", texts), new.person("u1", labels).score("", texts))


def test_a_ridge_is_the_ridge_of_all_labels():
    """Labels of the fit and since are one ridge, ratios held."""
    examples = taste_examples(users=6, seed=7)
    model = fitted("ridge", examples, slope=0.3)
    mine = examples.take(examples.user == 2)
    labels = Labels(tuple(Rated("later", one.text, one.utility + 1) for one in labels_of(mine, "u2").rated[:5]))
    found, code = model.person("u2", labels), model._users.index("u2")
    features, target, query = model._base.of(code)
    rows = model.columns(features, code)
    noise, level = model.noise(rows, code), model.units().level
    known = condition(
        Belief(np.zeros(rows.shape[1]), model.belief(-1).covariance), RatedRows(rows, target, noise, query, level)
    )
    np.testing.assert_allclose(known.mean, model._weights[code], atol=1e-4)
    assert found.weights.shape == known.mean.shape
    assert isinstance(model._base, BaseRows)


def test_ratings_that_are_only_compared():
    better, worse, share = rating_pairs(np.array([3.0, 1.0, 3.0, 2.0]), np.array([0, 0, 0, 1]))
    assert {(int(a), int(b)) for a, b in zip(better, worse, strict=True)} == {(0, 1), (2, 1)}
    np.testing.assert_allclose(share, 0.5)
    better, _, share = rating_pairs(np.arange(100.0), np.zeros(100, dtype=np.int64))
    assert share.sum() == pytest.approx(100)
    assert len(better) == 1600
    assert len(rating_pairs(np.ones(3), np.zeros(3, dtype=np.int64))[0]) == 0


def test_a_run_folder_with_one_model_is_a_model(tmp_path):
    examples = taste_examples(users=4, seed=8)
    with pytest.raises(InputError, match=r"config\.json"):
        bf.load_model(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(InputError, match="found no model; expected a run"):
        bf.load_model(tmp_path)
    for kind in ("length", "pooled"):
        fitted(kind, examples).save(tmp_path / "models" / kind)
        if kind == "length":
            assert bf.load_model(tmp_path).kind == "length"
    with pytest.raises(InputError, match=r"2 models: length, pooled; expected one of them, as .*length"):
        bf.load_model(str(tmp_path))
    assert bf.load_model(tmp_path / "models" / "pooled").kind == "pooled"
    with pytest.warns(DeprecationWarning, match="load_reward is now load_model"):
        assert bf.load_reward is bf.load_model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bf.load_model is rewards.load_model


POSTERIORS = ["pooled", "ridge", "hierarchical", "tastes", "point", "gaussian", "bradley_terry", "ensemble"]


@pytest.mark.parametrize("kind", POSTERIORS)
def test_thompson_picks_with_every_kind_that_has_a_posterior(kind):
    examples = taste_examples(users=5, seed=8)
    model = fitted(kind, examples.take(examples.user < 4))
    texts = list(examples.texts[:6])
    for user in ("u1", "u4"):
        for scores in (model.score(user, "p", texts), model.person(user, labels_of(examples, user)).score("p", texts)):
            assert scores.std_mean is not None
            assert scores.cov_mean is not None
            assert np.all(np.isfinite(scores.std_mean) & (scores.std_mean > 0))
            np.testing.assert_allclose(np.sqrt(np.diag(scores.cov_mean)), scores.std_mean, rtol=1e-6)
            chances = select(scores, "thompson").chances
            assert chances.sum() == pytest.approx(1.0)
            assert np.count_nonzero(chances > 1e-6) > 1


@pytest.mark.parametrize("kind", ["ridge", "point", "gaussian"])
def test_std_mean_of_last_layers_is_the_normal_posterior(kind):
    """Brute force: the inverse of prior precision and the sum over labels, levels of prompts marginalised."""
    examples = taste_examples(users=5, queries=3, seed=9)
    model = fitted(kind, examples, **({"slope": 0.4} if kind == "ridge" else {"hidden": 3}))
    texts, code = list(examples.texts[:6]), 2
    user = model._users[code]
    features, _, query = model._base.of(code)
    rows, units = model.columns(features, code), model.units()
    cover = np.diag(model.noise(rows, code)) + units.level * (query[:, None] == query)
    if kind == "ridge":
        prior = model.belief(-1).covariance
    else:
        k = rows.shape[1]
        precision = np.full(k, model.config.deviation * k)
        precision[-1] = 1.0
        prior = np.diag(model._heads.noise / precision)
    expected = np.linalg.inv(np.linalg.inv(prior) + rows.T @ np.linalg.solve(cover, rows))
    asked = model.columns(model.features(Candidates.of(user, "p", texts)), code)
    found = model.score(user, "p", texts)
    np.testing.assert_allclose(found.cov_mean, units.unit**2 * asked @ expected @ asked.T, rtol=1e-5, atol=1e-9)
    stranger = model.score("nobody", "p", texts)
    asked = model.columns(model.features(Candidates.of("nobody", "p", texts)), -1)
    np.testing.assert_allclose(stranger.cov_mean, units.unit**2 * asked @ prior @ asked.T, rtol=1e-6, atol=1e-9)


def test_std_mean_of_bradley_terry_is_laplaces():
    """Brute force: the Hessian of the summed logistic losses of all compared pairs at the head, and the prior."""
    examples = taste_examples(users=4, queries=2, candidates=5, seed=10)
    model = fitted("bradley_terry", examples, hidden=2)
    texts, code = list(examples.texts[:6]), 1
    features, target, _ = model._base.of(code)
    rows, head = model.columns(features, code), model._heads.mean[code]
    k, steps = rows.shape[1], min(len(rows) - 1, 16)
    hessian = np.diag(np.append(np.full(k - 1, model.config.deviation * k), 1.0))
    order = np.argsort(target, kind="stable")
    for place in range(len(order)):
        for step in range(1, steps + 1):
            one, other = rows[order[place]], rows[order[(place + step) % len(order)]]
            chance = 1 / (1 + np.exp(-(one - other) @ head))
            hessian += chance * (1 - chance) / steps * np.outer(one - other, one - other)
    asked = model.columns(model.features(Candidates.of(model._users[code], "p", texts)), code)
    found = model.score(model._users[code], "p", texts)
    np.testing.assert_allclose(found.cov_mean, asked @ np.linalg.inv(hessian) @ asked.T, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", ["similarity", "length"])
def test_kinds_without_a_posterior_have_none(kind):
    examples = taste_examples(users=4, seed=11)
    found = fitted(kind, examples).score("u1", "p", list(examples.texts[:3]))
    assert found.std_mean is None
    assert found.cov_mean is None
    with pytest.raises(InputError, match="rule thompson: found no standard deviations of the means"):
        select(found, "thompson")
