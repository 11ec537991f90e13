"""Kinds of labels: what is read, what is refused, and what is learned of each."""

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.errors import InputError
from bestfor.labels.kinds import hash_of, to_labels
from bestfor.labels.records import Label
from bestfor.labels.said import ALIASES, KINDS, read_said
from bestfor.labels.scale import WEIGHTS, LabelScale
from bestfor.metrics import Query, make_metric

SCALE = LabelScale(worst=-1.0, best=3.0, rating=(1, 5))


def learned(label, answer=None, scale=SCALE, find=lambda known: None):
    return to_labels([(label, answer)], scale, find)


def label(kind, value=None, texts=("one",), **values):
    weight = values.pop("weight", WEIGHTS[kind])
    return Label("k", "ann", kind, value=value, texts=texts, prompt="say it", weight=weight, **values)


def test_every_kind_is_in_the_table_of_weights():
    assert set(KINDS) == set(WEIGHTS) == set(ALIASES.values())


def test_a_rating_is_a_place_between_worst_and_best():
    for number, utility in ((1, -1.0), (3, 1.0), (5, 3.0)):
        found, _ = learned(label("rating", float(number), low=1.0, high=5.0))
        assert found == Labels((Rated("say it", "one", utility, 1.0),))


def test_a_rating_keeps_the_scale_that_it_was_given_on():
    found, _ = learned(label("rating", 50.0, low=0.0, high=100.0), scale=replace(SCALE, rating=(1, 5)))
    assert found.rated[0].utility == 1.0


def test_a_thumb_is_the_middle_of_its_half_or_a_vote():
    yes, no = (learned(label("thumb", value))[0].rated[0].utility for value in (1.0, 0.0))
    assert (yes, no) == (2.0, 0.0)
    yes, no = (learned(label("thumb", v), scale=replace(SCALE, thumbs=(-1, 1)))[0].rated[0].utility for v in (1.0, 0.0))
    assert (yes, no) == (1, -1)


def test_weak_signals_have_small_weights():
    kept, dismissed = (learned(label(kind, 1.0))[0].rated[0] for kind in ("kept", "dismissed"))
    assert (kept.utility, dismissed.utility) == (2.0, 0.0)
    assert kept.weight == dismissed.weight == WEIGHTS["kept"] < WEIGHTS["thumb"] < WEIGHTS["rating"]


@given(st.integers(2, 7))
def test_a_ranking_weighs_as_much_as_comparisons_of_neighbours(count):
    texts = tuple(f"text {place}" for place in range(count))
    found = learned(label("preference", texts=texts))[0].preferred
    assert sum(one.weight for one in found) == pytest.approx(count - 1)
    order = {text: place for place, text in enumerate(texts)}
    assert {(one.better, one.worse) for one in found} == {(a, b) for a in texts for b in texts if order[a] < order[b]}


def test_an_edit_says_how_much_nearer_it_came_to_each_candidate(answer):
    texts = ("the cat sat down", "a dog ran off", "the cat ran off", "the cat sat down")
    given_, final = answer(texts=texts, chosen=0), "the cat ran off today"
    found, missing = learned(label("edit", texts=(final,)), given_)
    rouge = make_metric("rougeL")
    near = rouge.measure(Query("q", "u", "", final), texts[:3]) - rouge.measure(
        Query("q", "u", "", texts[0]), texts[:3]
    )
    assert missing == 0
    assert {one.text: one.utility for one in found.rated} == pytest.approx(
        {text: 1.0 + 4.0 * value for text, value in zip(texts[:3], near, strict=True)}
    )
    assert found.preferred == (Preferred("say it", final, texts[0], 1.0),)
    utilities = {one.text: one.utility for one in found.rated}
    assert min(utilities, key=lambda text: utilities[text]) == "the cat sat down"


def test_an_edit_that_changes_nothing_says_that_the_text_was_kept(answer):
    found, _ = learned(label("edit", texts=("one",)), answer())
    assert found == Labels((Rated("say it", "one", 2.0, WEIGHTS["kept"]),))


def test_an_edit_of_an_answer_that_was_pruned_teaches_nothing():
    assert learned(label("edit", texts=("final",)))[0] == Labels()


def test_comments_and_what_was_withdrawn_teach_nothing(answer):
    assert learned(label("comment", texts=("too long",)), answer())[0] == Labels()
    assert learned(label("thumb", 1.0, withdrawn=5.0))[0] == Labels()
    assert learned(label("thumb", 1.0, weight=0.0))[0] == Labels()


