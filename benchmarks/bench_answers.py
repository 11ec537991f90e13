"""Time of answering one person: scores with features or embeddings at hand, and a person made again from labels.

    python benchmarks/bench_answers.py [--users 200] [--labels 50] [--rounds 400]

People with known tastes for letters rate texts of ten to forty letters; `hierarchical` is fitted with 32 components and
surface features. Printed are medians over the rounds of the processor time of the one thread that works, its least, and
the median of the wall clock (on a machine that others use too the latter holds waits for a processor), the part of a
person that is features of texts, and the memory of a person; then a person of every kind that learns, from ratings and
from labels of both kinds, and what encoders add for 8 new texts of ten words. Texts were seen before, as those of a
journal are, but for the encoders'. One thread, unless OMP_NUM_THREADS and OPENBLAS_NUM_THREADS say otherwise.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from bestfor import rng
from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.encoders import load_encoder
from bestfor.errors import BestforError
from bestfor.rewards import Hierarchical, build
from bestfor.rewards.learner import LinearPerson, label_texts
from bestfor.rewards.person import sort_labels
from bestfor.testing.rewards import taste_examples

HEADS = ("point", "gaussian", "bradley_terry", "ensemble")
KINDS_THAT_LEARN = ("hierarchical", "pooled", "ridge", "tastes", "similarity", *HEADS)


class WideEncoder:
    """Encoder of 384 numbers for a text, from random projections of its letters' counts; each text is encoded once."""

    name = "wide"
    signature = "wide-1"
    dim = 384

    def __init__(self) -> None:
        self._turn = rng.derive(0, "wide").normal(size=(26, self.dim)) / 5
        self._known: dict[str, np.ndarray] = {}

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of shape (n, 384)."""
        for text in texts:
            if text not in self._known:
                counts = np.array([text.count(chr(97 + letter)) for letter in range(26)], dtype=np.float64)
                vector = np.tanh(counts @ self._turn)
                self._known[text] = (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)
        return np.array([self._known[text] for text in texts], dtype=np.float32).reshape(len(texts), self.dim)


def main() -> None:
    """Fit, make persons, score, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, value in (("users", 200), ("labels", 50), ("rounds", 400)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    examples, encoder = taste_examples(options.users, 4, 8, seed=0), WideEncoder()
    model = Hierarchical(encoder=encoder, components=32).fit(examples, rng=0)
    draw, texts = rng.derive(1, "labels"), list(examples.texts)
    rated = [
        Rated(f"write about {place // 5}", str(draw.choice(texts)), float(draw.normal()))
        for place in range(options.labels)
    ]
    mixed = [Preferred(one.prompt, one.text, other.text) for one, other in zip(rated[::2], rated[1::2], strict=False)]
    labels = Labels(rated=tuple(rated))
    both = Labels(tuple(rated[::2]), tuple(one for one in mixed if one.better != one.worse))
    person = model.person("u7", labels)
    assert isinstance(person, LinearPerson)
    asked = texts[:8]
    embeddings = encoder.encode(asked)
    features = label_texts(model.features, "u7", Labels(tuple(Rated("", one, 0.0) for one in asked)), None).features
    surface = np.ascontiguousarray(features[:, 32:])
    print(f"NumPy {np.__version__}, Python {platform.python_version()}, {person.weights.shape[0]} columns")
    first = measure(lambda: person.score_embeddings(embeddings, surface), options.rounds)
    report("8 candidates, embeddings and surface at hand", first, first)
    report("8 candidates, features at hand", measure(lambda: person.score_features(features), options.rounds), first)
    report("8 candidates from texts, encoded before", measure(lambda: person.score("", asked), options.rounds), first)
    report("model.score from the same texts", measure(lambda: model.score("u7", "", asked), options.rounds), first)
    for name, said in (
        (f"person of {len(labels)} ratings", labels),
        (f"person of {len(both)} labels of both kinds", both),
    ):
        report(name, measure(lambda said=said: model.person("u7", said), options.rounds), first)
        each = measure(lambda said=said: label_texts(model.features, "u7", sort_labels(said), None), options.rounds)
        report("  of which features of the labels' texts", each, first)
    of_every_kind((labels, both), encoder, options.rounds, first)
    new_texts(options.rounds // 4, first)
    held = person.weights.nbytes + person.root.nbytes
    print(f"a person holds {held / 1000:.1f} kB of numbers: {held * 20_000 / 1e6:.0f} MB for 20,000")


def of_every_kind(
    said: tuple[Labels, Labels], encoder: WideEncoder, rounds: int, first: tuple[float, float, float]
) -> None:
    """Make a person of every kind that learns."""
    examples = taste_examples(100, 4, 8, seed=0)
    for kind in KINDS_THAT_LEARN:
        options: dict[str, Any] = {} if kind in ("tastes", "similarity") else {"components": 32}
        options |= {"epochs": 3} if kind in HEADS else {"rounds": 4} if kind == "tastes" else {}
        model = build(kind, encoder=encoder, **options).fit(examples, rng=0)
        few = rounds // 10 if kind in ("tastes", "bradley_terry") else rounds
        for name, labels in zip(("ratings", "labels of both kinds"), said, strict=True):
            found = measure(lambda model=model, labels=labels: model.person("u7", labels), few)
            report(f"{kind}: person of {len(labels)} {name}", found, first)


def new_texts(rounds: int, first: tuple[float, float, float]) -> None:
    """Encode 8 texts that nobody has seen, on one core, by the encoders that are installed."""
    draw, words = (
        rng.derive(2, "words"),
        ["the", "cat", "dog", "ran", "sat", "on", "a", "red", "mat", "and", "then", "quickly", "went", "home", "again"],
    )
    for name in ("onnx:all-MiniLM-L6-v2", "static:all-MiniLM-L6-v2"):
        try:
            encoder = load_encoder(name).encoder
            encoder.encode(["warm"])
        except BestforError as error:
            print(f"{name}: not measured ({error})")
            continue
        found = measure(lambda one=encoder: one.encode([" ".join(draw.choice(words, 10)) for _ in range(8)]), rounds)
        report(f"8 new texts of ten words, {name}", found, first)


def measure(work: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median and least processor time and median wall clock, in milliseconds; a tenth of the rounds warms up."""
    for _ in range(rounds // 10):
        work()
    times = []
    for _ in range(rounds):
        busy, start = time.thread_time(), time.perf_counter()
        work()
        times.append((time.thread_time() - busy, time.perf_counter() - start))
    processor, wall = 1000 * np.median(times, axis=0)
    return float(processor), 1000 * min(busy for busy, _ in times), float(wall)


def report(name: str, found: tuple[float, float, float], first: tuple[float, float, float]) -> None:
    """Print a line."""
    median, least, wall = found
    times = f"{median:8.3f} ms busy, {least:8.3f} at least, {wall:8.3f} in all"
    print(f"{name:52s} {times}, {median / first[0]:7.1f} times the first", flush=True)


if __name__ == "__main__":
    main()
