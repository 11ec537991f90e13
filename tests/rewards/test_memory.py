"""What requests ask for again: made once, kept as long as it may be, and never another's."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bestfor.rewards.auto.members import as_nobody
from bestfor.rewards.features import style_features
from bestfor.rewards.memory import Recent, held, of_texts, once, same_rows, same_texts, texts_of
from bestfor.testing.rewards import taste_examples


def test_the_same_rows_are_made_once_within_the_outermost_context():
    rows, made = taste_examples(users=2, queries=1, candidates=3), []

    def make(what="a", owner=None, candidates=rows):
        return once(what, (owner, *texts_of(candidates)), lambda: made.append(0) or len(made))

    assert [make(), make()] == [1, 2]
    with same_rows():
        assert make() == 3
        with same_rows():
            assert make(candidates=as_nobody(rows)) == 3
        assert make() == 3
        assert make("b") == 4
        assert make(owner=object()) == 5
        assert make(candidates=rows.take(np.arange(len(rows)))) == 6
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(make).result() == 7
    assert make() == 8


def test_recent_values_are_kept_up_to_their_bytes():
    recent, made = Recent(held, limit=3 * 8), []

    def get(key, size=1):
        return recent.get(key, lambda: made.append(key) or np.full(size, key))[0]

    assert [get(1), get(2), get(3), get(1)] == [1, 2, 3, 1]
    assert made == [1, 2, 3]
    assert [get(4), get(1), get(2)] == [4, 1, 2]
    assert made == [1, 2, 3, 4, 2]
    assert get(9, size=4) == 9
    assert [get(2), get(9, size=4)] == [2, 9]
    assert made == [1, 2, 3, 4, 2, 9, 9]


def test_a_copy_in_another_process_begins_empty():
    recent = Recent(held, limit=100)
    assert recent.get("a", lambda: np.zeros(4)).sum() == 0
    copy = pickle.loads(pickle.dumps(recent))
    assert copy.get("a", lambda: np.ones(4)).sum() == 4
    assert recent.get("a", lambda: np.ones(4)).sum() == 0


def test_a_table_of_texts_lives_as_long_as_the_outermost_context():
    assert of_texts("a", list) is None
    with same_texts():
        first = of_texts("a", list)
        assert of_texts("b", list) is not first
        with same_texts():
            assert of_texts("a", list) is first
        assert of_texts("a", list) is first
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(of_texts, "a", list).result() is None
    with same_texts():
        assert of_texts("a", list) is not first


def test_style_is_measured_once_a_text_within_a_fit():
    texts = ["One, two.", "", "Three? Four!", "One, two."]
    alone = style_features(texts)
    with same_texts():
        assert style_features(texts[:2]).tolist() == alone[:2].tolist()
        assert style_features(texts[::-1]).tolist() == alone[::-1].tolist()
        assert style_features([]).shape == (0, alone.shape[1])
