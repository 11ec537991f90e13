from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor import rng
from bestfor.rewards.heads import build_labels, partners, with_pooled_user
from bestfor.rewards.rows import canonical
from bestfor.testing.rewards import taste_examples


def labels_of(**options):
    examples = canonical(taste_examples(**options))
    return build_labels(np.zeros((len(examples), 2)), examples, 0.0, 1.0)


def test_a_share_of_every_users_labels_is_held_out():
    labels = labels_of(users=5, queries=4, candidates=10)
    kept, held = labels.hold_out(0.2, rng.derive(0, "split"))
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(200))
    np.testing.assert_array_equal(np.bincount(labels.user[held]), [8] * 5)
    other = labels.hold_out(0.2, rng.derive(1, "split"))[1]
    assert not np.array_equal(held, other)


def test_whole_texts_are_held_out_where_people_share_them():
    labels = labels_of(users=8, queries=1, candidates=30, shared=True)
    kept, held = labels.hold_out(0.3, rng.derive(0, "split"))
    assert labels.text_levels
    assert len(held) > 0
    assert not set(labels.text[held]) & set(labels.text[kept])


def test_levels_are_learned_only_where_they_can_be_told_from_users():
    assert labels_of(queries=3).query_levels
    assert not labels_of(queries=1).query_levels
    assert not labels_of(queries=3).text_levels


def test_everybody_is_one_more_user_with_all_labels():
    labels = labels_of(users=3)
    whole = with_pooled_user(labels)
    assert whole.users == 4
    assert np.sum(whole.user == 3) == len(labels.user)
    np.testing.assert_array_equal(whole.target[whole.user == 3], labels.target)


@given(st.integers(0, 100), st.integers(1, 6))
def test_partners_are_others_of_the_same_group(seed, groups):
    draw = rng.derive(seed, "partners")
    group = draw.integers(groups, size=30)
    pool = np.sort(draw.choice(30, size=20, replace=False))
    rows = draw.choice(pool, size=15)
    found = partners(rows, pool, group, draw)
    assert set(found) <= set(pool)
    np.testing.assert_array_equal(group[found], group[rows])
    alone = np.array([np.sum(group[pool] == group[row]) == 1 for row in rows])
    np.testing.assert_array_equal(found == rows, alone)


def test_every_other_row_of_a_group_is_drawn():
    rows = np.zeros(200, dtype=np.int64)
    found = partners(rows, np.arange(5), np.zeros(5, dtype=np.int64), rng.derive(0, "all"))
    assert set(found) == {1, 2, 3, 4}


@pytest.mark.parametrize("share", [0.0, 0.99])
def test_extreme_shares(share):
    labels = replace(labels_of(users=2, queries=1, candidates=3))
    kept, held = labels.hold_out(share, rng.derive(0, "split"))
    assert len(kept) + len(held) == 6
    assert (len(held) == 0) == (share == 0.0)
