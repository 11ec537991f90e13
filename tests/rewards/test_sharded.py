"""A model whose users lie in shards serves as the same model in one file does."""

import numpy as np
import pytest

from bestfor import artifacts
from bestfor.data.labels import Labels, Rated
from bestfor.errors import BestforError, InputError
from bestfor.rewards import KINDS, kind_class
from bestfor.rewards import load as load_model
from bestfor.testing.rewards import (
    LetterEncoder,
    as_requests,
    asked_of,
    assert_close,
    assert_same,
    said,
    taste_examples,
)

OPTIONS = {
    "ridge": {"components": 4, "abstain": True},
    "hierarchical": {"components": 4, "variance_head": False, "covariance": "isotropic"},
    "tastes": {"tastes": 2, "rounds": 3},
}


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def both(request, tmp_path_factory):
    """Rows, and one fit in one file and in shards."""
    examples = taste_examples(12, 2, 6)
    model = kind_class(request.param)(None, encoder=LetterEncoder(), **OPTIONS[request.param]).fit(examples, rng=0)
    folder = tmp_path_factory.mktemp(request.param)
    model.save(folder / "one")
    artifacts.write_sharded(folder / "many", *model.stored(), model._users, 4)
    return examples, folder


def opened(both, **how):
    return [load_model(both[1] / name, encoder=LetterEncoder(), **how) for name in ("one", "many")]


def test_predictions_are_the_same_bits(both):
    examples, _ = both
    one, many = opened(both)
    assert many.abstained == one.abstained
    assert_same(many.predict(examples), one.predict(examples))
    new = taste_examples(14, 1, 4, seed=5)
    first, second = one.predict(new), many.predict(new)
    assert_same(second, first)
    assert second.notes == first.notes
    assert any("without fit labels" in note for note in second.notes)


def test_scores_and_persons_are_the_same(both):
    examples, _ = both
    one, many = opened(both)
    requests = as_requests(examples)
    for first, second in zip(one.score_many(*requests), many.score_many(*requests), strict=True):
        assert_close(second, first)
    for user in ("u3", "nobody"):
        labels = said(examples, "u3")
        prompt, texts = asked_of(examples, "u3")
        persons = [model.person(user, labels) for model in (one, many)]
        assert persons[0].served == persons[1].served
        assert_close(persons[1].score(prompt, texts), persons[0].score(prompt, texts))
        assert many.served(user) == one.served(user)
        assert_close(many.score(user, prompt, texts), one.score(user, prompt, texts))


def test_what_others_said_of_the_texts_is_heard_the_same(both):
    examples, _ = both
    one, many = opened(both)
    prompt, texts = asked_of(examples, "u3")
    others = {"u5": Labels((Rated(prompt, texts[0], 1.0),)), "a stranger": Labels((Rated(prompt, texts[1], 1.0),))}
    for user in ("u3", "nobody"):
        scores = [model.score(user, prompt, texts, others=others) for model in (one, many)]
        assert_close(scores[1], scores[0])
        for labels in (Labels(), said(examples, "u3")):
            persons = [model.person(user, labels) for model in (one, many)]
            heard = [person.score(prompt, texts, others=others) for person in persons]
            assert_close(heard[1], heard[0])


def test_one_user_is_loaded_alone(both):
    examples, _ = both
    one, many = opened(both, user="u5")
    prompt, texts = asked_of(examples, "u5")
    assert_close(many.score("u5", prompt, texts), one.score("u5", prompt, texts))
    with pytest.raises(InputError, match="for whom it was loaded"):
        many.score("u6", prompt, texts)


def test_rows_are_read_when_they_are_asked_for(both, monkeypatch):
    examples, _ = both
    _, many = opened(both)
    asked = []
    read = many._shards.shards.__class__.rows
    monkeypatch.setattr(
        many._shards.shards.__class__, "rows", lambda self, users: asked.append(tuple(users)) or read(self, users)
    )
    prompt, texts = asked_of(examples, "u5")
    for _ in range(3):
        many.score("u5", prompt, texts)
        many.served("u5")
    assert asked == [("u5",)]
    assert many._users == ()


def test_a_model_in_shards_is_copied_and_not_saved(both, tmp_path):
    _, many = opened(both)
    with pytest.raises(BestforError, match="saved whole"):
        many.save(tmp_path)


def test_a_lost_shard_is_one_line_and_only_its_users_miss_it(both, tmp_path):
    examples, folder = both
    for path in (folder / "many").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = load_model(tmp_path, encoder=LetterEncoder())
    entries = model._shards.shards.entries
    from bestfor.shards import file_of, shard_of

    number = shard_of("u3", len(entries))
    (tmp_path / file_of(entries[number].digest)).unlink()
    prompt, texts = asked_of(examples, "u3")
    with pytest.raises(InputError, match=f"expected shard {number} of 4") as caught:
        model.score("u3", prompt, texts)
    assert "\n" not in str(caught.value)
    other = next(user for user in examples.users if shard_of(user, len(entries)) != number)
    assert np.isfinite(model.score(other, prompt, texts).mean).all()


def test_kinds_that_can_be_sharded_are_read_by_user():
    for kind in KINDS:
        found = kind_class(kind)
        assert found.sliced or not found.shardable


def test_many_users_are_saved_in_shards(tmp_path, monkeypatch):
    from bestfor.rewards import model as base

    examples = taste_examples(12, 2, 6)
    model = kind_class("ridge")(None, encoder=LetterEncoder(), components=4).fit(examples, rng=0)
    monkeypatch.setattr(base, "MANY_USERS", 12)
    model.save(tmp_path)
    assert len(list(tmp_path.glob("users-*"))) == 1
    assert_same(load_model(tmp_path, encoder=LetterEncoder()).predict(examples), model.predict(examples))
