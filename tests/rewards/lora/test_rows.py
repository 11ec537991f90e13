from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor import rng
from bestfor.rewards.lora.config import Config
from bestfor.testing.rewards import taste_examples
from support import later

heads = later("bestfor.rewards.lora.heads", "torch")
held_out = later("bestfor.rewards.lora.held_out", "torch")
lora_rows = later("bestfor.rewards.lora.rows", "torch")
packing = later("bestfor.lm.packing", "torch")
torch = later("torch")
training = later("bestfor.rewards.lora.training", "torch")


class Letters:
    """A backbone's tokens without a backbone: a code point each."""

    def encode(self, query, asked, texts, shown=()):
        return tuple(tuple(map(ord, text)) for text in (f"{'|'.join(shown)}{asked}:", *texts))


def rows_of(examples, *, pairwise=False):
    return lora_rows.encode_rows(examples, Letters(), items=0, pairwise=pairwise, centre=0.0, unit=1.0)


def made(sizes, seed=0):
    """Packs of these numbers of texts, one label each."""
    draw = rng.derive(seed, "packs")
    ends = np.cumsum([0, *sizes])
    packs = tuple(
        packing.Pack(
            (1,) * int(draw.integers(0, 9)),
            tuple((2,) * int(n) for n in draw.integers(1, 30, size)),
            np.arange(*ends[k : k + 2]),
        )
        for k, size in enumerate(sizes)
    )
    text = draw.permutation(ends[-1])
    user = np.repeat(np.arange(len(sizes)) % 3, sizes)[text]
    names = tuple(f"q{k}" for k in range(len(sizes)))
    return lora_rows.TokenRows(packs, np.arange(len(sizes)), text, user, draw.normal(size=len(text)), names, True)


SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=30)


@given(SIZES, st.integers(1, 20), st.integers(0, 5))
def test_a_pass_takes_every_label_once(sizes, each, epoch):
    rows = made(sizes)
    bundles = rows.bundles()
    assert sorted(np.concatenate([bundle.rows for bundle in bundles]).tolist()) == list(range(len(rows)))
    steps = lora_rows.schedule(rows, bundles, each, 0, "shared", epoch)
    assert sorted(index for step in steps for index in step) == list(range(len(bundles)))
    assert steps == lora_rows.schedule(rows, bundles, each, 0, "shared", epoch)
    counts = [[len(bundles[index].rows) for index in step] for step in steps]
    assert all(sum(count[:-1]) < each for count in counts), "a step that has its labels takes no more"


@given(SIZES, st.integers(1, 300), st.booleans())
def test_batches_keep_to_their_tokens(sizes, tokens, packed):
    rows = made(sizes)
    bundles = rows.bundles()
    found = lora_rows.batches(rows, bundles, tokens, packed=packed)
    assert sorted(bundle.packs for batch in found for bundle in batch) == [(k,) for k in range(len(sizes))]
    most = lora_rows.largest(rows, bundles, packed=packed)
    for batch in found:
        packs = [rows.packs[index] for bundle in batch for index in bundle.packs]
        lengths = [pack.length for pack in packs]
        count = len(packs)
        if not packed:
            lengths = [len(pack.prompt) + max(map(len, pack.texts)) for pack in packs]
            count = sum(len(pack.texts) for pack in packs)
        assert count * max(lengths) <= max(tokens, most if len(batch) == 1 else 0)


@given(SIZES, st.integers(0, 99))
def test_some_rows_keep_their_texts(sizes, seed):
    rows = made(sizes)
    mask = rng.derive(seed, "mask").random(len(rows)) < 0.4
    some = rows.take(mask)
    tokens = {row: text for pack in rows.packs for row, text in zip(pack.rows.tolist(), pack.texts, strict=True)}
    assert {row: text for pack in some.packs for row, text in zip(pack.rows.tolist(), pack.texts, strict=True)} == {
        row: tokens[row] for row in np.unique(rows.text[mask]).tolist()
    }
    np.testing.assert_array_equal(some.group, rows.group[mask])
    assert [rows.queries[place] for place in rows.pack[mask]] == [some.queries[place] for place in some.pack]


