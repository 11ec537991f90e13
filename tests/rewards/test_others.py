"""Rewards conditioned on what others said of the very texts: exact, calibrated, and nothing of the model changes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Rated
from bestfor.data.others import OtherRatings
from bestfor.errors import InputError
from bestfor.rewards import KINDS, load_model
from bestfor.rewards.auto.crowd import learn_crowd, restore_crowd
from bestfor.rewards.others import Raters, condition, moved
from bestfor.rewards.rows import pair_moment
from bestfor.testing.rewards import LetterEncoder, taste_examples
from bestfor.types import RewardEstimate

HEARING = ("auto", "tastes", "hierarchical", "pooled")


@dataclass(frozen=True)
class Known:
    """A model of four people whose rewards and text effects are known."""

    hidden_variance: float = 0.0
    rating_noise: float | None = None

    def text_effects(self, candidates):
        sizes = np.array([len(candidates.texts[code]) for code in candidates.text.tolist()], dtype=np.float64)
        return np.column_stack([0.5 + 0.1 * sizes, 1.0 / sizes])

    def raters(self, users):
        place = np.array([int(user[1:]) for user in users])
        loading = np.column_stack([np.ones(len(place)), np.cos(place)])
        return Raters(loading, 0.1 * place, np.zeros(len(place)))

    def fitted_rewards(self, candidates):
        place = np.array([int(candidates.users[code][1:]) for code in candidates.user.tolist()])
        loading = np.column_stack([np.ones(len(place)), np.cos(place)])
        own = np.sum(loading**2 * self.text_effects(candidates), axis=1)
        return RewardEstimate(0.3 * place, np.sqrt(own + 0.4 + 0.05 * place), np.sqrt(own))


def asked():
    """Two texts asked by two people, and what up to three others said of them."""
    candidates = Candidates.of(["u0", "u1"], ["", ""], [["aa", "bbbb"], ["bbbb", "c"]])
    ends = np.array([0, 2, 2, 5, 6])
    user, utility = np.array([0, 1, 0, 1, 2, 2]), np.array([1.0, -0.5, 0.2, 0.4, 2.0, -1.0])
    weight = np.array([1.0, 0.5, 1.0, 2.0, 1.0, 1.0])
    return candidates, OtherRatings(("u2", "u3", "u5"), ends, user, utility, weight)


def test_effects_of_a_text_are_conditioned_on_as_a_joint_normal():
    candidates, others = asked()
    model = Known()
    found = condition(model, candidates, others)
    for row in range(4):
        rated = np.flatnonzero(others.row == row)
        code = [int(others.users[code][1:]) for code in others.user[rated].tolist()]
        x = np.column_stack([np.ones(len(code)), np.cos(code)])
        prior = np.diag(model.text_effects(candidates)[row])
        mine = model.raters([candidates.users[candidates.user[row]]]).loading[0]
        noise = np.diag((0.4 + 0.05 * np.array(code)) / others.weight[rated])
        rest = others.utility[rated] - 0.3 * np.array(code) - 0.1 * np.array(code)
        gain = mine @ prior @ x.T @ np.linalg.solve(x @ prior @ x.T + noise, rest)
        left = prior - prior @ x.T @ np.linalg.solve(x @ prior @ x.T + noise, x @ prior)
        assert found.gain[row] == pytest.approx(gain, abs=1e-12)
        assert found.before[row] == pytest.approx(mine @ prior @ mine)
        assert found.after[row] == pytest.approx(mine @ left @ mine)
    estimate = moved(model.fitted_rewards(candidates), found)
    np.testing.assert_allclose(estimate.std_mean**2, found.after)
    np.testing.assert_allclose(estimate.std**2, found.after + 0.4 + 0.05 * candidates.user)


def test_a_known_loading_of_who_asks_takes_the_place_of_the_fits():
    candidates, others = asked()
    alone = candidates.take(candidates.query == 0)
    mine = Known().raters(["u0"]).loading[0]
    found = condition(Known(), alone, others.take(np.array([0, 1])), mine)
    np.testing.assert_allclose(found.gain, condition(Known(), candidates, others).gain[:2])
    less = condition(Known(), alone, others.take(np.array([0, 1])), np.array([1.0, 0.0]))
    assert less.gain[0] != pytest.approx(found.gain[0])


@dataclass(frozen=True)
class Crowded:
    """People whose ratings of texts have a common part and one along their tastes that no letter tells."""

    fit: Candidates
    test: Candidates
    truth: np.ndarray


def crowded(people=40, texts=60, unseen=30, told=8, seed=0):
    draw = np.random.default_rng(seed)
    words = ["".join(draw.choice(list("abcdefgh  "), size=24)) + f" {at}" for at in range(texts + unseen)]
    vectors = LetterEncoder().encode(words).astype(np.float64)
    tastes = draw.normal(size=(people, 2))
    effect = vectors @ draw.normal(size=vectors.shape[1]) + 0.7 * draw.normal(size=len(words))
    along = 0.7 * draw.normal(size=(len(words), 2))
    mean = effect + tastes @ along.T
    label = mean + 0.5 * draw.normal(size=mean.shape)
    users = [f"u{code}" for code in range(people)]
    rows = [np.sort(draw.choice(texts, size=texts // 2, replace=False)) for _ in users]
    fit = Candidates.of(users, [""] * people, [[words[at] for at in mine] for mine in rows],
                        [label[code, mine] for code, mine in enumerate(rows)])  # fmt: skip
    test = Candidates.of(users, [""] * people, [words[texts:]] * people)
    user = np.concatenate([
        draw.permutation(np.delete(np.arange(people), code))[:told] for code in range(people) for _ in range(unseen)
    ])  # fmt: skip
    text = np.repeat(np.tile(np.arange(unseen), people), told)
    ends = np.arange(0, len(user) + 1, told)
    others = OtherRatings(tuple(users), ends, user, label[user, texts + text], np.ones(len(user)))
    return Crowded(fit, replace(test, others=others), label[:, texts:].ravel())


@pytest.fixture(scope="module")
def world():
    return crowded()


@pytest.fixture(scope="module")
def models(world):
    made = {}
    for kind in HEARING:
        options = {"members": ("tastes", "pooled", "length")} if kind == "auto" else {}
        options |= {"tastes": 6} if kind == "tastes" else {}
        made[kind] = KINDS[kind](encoder=LetterEncoder(), **options).fit(world.fit, rng=0)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEARING)
def test_others_make_predictions_nearer_and_stds_stay_calibrated(world, models, kind):
    model, error, ratio = models[kind], [], []
    for count in (0, 2, 8):
        found = model.predict(replace(world.test, others=world.test.others.first(count)))
        rest = (world.truth - found.mean) ** 2
        error.append(float(rest.mean()))
        ratio.append(float(np.mean(rest / found.std**2)))
        assert np.all(found.std_mean <= found.std)
    assert error[2] < error[1] < error[0], error
    assert error[2] < 0.8 * error[0], error
    assert 0.7 < ratio[2] < 1.5, ratio


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEARING)
def test_scores_are_the_predictions_and_nothing_of_the_model_changes(world, models, kind, tmp_path):
    model = models[kind]
    rows = world.test.query == 3
    mine = world.test.take(rows)
    texts = [mine.texts[code] for code in mine.text.tolist()]
    labels = {}
    for row, who, value in zip(mine.others.row, mine.others.user, mine.others.utility, strict=True):
        labels.setdefault(mine.others.users[who], []).append(Rated("", texts[row], float(value)))
    others = {name: Labels(tuple(each)) for name, each in labels.items()}
    before, digest = model.score("u3", "", texts), model.save(tmp_path / "before")
    expected, found = model.predict(mine), model.score("u3", "", texts, others=others)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-6)
    if found.cov_mean is not None:
        np.testing.assert_allclose(np.diag(found.cov_mean), found.std_mean**2, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(model.score("u3", "", texts).mean, before.mean)
    assert model.save(tmp_path / "after") == digest
    again = load_model(tmp_path / "after", encoder=LetterEncoder())
    np.testing.assert_allclose(again.score("u3", "", texts, others=others).mean, found.mean, rtol=1e-6)
    backwards = {name: Labels(tuple(reversed(labels[name]))) for name in reversed(list(labels))}
    np.testing.assert_array_equal(model.score("u3", "", texts, others=backwards).mean, found.mean)
    elsewhere = {"u9": Labels((Rated("another prompt", texts[0], 5.0), Rated("", "another text", 5.0)))}
    np.testing.assert_allclose(model.score("u3", "", texts, others=elsewhere).mean, before.mean, rtol=1e-8)
    person = model.person("u3", Labels())
    np.testing.assert_array_equal(person.score("", texts, others=others).mean, found.mean)
    told = model.person("u3", Labels((Rated("", "abc", 1.0), Rated("", "hgh", -1.0))))
    alone, moved_by = told.score("", texts), told.score("", texts, others=others)
    assert not np.allclose(alone.mean, moved_by.mean)
    assert np.all(moved_by.std <= alone.std + 1e-9)
    with pytest.raises(InputError, match="labels of 'u3', who asks"):
        model.score("u3", "", texts, others={"u3": Labels((Rated("", texts[0], 1.0),))})


@pytest.mark.slow
def test_several_requests_have_others_of_their_own(models):
    texts = ["abc de", "fgh a"]
    told = {"u1": Labels((Rated("", texts[0], 3.0),))}
    model = models["tastes"]
    both = model.score_many(["u2", "u4"], ["", ""], [texts, texts], others=[told, None])
    np.testing.assert_allclose(both[0].mean, model.score("u2", "", texts, others=told).mean)
    np.testing.assert_allclose(both[1].mean, model.score("u4", "", texts).mean)


@pytest.mark.slow
def test_people_who_agree_with_the_user_tell_more_than_strangers_and_strangers_more_than_nobody(world, models):
    model = models["tastes"]
    loading = model.raters(world.fit.users).loading
    near = loading[:, 1:] @ loading[0, 1:]
    alike, text = f"u{int(np.argmax(near[1:])) + 1}", "abc hgf 999"
    before = model.score("u0", "", [text])
    by_friend = model.score("u0", "", [text], others={alike: Labels((Rated("", text, 4.0),))})
    by_stranger = model.score("u0", "", [text], others={"nobody": Labels((Rated("", text, 4.0),))})
    assert by_friend.std[0] < by_stranger.std[0] < before.std[0]


def test_a_kind_that_does_not_hear_says_so():
    examples = taste_examples(users=3, queries=2, candidates=4)
    model = KINDS["length"]().fit(examples, rng=0)
    others = OtherRatings(("v",), np.arange(len(examples) + 1), *(np.zeros(len(examples), dtype=np.int64),),
                          np.ones(len(examples)), np.ones(len(examples)))  # fmt: skip
    found = model.predict(replace(examples, others=others))
    np.testing.assert_array_equal(found.mean, model.predict(examples).mean)
    assert any("kind 'length' does not learn from it" in note for note in found.notes)
    assert model.score("u0", "", ["a", "bb"], others={"v": Labels((Rated("", "a", 1.0),))}).mean.tolist() == [1, 2]


def test_covariances_of_errors_are_found_by_moments():
    draw = np.random.default_rng(0)
    people, texts = 60, 200
    user, text = np.repeat(np.arange(people), texts), np.tile(np.arange(texts), people)
    tastes, along = draw.normal(size=(people, 2)), draw.normal(size=(texts, 2)) * [0.8, 0.3]
    common, level = 0.5 * draw.normal(size=texts), 0.4 * draw.normal(size=people)
    error = common[text] + np.sum(tastes[user] * along[text], axis=1) + level[user] + draw.normal(size=len(user))
    q = tastes[user] * [0.4, 0.15]  # the tastes' own variances, off by a factor of 4
    found = learn_crowd(error, (user, text, text % 3), q, people)
    assert found.text == pytest.approx(0.25, abs=0.08)
    assert found.tastes == pytest.approx(4.0, rel=0.25)
    assert found.noise == pytest.approx(1.0, rel=0.1)
    assert np.corrcoef(found.level, level)[0, 1] > 0.9
    again = restore_crowd(found.state(), found.array(), people)
    np.testing.assert_array_equal(again.level, found.level)
    assert (again.text, again.tastes, again.noise) == (found.text, found.tastes, found.noise)
    nothing = restore_crowd(None, None, 3)
    assert nothing.text == nothing.tastes == 0
    with pytest.raises(ValueError, match="levels of shape"):
        restore_crowd(found.state(), found.array(), 3)
    alone = learn_crowd(error[:50], (user[:50], text[:50], text[:50] % 3), None, people)
    assert alone.text == alone.tastes == 0, "no text has two errors"
    faint = learn_crowd(error, (user, text, text % 3), 1e-6 * q, people)
    assert faint.tastes == 0, "a member that found no tastes in the held-out parts cannot say how large they are"
    assert faint.text == pytest.approx(0.25, abs=0.08)


def test_the_mean_product_of_pairs_is_the_variance_that_they_share():
    draw = np.random.default_rng(1)
    text = np.repeat(np.arange(4000), 3)
    error = 0.6 * draw.normal(size=4000)[text] + draw.normal(size=len(text))
    assert pair_moment(error, text) == pytest.approx(0.36, abs=0.05)
    assert pair_moment(error, np.arange(len(error))) == 0.0
