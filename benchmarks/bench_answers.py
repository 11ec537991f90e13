"""Time of answering one person: scores with features or embeddings at hand, and a person made again from labels.

    python benchmarks/bench_answers.py [--users 200] [--labels 50] [--rounds 400]

People with known tastes for letters rate texts of ten to forty letters; `hierarchical` is fitted with 32 components and
surface features. Printed are medians over the rounds of the processor time of the one thread that works and of the wall
clock (on a machine that others use too the latter holds waits for a processor), the part of a person that is features
of texts, and the memory of a person. Texts were seen before, as those of a journal are. One thread, unless
OMP_NUM_THREADS and OPENBLAS_NUM_THREADS say otherwise.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from bestfor import rng
from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.rewards import Hierarchical
from bestfor.rewards.learner import LinearPerson, label_texts
from bestfor.rewards.person import sort_labels
from bestfor.testing.rewards import taste_examples


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
    held = person.weights.nbytes + person.root.nbytes
    print(f"a person holds {held / 1000:.1f} kB of numbers: {held * 20_000 / 1e6:.0f} MB for 20,000")


def measure(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians of processor time and wall clock in milliseconds, after a tenth of the rounds to warm up."""
    for _ in range(rounds // 10):
        work()
    times = []
    for _ in range(rounds):
        busy, start = time.thread_time(), time.perf_counter()
        work()
        times.append((time.thread_time() - busy, time.perf_counter() - start))
    processor, wall = 1000 * np.median(times, axis=0)
    return float(processor), float(wall)


def report(name: str, found: tuple[float, float], first: tuple[float, float]) -> None:
    """Print a line."""
    print(f"{name:48s} {found[0]:8.3f} ms busy, {found[1]:8.3f} ms in all, {found[0] / first[0]:7.1f} times the first")


if __name__ == "__main__":
    main()
