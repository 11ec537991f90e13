"""Encode labelled candidates to packs of tokens by query, hold some out, and schedule them in steps and batches.

Packs of one bundle are never apart, since their rows share a level or are compared with each other. A pass is made of
steps of about as many rows, and a step of batches that fit on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.data.chunks import chunks_of
from bestfor.lm.packing import Pack, Tokens, split_packs
from bestfor.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from bestfor.lm.states import Backbone

PACKED = 1024
"""Tokens of the texts of a pack: attention is quadratic in it."""
SHARED_FROM = 2.0
"""Labels a text from which people are taken to rate the same texts."""
ALONE = 8
"""Queries of one candidate that are compared with each other."""
WINDOW = 8
"""Steps among which packs are sorted by length: little padding, and an order that is still random."""


@dataclass(frozen=True)
class TokenRows:
    """Labelled rows over texts in tokens.

    Attributes:
        packs: texts of one query each; ``Pack.rows`` are numbers of texts, ``Pack.user`` the user's code.
        bundle: shape (packs,): packs of one bundle are never apart, since their rows share a level or make pairs.
        text: shape (n,), number of each row's text.
        user: shape (n,), codes of users.
        target: shape (n,), utilities on the standard scale; NaN where there are none.
        queries: ids of queries, by pack.
        levels: whether queries have levels of their own: somebody has two.
    """

    packs: tuple[Pack, ...]
    bundle: IntArray
    text: IntArray
    user: IntArray
    target: FloatArray
    queries: tuple[str, ...]
    levels: bool

    def __len__(self) -> int:
        return len(self.text)

    @cached_property
    def group(self) -> IntArray:
        """Bundle of each row, shape (n,)."""
        return self.bundle[self.pack]

    @cached_property
    def pack(self) -> IntArray:
        """Pack of each row, shape (n,)."""
        owner = np.full(1 + max((int(pack.rows.max()) for pack in self.packs), default=-1), -1, dtype=np.int64)
        for place, pack in enumerate(self.packs):
            owner[pack.rows] = place
        return owner[self.text]

    def take(self, mask: BoolArray) -> TokenRows:
        """Take some rows, with the packs and texts that they need; texts and bundles keep their numbers."""
        needed = np.unique(self.text[mask])
        places = np.unique(self.pack[mask])
        packs: list[Pack] = []
        for place in places:
            pack = self.packs[place]
            kept = np.flatnonzero(np.isin(pack.rows, needed, assume_unique=True))
            packs.append(replace(pack, texts=tuple(pack.texts[k] for k in kept), rows=pack.rows[kept]))
        queries = tuple(self.queries[place] for place in places)
        rows = (self.text[mask], self.user[mask], self.target[mask])
        return TokenRows(tuple(packs), self.bundle[places], *rows, queries, self.levels)

    def bundles(self) -> list[Bundle]:
        """Collect the bundles, in the order of their numbers."""
        codes, place = np.unique(self.bundle, return_inverse=True)
        owner = place[self.pack]
        packs: list[list[int]] = [[] for _ in codes]
        for index, code in enumerate(place.tolist()):
            packs[code].append(index)
        order = np.argsort(owner, kind="stable")
        ends = np.cumsum(np.bincount(owner, minlength=len(codes)))[:-1]
        rows = np.split(order, ends)
        return [Bundle(tuple(own), some) for own, some in zip(packs, rows, strict=True)]


@dataclass(frozen=True)
class Bundle:
    """Packs that are never apart.

    Attributes:
        packs: indices.
        rows: shape (k,), rows of their texts.
    """

    packs: tuple[int, ...]
    rows: IntArray


def pairs_of(candidates: Candidates) -> IntArray:
    """Number each row's (user, query), shape (n,), in ascending order of both codes."""
    return np.unique(candidates.user * len(candidates.queries) + candidates.query, return_inverse=True)[1]