def test_whole_queries_are_held_out():
    rows = rows_of(taste_examples(users=5, queries=5, candidates=4))
    held = lora_rows.hold_out(rows, 0.2, rng.derive(0, "held out"))
    for user in range(5):
        mine = rows.user == user
        assert held[mine].sum() == 4
        assert len(np.unique(rows.group[held & mine])) == 1
    few = rows_of(taste_examples(users=5, queries=2, candidates=10))
    held = lora_rows.hold_out(few, 0.2, rng.derive(0, "held out"))
    assert [int(held[few.user == user].sum()) for user in range(5)] == [4] * 5


def test_texts_that_people_share_are_held_out_whole():
    rows = rows_of(taste_examples(users=6, queries=1, candidates=30, shared=True))
    held = lora_rows.hold_out(rows, 0.3, rng.derive(0, "held out"))
    assert 0 < held.sum() < len(rows)
    for text in np.unique(rows.text):
        assert len(np.unique(held[rows.text == text])) == 1


def test_a_query_of_one_candidate_is_compared_within_its_user():
    examples = taste_examples(users=2, queries=12, candidates=4)
    lonely = examples.take((examples.candidate == 0) | (examples.query < 3))
    rows = rows_of(lonely, pairwise=True)
    sizes = np.bincount(rows.group, minlength=1)
    assert sizes[sizes > 0].min() > 1
    for group in np.unique(rows.group):
        assert len(np.unique(rows.user[rows.group == group])) == 1
    assert len(np.unique(rows.group[rows.pack < 3])) == 3, "queries that have pairs of their own keep them"


def test_equal_texts_behind_equal_prompts_are_one_for_all_who_wear_the_same():
    packs = [
        packing.Pack((1,), ((5,), (6,)), np.array([0, 1])),
        packing.Pack((1,), ((6,), (7,)), np.array([2, 3])),
        packing.Pack((1,), ((6,),), np.array([4])),
    ]
    found, owners, place = lora_rows.merge_packs(packs, [-1, -1, 3])
    assert [(pack.texts, owner) for pack, owner in zip(found, owners, strict=True)] == [
        (((5,), (6,), (7,)), -1),
        (((6,),), 3),
    ]
    assert place.tolist() == [0, 1, 1, 2, 3]


def held_of(own):
    rows = replace(made([4, 4, 4]), levels=False)
    true = np.vstack([rows.target, np.zeros(len(rows))])
    off = true + np.array([[1.0], [0.0]])
    values = {user: np.stack([moments[:, rows.user == user] for moments in own(true, off)]) for user in (0, 1)}
    context = training.TrainingContext(
        Config(likelihood="nll"),
        heads.Standardizer(torch.zeros(1), torch.zeros(1)),
        training.DeviceLimits(9, True, print),
        0,
    )
    return held_out.HeldOut(rows, off, off, values), context


def test_users_adapters_take_as_many_passes_as_are_best_for_all():
    held, context = held_of(lambda true, off: [off, true, off])
    assert held.passes(context, 2) == 1
    # user 2 has no adapter: an error of 1 for four of twelve labels
    assert held.noise(1, np.zeros(3, dtype=bool)) == pytest.approx(1 / 3)
    assert held.noise(1, np.array([True, False, False])) == pytest.approx(2 / 3)
    assert held.noise(0, np.zeros(3, dtype=bool)) == pytest.approx(1.0)
    held, context = held_of(lambda true, off: [true, off, off])
    assert held.passes(context, 2) == 0


@pytest.mark.parametrize("pairwise", [False, True])
def test_who_is_told_worse_by_their_own_part_abstains(pairwise):
    rows = replace(made([6] * 9), levels=True)
    right = np.vstack([rows.target, np.zeros(len(rows))])
    own = {user: np.stack([right[:, rows.user == user]] * 2) for user in range(3)}
    # the second user's own part turns against them after a pass
    own[1][1] *= -1
    held = held_out.HeldOut(rows, 0.1 * right, right, own)
    assert held.abstained(0, 4, pairwise=pairwise).tolist() == [False, False, False, False]
    assert held.abstained(1, 4, pairwise=pairwise).tolist() == [False, True, False, False]
