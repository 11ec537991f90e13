import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from support import later
from support.backbones import packs_of, visible

packing = later("bestfor.lm.packing", "torch")


SHAPES = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.integers(1, 6), min_size=1, max_size=4)), min_size=1, max_size=5
)


def read(layout, token):
    """Ids and positions of what a token sees, in order."""
    row, column = divmod(int(token), layout.ids.shape[1])
    seen = np.flatnonzero(visible(layout)[row, column])
    return layout.ids[row, seen].tolist(), layout.positions[row, seen].tolist()


@given(shapes=SHAPES)
def test_a_texts_last_token_sees_its_pair_alone(shapes):
    packs = packs_of(shapes)
    pairs = [[*pack.prompt, *text] for pack in packs for text in pack.texts]
    for lay in (packing.side_by_side, packing.one_by_one):
        layout = lay(packs, 0)
        assert len(layout.last) == len(pairs)
        for last, pair in zip(layout.last, pairs, strict=True):
            assert read(layout, last) == (pair, list(range(len(pair))))


@given(shapes=SHAPES)
def test_rows_know_their_packs_and_padding(shapes):
    packs = packs_of(shapes)
    apart = [place for place, pack in enumerate(packs) for _ in pack.texts]
    for lay, rows in ((packing.side_by_side, list(range(len(packs)))), (packing.one_by_one, apart)):
        layout = lay(packs, 7)
        assert layout.pack.tolist() == rows
        assert (layout.ids[~layout.seen] == 7).all()
        assert layout.seen.any(axis=0).all()
        assert set(np.unique(layout.owner)) <= {packing.PADDING, packing.PROMPT, *range(4)}
        # attention over nothing is no number
        assert visible(layout).any(axis=2).all()


@given(shapes=SHAPES, tokens=st.integers(1, 12))
def test_split_packs_lose_nothing(shapes, tokens):
    packs = packs_of(shapes)
    parts = packing.split_packs(packs, tokens)
    assert [text for part in parts for text in part.texts] == [text for pack in packs for text in pack.texts]
    assert [row for part in parts for row in part.rows] == [row for pack in packs for row in pack.rows]
    for part in parts:
        assert len(part.texts) == 1 or sum(map(len, part.texts)) <= tokens
        assert part.prompt in {pack.prompt for pack in packs}


@given(shapes=SHAPES, tokens=st.integers(1, 60))
def test_batches_hold_every_pack_once_and_little_padding(shapes, tokens):
    packs = packs_of(shapes)
    groups = packing.bucket(packs, tokens)
    assert sorted(index for group in groups for index in group) == list(range(len(packs)))
    lengths = [[packs[index].length for index in group] for group in groups]
    assert all(len(some) * max(some) <= tokens or len(some) == 1 for some in lengths)
    assert [length for some in lengths for length in some] == sorted(pack.length for pack in packs)
