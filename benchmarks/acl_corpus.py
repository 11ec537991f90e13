"""Background papers as conversations that a small title writer learns from; nothing here has seen an author's paper.

Three kinds of conversation: a paper alone, a paper after one or two similar ones (which stand in for a history, so
that the writer knows a prompt with earlier titles), and a paper whose abstract is to be quoted (copying is half of
writing a title, and a title is too short to learn it from).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
import pyarrow as pa

from bestfor import rng
from bestfor.data.schema import HISTORIES
from bestfor.policies.finetune.corpus import Corpus
from bestfor.policies.prompts import TEMPLATES

TITLE = "Write the title."
QUOTE = "Quote the abstract."
LAMP = "Generate a title for the following abstract of a paper: "
HELD_OUT = 200

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Paper:
    """A paper of the background: what is read, and what is to be written."""

    title: str
    abstract: str


def read_papers(path: Path) -> tuple[list[Paper], list[Paper]]:
    """The papers to learn from, and the ``HELD_OUT`` that are kept for validation; chosen by the hash of the title."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    papers = [Paper(" ".join(row["title"].split()), " ".join(row["abstract"].split())) for row in rows]
    papers.sort(key=lambda paper: hashlib.sha256(f"{paper.title}\n{paper.abstract}".encode()).hexdigest())
    return papers[HELD_OUT:], papers[:HELD_OUT]


def title_corpus(papers: Sequence[Paper], instruction: str = TITLE) -> Corpus:
    """Every paper alone, the writer's task itself."""
    rows = [_row(f"p{index}", 0, paper.abstract, paper.title) for index, paper in enumerate(papers)]
    return Corpus(pa.Table.from_pylist(rows, schema=HISTORIES), instruction)


def training_corpora(papers: Sequence[Paper], rounds: int, *, seed: int) -> list[Corpus]:
    """Some rounds through the papers, each with another choice of conversations.

    Args:
        papers: what to learn from.
        rounds: how often every paper is met.
        seed: of the choices.
    """
    similar = _similar(papers)
    telling = _telling(papers)
    rows: dict[str, list[dict[str, object]]] = {}
    for number in range(rounds):
        draw = rng.derive(seed, "round", number)
        for index, paper in enumerate(papers):
            user = f"r{number}-p{index}"
            kind = draw.random()
            instruction = _instruction(draw)
            if kind < 0.2:
                rows.setdefault(QUOTE, []).append(_row(user, 0, paper.abstract, _quote(paper.abstract, telling, draw)))
                continue
            earlier = draw.choice(similar[index], size=int(draw.integers(1, 3)), replace=False) if kind > 0.7 else ()
            prefix = LAMP if draw.random() < 0.15 else ""
            for place, other in enumerate([*earlier, index]):
                row = _row(user, place, prefix + papers[other].abstract, papers[other].title)
                rows.setdefault(instruction, []).append(row)
    return [Corpus(pa.Table.from_pylist(found, schema=HISTORIES), text) for text, found in sorted(rows.items())]


def _instruction(draw: np.random.Generator) -> str:
    """Mostly the short one; now and then none or the package's own, so that a prompt may have any of them."""
    kind = draw.random()
    return TITLE if kind < 0.7 else "" if kind < 0.85 else TEMPLATES["title"]


def _row(user: str, place: int, asked: str, wrote: str) -> dict[str, object]:
    return {"user_id": user, "item_id": str(place), "input": asked, "output": wrote, "timestamp": None}


def _similar(papers: Sequence[Paper], k: int = 8) -> list[list[int]]:
    """The k nearest other papers by BM25 of title and abstract."""
    words = [_words(f"{paper.title} {paper.abstract}") for paper in papers]
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(words, show_progress=False)
    found: list[list[int]] = []
    for place, own in enumerate(words):
        scores = np.round(index.get_scores(sorted(set(own))), 4)
        scores[place] = -1.0
        found.append(np.argsort(-scores, kind="stable")[:k].tolist())
    return found


def _telling(papers: Sequence[Paper]) -> dict[str, float]:
    """How much likelier a word is in titles than in abstracts, as a log ratio; rare words are taken as neutral."""
    inside = Counter(word for paper in papers for word in _words(paper.title))
    outside = Counter(word for paper in papers for word in _words(paper.abstract))
    share = sum(inside.values()) / sum(outside.values())
    return {word: math.log((inside[word] + 2 * share) / (outside[word] + 2) / share) for word in outside}


def _quote(abstract: str, telling: dict[str, float], draw: np.random.Generator) -> str:
    """A run of 3 to 10 words that sounds like a title rather than like any sentence."""
    words = abstract.split()
    spans = list(_spans(len(words), draw))
    scores = [sum(telling.get(word, 0.0) for word in _words(" ".join(words[a:b]))) for a, b in spans]
    a, b = spans[int(np.argmax(scores))]
    return " ".join(words[a:b]).strip(".,;:()[]\"'")


def _spans(length: int, draw: np.random.Generator) -> Iterator[tuple[int, int]]:
    for _ in range(6):
        size = int(draw.integers(3, 11))
        start = int(draw.integers(0, max(1, length - size + 1)))
        yield start, min(length, start + size)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