def encode_rows(
    candidates: Candidates, backbone: Backbone, *, items: int, pairwise: bool, centre: float, unit: float
) -> TokenRows:
    """Encode labelled rows, texts of a query behind their prompt.

    Args:
        candidates: n rows in canonical order.
        backbone: whose tokens.
        items: earlier texts of the user in a prompt.
        pairwise: whether rows are compared: queries of one candidate are then bundled by user.
        centre: mean utility.
        unit: standard deviation of utilities.

    Raises:
        InputError: a text that is too long for the backbone.
    """
    packs, text, queries = encode_texts(candidates, backbone, items)
    levels = int(pairs_of(candidates).max()) + 1 > len(np.unique(candidates.user))
    if not (pairwise or levels):
        packs, text, queries = _pack_by_text(packs, text, queries)
    bundle = _bundle_codes(packs) if pairwise else np.arange(len(packs))
    target = (candidates.utility - centre) / unit
    return TokenRows(tuple(packs), bundle, text, candidates.user, target, tuple(queries), levels)


def _pack_by_text(packs: list[Pack], text: IntArray, queries: list[str]) -> tuple[list[Pack], IntArray, list[str]]:
    """Make a pack for each text where people rate the same ones: it is read once for all of them."""
    made, _, place = merge_packs(packs, [0] * len(packs))
    if len(text) < SHARED_FROM * sum(len(pack.texts) for pack in made):
        return packs, text, queries
    names = {pack.prompt: query for pack, query in zip(reversed(packs), reversed(queries), strict=True)}
    alone = [Pack(pack.prompt, (tokens,), pack.rows[k : k + 1]) for pack in made for k, tokens in enumerate(pack.texts)]
    return alone, place[text], [names[pack.prompt] for pack in alone]


def encode_texts(candidates: Candidates, backbone: Backbone, items: int) -> tuple[list[Pack], IntArray, list[str]]:
    """Encode the distinct texts of each (user, query) behind its prompt.

    Args:
        candidates: n rows in canonical order, with the users' histories.
        backbone: whose tokens.
        items: earlier texts of the user in a prompt.

    Returns:
        Packs whose rows number the texts from 0, the number of each row's text, shape (n,), and the packs' queries.

    Raises:
        InputError: a text that is too long for the backbone.
    """
    packs: list[Pack] = []
    queries: list[str] = []
    text = np.empty(len(candidates), dtype=np.int64)
    count = 0
    for rows in by_code(pairs_of(candidates)):
        query, user = int(candidates.query[rows[0]]), int(candidates.user[rows[0]])
        codes, place = np.unique(candidates.text[rows], return_inverse=True)
        text[rows] = count + place
        name, earlier = candidates.queries[query], ()
        if items and candidates.history is not None:
            earlier = candidates.history.before(candidates.users[user], name)[-items:][::-1]
        wrote = [candidates.texts[code] for code in codes]
        prompt, *tokens = backbone.encode(name, candidates.inputs[query], wrote, earlier)
        parts = split_packs([Pack(prompt, tuple(tokens), count + np.arange(len(codes)), user)], PACKED)
        packs += parts
        queries += [name] * len(parts)
        count += len(codes)
    return packs, text, queries


def merge_packs(packs: Sequence[Pack], owners: Sequence[int]) -> tuple[list[Pack], list[int], IntArray]:
    """Merge packs with one prompt and one adapter, equal texts once.

    Args:
        packs: their rows number the texts of all of them.
        owners: whose adapter is attached while each pack is read.

    Returns:
        The new packs, their owners, and for every old text the number of the new one, shape (texts,).
    """
    found: dict[tuple[int, Tokens], dict[Tokens, list[int]]] = {}
    for pack, owner in zip(packs, owners, strict=True):
        texts = found.setdefault((owner, pack.prompt), {})
        for tokens, row in zip(pack.texts, pack.rows.tolist(), strict=True):
            texts.setdefault(tokens, []).append(row)
    place = np.empty(sum(len(pack.texts) for pack in packs), dtype=np.int64)
    made: list[Pack] = []
    count = 0
    for (owner, prompt), texts in found.items():
        made.append(Pack(prompt, tuple(texts), count + np.arange(len(texts)), owner))
        for rows in texts.values():
            place[rows] = count
            count += 1
    return made, [owner for owner, _ in found], place