def test_a_kind_of_a_later_version_is_left_out():
    assert learned(replace(label("thumb", 1.0), kind="smile")) == (Labels(), 0)


def test_hashed_texts_are_learned_from_where_they_are_to_be_had(answer):
    known = {hash_of(text): text for text in ("say it", "one", "two", "three", "final words")}
    hashed = answer(prompt=hash_of("say it"), texts=tuple(map(hash_of, ("one", "two", "three"))), hashed=True)
    thumb = label("thumb", 1.0, texts=(hash_of("one"),), hashed=True)
    thumb = replace(thumb, prompt="", answer="a")
    assert learned(thumb, hashed, find=known.get) == (Labels((Rated("say it", "one", 2.0, 0.5),)), 0)
    assert learned(thumb, hashed) == (Labels(), 1)
    edit = replace(label("edit", texts=(hash_of("final words"),), hashed=True), prompt="")
    assert learned(edit, hashed, find=known.get) == learned(label("edit", texts=("final words",)), answer())
    del known[hash_of("three")]
    assert learned(edit, hashed, find=known.get) == (Labels(), 1)
    assert len(learned(thumb, hashed, find=known.get)[0]) == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "found nothing that was said; expected one of rating, thumb, prefer"),
        ({"rating": 1, "thumb": True}, "found rating, thumb at once"),
        ({"raitng": 1}, r"found 'raitng'; expected 'rating' \(did you mean it\?\)"),
    ],
)
def test_one_thing_is_said_at_a_time(said, message):
    with pytest.raises(InputError, match=message):
        read_said(said)


def read(answer, text=None, scale=SCALE, **said):
    kind, value = read_said(said)
    return kind.read(value, text, answer, scale)


BAD = [
    ({"rating": 6}, "rating: found 6; expected a number from 1 to 5, the declared scale"),
    ({"rating": nan}, "rating: found nan"),
    ({"rating": inf}, "rating: found inf"),
    ({"rating": "5"}, "rating: found '5'"),
    ({"rating": True}, "rating: found True"),
    ({"thumb": 3}, "thumb: found 3"),
    ({"thumb": "yes"}, "thumb: found 'yes'"),
    ({"prefer": "one"}, "a text preferred to itself"),
    ({"prefer": 0}, "a text preferred to itself"),
    ({"prefer": ["two", "two"]}, "a text preferred to itself"),
    ({"prefer": []}, "found 0 texts"),
    ({"prefer": 3}, "an index of the answer's 3 candidates"),
    ({"prefer": -1}, "an index of the answer's 3 candidates"),
    ({"prefer": [True, 0]}, "found True"),
    ({"edit": " "}, "edit: found no text"),
    ({"edit": 3}, "edit: found 3"),
    ({"comment": ""}, "comment: found ''"),
    ({"kept": False}, "withdraw"),
]


@pytest.mark.parametrize(("said", "message"), BAD, ids=[str(said) for said, _ in BAD])
def test_what_cannot_be_meant_is_one_line(answer, said, message):
    with pytest.raises(InputError, match=message) as raised:
        read(answer(), **said)
    assert "\n" not in str(raised.value)


def test_bare_texts_need_a_text_and_edits_an_answer():
    assert read(None, text="mine", rating=5) == (5.0, ("mine",))
    assert read(None, prefer=["a", "b"]) == (None, ("a", "b"))
    with pytest.raises(InputError, match="no answer and no text"):
        read(None, thumb=True)
    with pytest.raises(InputError, match="found 1 texts"):
        read(None, prefer="a")
    with pytest.raises(InputError, match="edit: found no answer"):
        read(None, edit="final")


def test_preferences_name_candidates_by_index_or_text(answer):
    given_ = answer(chosen=2)
    assert read(given_, prefer=1) == (None, ("two", "three"))
    assert read(given_, prefer="mine") == (None, ("mine", "three"))
    assert read(given_, prefer=[1, "mine", 0]) == (None, ("two", "mine", "one"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worst": 1.0, "best": 1.0}, "scale: found 1.0 to 1.0"),
        ({"rating": (5, 1)}, "scale.rating: found 5 to 1"),
        ({"best": inf}, "scale: found"),
        ({"weights": {"thumbs": 1.0}}, "did you mean it"),
        ({"weights": {"thumb": -1.0}}, "scale.weights, thumb: found -1.0"),
    ],
)
def test_a_scale_that_cannot_be_is_one_line(values, message):
    with pytest.raises(InputError, match=message):
        LabelScale(**values)
