"""What choosing items for a prompt costs: python benchmarks/bench_retrieval.py [--items 10000] [--queries 5].

One user with a long history of generated words (rank-frequency as in natural text), 130 words an item and 100 a query.
``retrieve`` indexes the asked words only; beside it stands the library's own index of all words, for the same scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import bm25s
import numpy as np
import typer

from bestfor.policies.retrieval import Item, retrieve


def texts(rng: np.random.Generator, count: int, length: int, words: int = 30_000) -> list[str]:
    """Texts of words drawn by Zipf's law."""
    share = 1.0 / np.arange(1, words + 1)
    drawn = rng.choice(words, (count, length), p=share / share.sum())
    return [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]


def whole_index(documents: Sequence[list[str]], query: str) -> None:
    """Scores by an index of all words."""
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(documents, show_progress=False)
    index.get_scores(sorted(set(query.split())))


def each(work: Callable[[str], object], queries: Sequence[str]) -> float:
    """Processor seconds a query; a first one is not counted."""
    work(queries[0])
    started = time.process_time()
    for query in queries:
        work(query)
    return (time.process_time() - started) / len(queries)


def main(items: int = 10_000, queries: int = 5) -> None:
    """Time every retriever that needs no model, then print seconds and ratios."""
    rng = np.random.default_rng(0)
    history = [Item(str(at), "", text, at) for at, text in enumerate(texts(rng, items, 130))]
    asked, documents = texts(rng, queries, 100), [item.output.split() for item in history]
    ours = each(lambda query: retrieve(history, query, 4), asked)
    print(f"{items} items, processor seconds a query")
    for name, seconds in (
        ("bm25", ours),
        ("bm25, an index of all words", each(lambda query: whole_index(documents, query), asked)),
        ("recency", each(lambda query: retrieve(history, query, 4, method="recency"), asked)),
    ):
        print(f"{name:28s} {seconds:8.4f} s, {seconds / ours:6.2f} times bm25's")


if __name__ == "__main__":
    typer.run(main)