def hold_out(rows: TokenRows, share: float, draw: np.random.Generator) -> BoolArray:
    """Choose rows to hold out, shape (n,): about a share of every user's queries, or of their rows.

    Where people share texts, whole texts are held out, because candidates to come are texts that nobody rated. Users
    of one or two queries would keep none: a share of their rows is held out.
    """
    tokens = {text: code for code, text in enumerate(sorted({one for pack in rows.packs for one in pack.texts}))}
    wrote = np.empty(1 + int(rows.text.max()), dtype=np.int64)
    for pack in rows.packs:
        wrote[pack.rows] = [tokens[one] for one in pack.texts]
    if len(rows) >= SHARED_FROM * len(tokens):
        return (draw.random(len(tokens)) < share)[wrote[rows.text]]
    held = np.zeros(len(rows), dtype=np.bool_)
    pack = rows.pack
    for own in by_code(rows.user):
        queries = np.array(rows.queries)[pack[own]]
        names, query = np.unique(queries, return_inverse=True)
        units = query if len(names) > 2 else np.arange(len(own))
        count = int(units.max()) + 1
        chosen = draw.permutation(count)[: int(np.floor(share * count + 0.5))]
        held[own] = np.isin(units, chosen)
    return held


def by_code(codes: IntArray) -> list[IntArray]:
    """Group rows by code, in ascending order of both."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _bundle_codes(packs: Sequence[Pack]) -> IntArray:
    """Number bundles, shape (packs,), in which every text has another to be compared with, where its user has one."""
    bundle = np.arange(len(packs))
    alone: dict[int, list[int]] = {}
    for place, pack in enumerate(packs):
        if len(pack.texts) == 1:
            alone.setdefault(pack.user, []).append(place)
    for places in alone.values():
        parts = max(1, len(places) // ALONE)
        for number, place in enumerate(places):
            bundle[place] = places[number % parts]
    return bundle


def schedule(rows: TokenRows, bundles: Sequence[Bundle], each: int, seed: int, *names: str | int) -> list[list[int]]:
    """Schedule the steps of a pass: bundles of about ``each`` rows, of similar length, ordered by (seed, names)."""
    draw = rng.derive(seed, "order", *names)
    steps: list[list[int]] = []
    lengths = [max(rows.packs[index].length for index in bundle.packs) for bundle in bundles]

    def weigh(index: int) -> int:
        return len(bundles[index].rows)

    for window in chunks_of(draw.permutation(len(bundles)).tolist(), weigh, WINDOW * each):
        steps += chunks_of(sorted(window, key=lambda index: (lengths[index], index)), weigh, each)
    return [steps[index] for index in draw.permutation(len(steps)).tolist()]


def batches(rows: TokenRows, bundles: Sequence[Bundle], tokens: int, *, packed: bool) -> list[list[Bundle]]:
    """Group bundles in batches of at most so many padded tokens, shortest first; a longer bundle is one of its own."""
    sizes = [_size(rows, bundle, packed=packed) for bundle in bundles]
    found: list[list[Bundle]] = []
    count = 0
    for index in sorted(range(len(bundles)), key=lambda index: (sizes[index][1], index)):
        sequences, width = sizes[index]
        if not found or (count + sequences) * width > tokens:
            found.append([])
            count = 0
        found[-1].append(bundles[index])
        count += sequences
    return found


def largest(rows: TokenRows, bundles: Sequence[Bundle], *, packed: bool) -> int:
    """Count padded tokens of the largest bundle: no batch need be larger."""
    sizes = (_size(rows, bundle, packed=packed) for bundle in bundles)
    return max(sequences * width for sequences, width in sizes)


def _size(rows: TokenRows, bundle: Bundle, *, packed: bool) -> tuple[int, int]:
    """Count the sequences of a bundle, and the tokens of the longest."""
    packs = [rows.packs[index] for index in bundle.packs]
    if packed:
        return len(packs), max(pack.length for pack in packs)
    longest = max(len(pack.prompt) + max(len(text) for text in pack.texts) for pack in packs)
    return sum(len(pack.texts) for pack in packs), longest
