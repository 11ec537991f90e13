"""Labels of several kinds at a fit: persons of what each said, preferences as such, and the reduction elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.data.labels import JOURNAL, Labels, Preferred, Rated
from bestfor.errors import InputError
from bestfor.rewards import build, load
from bestfor.rewards.said import WEAK, pack_said, pairs_of, rated_means, split_said, unpack_said
from bestfor.testing.rewards import LETTERS, LetterEncoder, assert_close, assert_same, fingerprint

pytest.importorskip("torch")

LEARN = ("ridge", "hierarchical", "tastes", "point", "gaussian", "bradley_terry", "ensemble", "similarity")
FEW = {"epochs": 12, "patience": 12, "hidden": 4}
OPTIONS = {"ensemble": {"members": 2, **FEW}, "tastes": {"tastes": 4}} | dict.fromkeys(LEARN[3:6], FEW)


def made(kind):
    encoder = None if kind == "length" else LetterEncoder()
    return build(kind, encoder=encoder, **OPTIONS.get(kind, {}))


def people(users=4, pairs=24, rated=0, opposite=False, seed=0):
    """People who like one letter, told by preferences between texts, and texts of which nobody spoke.

    Returns:
        Rows with what was said, unseen texts and, by user, what each likes of them.
    """
    draw = rng.derive(seed, "people")
    texts = sorted({"".join(draw.choice(list(LETTERS[:6]), size=24)) for _ in range(90)})
    spoken, unseen = texts[:60], texts[60:]
    said, asked, utilities = {}, {}, []
    for user in range(users):
        letter = "a" if not opposite or user % 2 == 0 else "b"
        worth = {text: text.count(letter) for text in texts}
        preferred, ratings = [], []
        while len(preferred) < pairs:
            one, other = draw.choice(len(spoken), 2, replace=False)
            better, worse = sorted((spoken[one], spoken[other]), key=lambda text: -worth[text])
            if worth[better] > worth[worse]:
                preferred.append(Preferred("", better, worse))
        for text in draw.choice(spoken, rated, replace=False).tolist() if rated else []:
            ratings.append(Rated("", text, float(worth[text])))
        name = f"u{user}"
        said[name] = Labels(tuple(ratings), tuple(preferred))
        sums = {}
        for one in ratings:
            sums.setdefault(one.text, []).append(one.utility)
        for two in preferred:
            sums.setdefault(two.better, []).append(0.75)
            sums.setdefault(two.worse, []).append(0.25)
        asked[name] = list(sums)
        utilities.append([float(np.mean(values)) for values in sums.values()])
    rows = Candidates.of(list(asked), [""] * users, list(asked.values()), utilities)
    likes = {f"u{user}": "a" if not opposite or user % 2 == 0 else "b" for user in range(users)}
    return replace(rows, said=said), unseen, likes


def told_right(model, unseen, likes):
    """Share of pairs of unseen texts that a model orders as their user does."""
    right = []
    for user, letter in likes.items():
        mean = model.score(user, "", unseen).mean
        worth = np.array([text.count(letter) for text in unseen])
        first, second = np.triu_indices(len(unseen), 1)
        differ = worth[first] != worth[second]
        right.append(np.mean((np.sign(mean[first] - mean[second]) == np.sign(worth[first] - worth[second]))[differ]))
    return float(np.mean(right))


@pytest.mark.parametrize("kind", LEARN)
def test_tastes_are_learned_from_preferences_alone(kind):
    rows, unseen, likes = people(opposite=True, pairs=30)
    model = made(kind).fit(rows, rng=0)
    assert told_right(model, unseen, likes) > (0.65 if kind in ("tastes", "similarity") else 0.75)
    assert {model.served(user) for user in likes} == {"own"}


@pytest.mark.parametrize("kind", ["pooled"])
def test_kinds_without_persons_learn_the_reduction(kind):
    rows, unseen, likes = people(pairs=30)
    model = made(kind).fit(rows, rng=0)
    assert told_right(model, unseen, likes) > 0.8
    assert model._said == {}
    assert_same(model.predict(rows), made(kind).fit(replace(rows, said=None), rng=0).predict(rows))


@pytest.mark.parametrize("kind", LEARN)
def test_a_person_is_made_of_what_was_said_as_a_service_makes_them(kind):
    rows, unseen, _ = people(rated=6)
    model = made(kind).fit(rows, rng=0)
    base = made(kind).fit(rows, rng=0)
    base._said = {}
    since = Labels((Rated("", unseen[0], 3.0),), (Preferred("", unseen[1], unseen[2]),))
    for user, labels in rows.said.items():
        assert_close(model.score(user, "", unseen), base.person(user, labels).score("", unseen))
        assert_close(model.person(user, since).score("", unseen), base.person(user, labels + since).score("", unseen))
    found = model.predict(Candidates.of(["u1", "new"], ["", ""], [unseen, unseen]))
    expected = [*model.score("u1", "", unseen).mean, *base.score("new", "", unseen).mean]
    np.testing.assert_allclose(found.mean, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", LEARN)
def test_what_was_said_is_saved_with_the_model(kind, tmp_path):
    rows, unseen, _ = people(pairs=8, rated=4)
    model = made(kind).fit(rows, rng=0)
    before = fingerprint(model)
    digest = model.save(tmp_path / "model")
    loaded = load(tmp_path / "model", encoder=LetterEncoder())
    asked = Candidates.of(["u1", "new"], ["", ""], [unseen, unseen])
    assert_same(model.predict(asked), loaded.predict(asked))
    assert loaded.save(tmp_path / "again") == digest
    alone = load(tmp_path / "model", encoder=LetterEncoder(), user="u1")
    assert_close(alone.score("u1", "", unseen), model.score("u1", "", unseen))
    assert fingerprint(model) == before


def test_rows_of_weak_labels_alone_teach_their_person_only():
    said = {"u": Labels((Rated("", "one", 1.0), Rated("", "two", 0.0, 0.1), Rated("", "three", 0.0, WEAK)))}
    rows = replace(Candidates.of("u", "", ["one", "two", "three"], [1.0, 0.0, 0.0]), said=said)
    kept, own = split_said(rows, personal=True)
    assert [kept.texts[code] for code in kept.text] == ["one", "three"]
    assert kept.users == ("u" + JOURNAL,)
    assert len(own["u"].rated) == 3
    kept, own = split_said(rows, personal=False)
    assert (kept.users, own, len(kept)) == (("u",), {}, 2)
    with pytest.raises(InputError, match="weak labels only"):
        build("length").fit(rows.take(np.array([1])), rng=0)


def test_labels_of_rows_that_are_not_there_are_not_learned():
    rows, _, _ = people(pairs=12)
    some = rows.take(np.arange(len(rows)) % 2 == 0)
    there = {some.texts[code] for code in some.text}
    _, own = split_said(some, personal=True)
    assert own
    assert all({one.better, one.worse} <= there for labels in own.values() for one in labels.preferred)


def test_pairs_are_compared_with_each_other_alone():
    from bestfor.rewards.heads.labels import build_labels, with_pooled_user, with_preferences
    from bestfor.rewards.heads.settings import TrainingOptions
    from bestfor.rewards.heads.training import HeadTrainer

    said = {"u": Labels((Rated("", "aa", 4.0), Rated("", "bb", 2.0)), (Preferred("", "cc", "aa", 0.5),))}
    rows = replace(Candidates.of("u", "", ["aa", "bb", "cc"], [3.0, 2.0, 4.0]), said=said)
    assert [values.tolist() for values in pairs_of(rows)] == [[2], [0], [0.5]]
    np.testing.assert_array_equal(rated_means(rows), [4.0, 2.0, np.nan])
    labels = with_preferences(build_labels(np.eye(3), rows, 3.0, 1.0), rows, 3.0, 1.0)
    assert labels.target.tolist() == [1.0, -1.0, 1.0, -1.0]
    assert labels.text.tolist() == [0, 1, 2, 0]
    assert labels.weight.tolist() == [1.0, 1.0, 0.25, 0.25]
    options = TrainingOptions("pairwise", True, 2, 0.5, 3e-3, 0.0, 8, 2, 1, 0.2, True)
    for each, groups in ((labels, 2), (with_pooled_user(labels), 4)):
        group = HeadTrainer(each, options, 0).groups()
        assert len(np.unique(group)) == groups
        assert group[2] == group[3] != group[0] == group[1]


def test_preferences_train_bradley_terry_and_not_ratings_made_of_them():
    """Prompts differ in level by more than answers do: comparing across prompts would say little of taste."""
    draw = rng.derive(3, "prompts")
    said, texts, utilities, prompts = {}, [], [], []
    for prompt in range(30):
        level = 12 if prompt % 2 else 0
        good, bad = ("a" * (level + 2) + "b" * 3, "a" * level + "b" * 3)
        good, bad = (one + str(draw.choice(list("cdef"))) for one in (good, bad))
        prompts.append(f"p{prompt}")
        texts.append([good, bad])
        utilities.append([0.75, 0.25])
    said["u"] = Labels(preferred=tuple(Preferred(p, *pair) for p, pair in zip(prompts, texts, strict=True)))
    rows = Candidates.of(["u"] * 30, prompts, texts, utilities)
    model = build("bradley_terry", encoder=LetterEncoder(), epochs=60).fit(replace(rows, said=said), rng=0)
    found = model.score("new", "", ["aaaabbb", "aabbb"]).mean
    assert found[0] > found[1]


def test_bytes_of_what_was_said_depend_on_its_content_only():
    said = {"b": Labels((Rated("p", "é\n", 0.1, 0.3),)), "a": Labels((), (Preferred("", "x", "y", 2.0),))}
    packed = pack_said(said)
    assert unpack_said(packed) == said
    np.testing.assert_array_equal(packed, pack_said(dict(reversed(said.items()))))
