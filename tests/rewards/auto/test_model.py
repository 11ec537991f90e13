"""Auto passes what every reward model has to, and weighs its members by what they tell."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from bestfor.data.labels import Labels, Rated
from bestfor.errors import InputError
from bestfor.rewards import KINDS
from bestfor.rewards.auto import Auto
from bestfor.rewards.auto.folds import compared, deal, unseen_units
from bestfor.rewards.auto.members import as_nobody, predict_parts
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, assert_same, taste_examples

SMALL = {"folds": 2, "members": ("pooled", "ridge", "length")}


@pytest.mark.slow
class TestAuto(RewardModelTests):
    model = Auto
    options = {"folds": 2, "members": ("tastes", "pooled", "length")}


@pytest.fixture(scope="module")
def fitted():
    examples = taste_examples(users=5, queries=4, candidates=6)
    return examples, Auto(encoder=LetterEncoder(), **SMALL).fit(examples, rng=0)


def test_rewards_are_the_weighted_parts_of_the_members(fitted):
    examples, model = fitted
    found, weights = model.predict(examples).mean, model._combination
    parts = [predict_parts(one, examples) for one in model.members.values()]
    shared = sum(w * (part.shared - m) for w, m, part in zip(weights.shared, weights.middle, parts, strict=True))
    own = sum(w * part.own for w, part in zip(weights.own, parts, strict=True))
    factor = model._factor[model._known_codes(examples.users, abstaining=True)[examples.user]]
    np.testing.assert_allclose(found, weights.centre + factor[:, 0] * shared + factor[:, 1] * own, rtol=1e-8)
    stranger = model.predict(as_nobody(examples)).mean
    np.testing.assert_allclose(stranger, weights.centre + shared, rtol=1e-8)
    assert any(note.startswith("members: ") and "%" in note for note in model.notes)


def test_bytes_are_the_same_again_in_another_order_and_side_by_side(fitted):
    examples, model = fitted
    backwards = examples.take(np.arange(len(examples))[::-1])
    with ThreadPoolExecutor(2) as pool:
        others = list(pool.map(lambda rows: Auto(encoder=LetterEncoder(), **SMALL).fit(rows, rng=0), [backwards] * 2))
    config, arrays = model.stored()
    for other in others:
        found, values = other.stored()
        assert found == config
        assert {name: value.tobytes() for name, value in values.items()} == {
            name: value.tobytes() for name, value in arrays.items()
        }


def test_members_are_fitted_as_they_would_be_alone(fitted):
    examples, model = fitted
    alone = KINDS["ridge"](encoder=LetterEncoder()).fit(examples, rng=0)
    assert_same(model.members["ridge"].predict(examples), alone.predict(examples))


def test_a_person_moves_as_the_members_do(fitted):
    _, model = fitted
    texts = ["abc abd", "mno pop", "kkk ijk"]
    labels = Labels(tuple(Rated("", text, utility) for text, utility in zip(texts, (3.0, -3.0, 0.5), strict=True)))
    before, after = model.score("new", "", texts), model.person("new", labels).score("", texts)
    assert after.served == "own"
    assert after.mean[0] - after.mean[1] > before.mean[0] - before.mean[1]


def test_texts_and_prompts_are_held_out_whole():
    asked = taste_examples(users=4, queries=5, candidates=6)
    unit, what = unseen_units(asked)
    fold = deal(asked, 3, 0)
    assert what == "prompt"
    assert all(len(np.unique(fold[unit == one])) == 1 for one in np.unique(unit))
    rated = taste_examples(users=12, queries=1, candidates=20, shared=True)
    unit, what = unseen_units(rated)
    fold = deal(rated, 3, 0)
    assert what == "text"
    assert all(len(np.unique(fold[unit == one])) == 1 for one in np.unique(unit))
    assert sorted(np.unique(fold).tolist()) == [0, 1, 2]


def test_few_texts_give_the_average_and_say_so():
    few = taste_examples(users=4, queries=1, candidates=1)
    model = Auto(encoder=LetterEncoder(), **SMALL).fit(few, rng=0)
    assert any("too few texts or prompts" in note for note in model.notes)
    assert np.all(np.isfinite(model.predict(few).std))


def test_one_rated_answer_to_each_prompt_tells_who_knows():
    examples = taste_examples(users=8, queries=8, candidates=6)
    first = np.unique(examples.query, return_index=True)[1]
    single, rest = examples.take(first), examples.take(np.setdiff1d(np.arange(len(examples)), first))
    model = Auto(encoder=LetterEncoder(), **SMALL).fit(single, rng=0)
    asked = model.predict(rest).mean
    assert np.corrcoef(asked, rest.utility)[0, 1] > 0.5
    few = Auto(encoder=LetterEncoder(), **SMALL).fit(single.take(np.arange(4)), rng=0)
    assert any("too few texts or prompts" in note for note in few.notes)
    assert few.predict(rest).mean.std() > 0


def test_rows_are_compared_within_queries_then_users_then_folds():
    fold = np.array([0, 0, 1, 1])
    rows = taste_examples(users=1, queries=2, candidates=2)
    assert compared(rows, fold).tolist() == [0, 0, 1, 1]
    alone = taste_examples(users=2, queries=2, candidates=1)
    assert compared(alone, np.zeros(4, dtype=np.int64)).tolist() == [0, 0, 1, 1]
    strangers = taste_examples(users=4, queries=1, candidates=1)
    assert compared(strangers, fold).tolist() == [0, 0, 1, 1]
    assert compared(strangers, np.zeros(4, dtype=np.int64)).tolist() == [0, 0, 0, 0]


def test_some_users_are_enough_to_weigh_members():
    examples = taste_examples(users=20, queries=1, candidates=12, shared=True)
    model = Auto(encoder=LetterEncoder(), most_rows=100, **SMALL).fit(examples, rng=0)
    assert any("labels of 8 of 20 users" in note for note in model.notes)
    assert model.predict(examples).mean.shape == (240,)


@pytest.mark.parametrize("members", [("auto",), ("pooled", "pooled"), ("unheard",)])
def test_members_are_checked(members):
    with pytest.raises(InputError, match="other kinds than 'auto', each once"):
        Auto(members=members)


def test_saved_members_of_other_shapes_are_refused(fitted, tmp_path):
    examples, model = fitted
    model.save(tmp_path)
    loaded = Auto.load(tmp_path, encoder=LetterEncoder())
    assert_same(loaded.predict(examples), model.predict(examples))
    assert list(loaded.members) == list(model.members)
    config, arrays = model.stored()
    config["state"]["members"][0]["kind"] = "ridge"
    broken = replace(_artifact(config, arrays, model), config=config)
    with pytest.raises(ValueError, match="other members"):
        Auto(encoder=LetterEncoder(), **SMALL).restored(broken, LetterEncoder())


def _artifact(config, arrays, model):
    from bestfor.artifacts import Artifact

    return Artifact(config, arrays, "", model._users)
