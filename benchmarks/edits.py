"""Learn from edits that start from the shown text: what the labels confirm, and which correction serves best.

People of the embedded world are shown the pick among eight texts and change what they dislike, word by word: a change
is made where it pays more than it costs, the rest stays as it was shown. Each candidate's overlap with the final text
is a label. Candidates near the shown one overlap with it whatever the person thinks, so plain labels confirm the pick.

    python benchmarks/edits.py [--people 60] [--rounds 16]

``captured`` is the share of the headroom of fresh pools that the learned reward picks, with 95 % intervals over people.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from bestfor import rng
from bestfor.data.world import World, phrases, taste, taste_of, user_id
from bestfor.data.world.grammar import Facts, draw_facts, write
from bestfor.metrics import Query, make_metric
from bestfor.types import FloatArray

ROUGE = make_metric("rougeL")
POOL, COST, CHECKS = 8, 0.02, (1, 2, 4, 8, 16, 32)
OPPOSITE = (
    (phrases.FORMAL, phrases.CASUAL),
    (phrases.KEEN, phrases.CALM),
    (phrases.CASUAL, phrases.FORMAL),
    (phrases.CALM, phrases.KEEN),
)
Labels = tuple[FloatArray, FloatArray]
"""Differences of features, shape (m, 5), and of utilities, shape (m,), each row against its own answer's mean."""


def edit(text: str, facts: Facts, weights: FloatArray, draw: np.random.Generator) -> str:
    """Change a text where the person gains more by it than ``COST``, the best change first."""
    value = taste.utility(text, facts, weights)
    for _ in range(12):
        options = changes(text, draw)
        values = [taste.utility(option, facts, weights) for option in options]
        if not options or max(values) < value + COST:
            break
        text, value = options[int(np.argmax(values))], max(values)
    return text


def changes(text: str, draw: np.random.Generator) -> list[str]:
    """List texts that differ by one small change: a part cut, a word dropped or replaced, the mark at the end."""
    found = []
    if ": " in text:
        found.append(text.split(": ", 1)[1])
    if ", " in text:
        found.append(text.rsplit(", ", 1)[0])
    found += [text.rstrip("!"), text.rstrip("!.") + "!"]
    words = text.split(" ")
    for place, word in enumerate(words):
        bare = word.lower().strip(",.!?:")
        for these, those in OPPOSITE:
            if bare in these:
                other = sorted(those)[int(draw.integers(len(those)))]
                found.append(" ".join([*words[:place], other, *words[place + 1 :]]))
        if any(bare in those for these in OPPOSITE for those in these) or bare in phrases.FUNNY:
            found.append(" ".join([*words[:place], *words[place + 1 :]]))
    return [option[:1].upper() + option[1:] for option in found if option and option != text]


def overlap(texts: list[str], final: str) -> FloatArray:
    """ROUGE-L of texts against a final one."""
    return ROUGE.measure(Query("q", "u", "", final), texts)


def features(texts: list[str]) -> FloatArray:
    """Style of texts, which true utilities are made of."""
    return np.array([taste.style(text, "headline") for text in texts])


def centred(x: FloatArray, y: FloatArray) -> Labels:
    """Take away what the rows of one answer share."""
    return x - x.mean(0), y - y.mean()


def plain(texts: list[str], shown: int, final: str) -> Labels:
    """Every candidate's overlap with the final text."""
    return centred(features(texts), overlap(texts, final))


def without_shown(texts: list[str], shown: int, final: str) -> Labels:
    """The same without the text that was shown."""
    others = [text for place, text in enumerate(texts) if place != shown]
    return centred(features(others), overlap(others, final))


def gained(texts: list[str], shown: int, final: str) -> Labels:
    """How much nearer the edit brought the text to every candidate: overlap with the final less with the shown text."""
    return centred(features(texts), overlap(texts, final) - overlap(texts, texts[shown]))


def preferred(texts: list[str], shown: int, final: str) -> Labels:
    """The final text rather than the shown one, as one difference; nothing where there was no change."""
    if final == texts[shown]:
        return np.zeros((0, 5)), np.zeros(0)
    return features([final]) - features([texts[shown]]), np.array([0.3])


def gained_and_preferred(texts: list[str], shown: int, final: str) -> Labels:
    """Both."""
    first, second = gained(texts, shown, final), preferred(texts, shown, final)
    return np.vstack([first[0], second[0]]), np.concatenate([first[1], second[1]])


def plain_and_preferred(texts: list[str], shown: int, final: str) -> Labels:
    """Both."""
    first, second = plain(texts, shown, final), preferred(texts, shown, final)
    return np.vstack([first[0], second[0]]), np.concatenate([first[1], second[1]])


def without_and_preferred(texts: list[str], shown: int, final: str) -> Labels:
    """Both."""
    first, second = without_shown(texts, shown, final), preferred(texts, shown, final)
    return np.vstack([first[0], second[0]]), np.concatenate([first[1], second[1]])


WAYS: dict[str, Callable[[list[str], int, str], Labels]] = {
    "plain": plain,
    "without the shown text": without_shown,
    "gained": gained,
    "preferred": preferred,
    "gained and preferred": gained_and_preferred,
    "plain and preferred": plain_and_preferred,
    "without shown, and preferred": without_and_preferred,
}


def weights_of(x: FloatArray, y: FloatArray) -> FloatArray:
    """Posterior mean of a ridge with unit prior and noise of .3."""
    return np.linalg.solve(x.T @ x + 0.09 / 0.09 * np.eye(5), x.T @ y)


def pool(user: str, number: int) -> tuple[Facts, list[str]]:
    """Draw facts and eight distinct texts about them."""
    draw = rng.derive(0, "edits", user, number)
    facts = draw_facts("headline", rng=draw)
    texts: dict[str, None] = {}
    while len(texts) < POOL:
        texts[write(facts, rng=draw)] = None
    return facts, list(texts)


def live(user: str, weights: FloatArray, way: Callable[..., Labels], rounds: int, tests: list) -> dict[str, list]:
    """Let one person edit ``rounds`` answers and measure what was learned."""
    x, y, beliefs = np.zeros((0, 5)), np.zeros(0), np.zeros(5)
    found: dict[str, list] = {"gain": [], "confirms": [], "edited": []}
    for number in range(rounds):
        facts, texts = pool(user, number)
        draw = rng.derive(1, "edits", user, number)
        shown = int(np.argmax(features(texts) @ beliefs + 1e-9 * draw.standard_normal(POOL)))
        final = edit(texts[shown], facts, weights, draw)
        found["edited"].append(final != texts[shown])
        fresh = way(texts, shown, final)
        x, y = np.vstack([x, fresh[0]]), np.concatenate([y, fresh[1]])
        beliefs = weights_of(x, y)
        if number + 1 in CHECKS:
            found["gain"].append(sum(u[np.argmax(z @ beliefs)] - u.mean() for z, u in tests))
    return found


def main() -> None:
    """Print a table of the ways."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=16)
    asked = parser.parse_args()
    world = World(users=asked.people, silent=0.0)
    rows: dict[str, list] = {name: [] for name in WAYS}
    headroom = 0.0
    for index in range(asked.people):
        user = user_id(index)
        weights = taste_of(world, user)
        tests = []
        for number in range(10_000, 10_020):
            facts, texts = pool(user, number)
            utility = np.array([taste.utility(text, facts, weights) for text in texts])
            tests.append((features(texts), utility))
            headroom += utility.max() - utility.mean()
        for name, way in WAYS.items():
            rows[name].append(live(user, weights, way, asked.rounds, tests))
    for name, people in rows.items():
        gains = np.array([person["gain"] for person in people])
        captured = gains.sum(0) / headroom
        spread = gains.std(0, ddof=1) * np.sqrt(len(gains)) / headroom
        edited = np.mean([person["edited"] for person in people])
        cells = ", ".join(f"{value:.3f} +- {1.96 * error:.3f}" for value, error in zip(captured, spread, strict=True))
        print(f"{name:30} edited {edited:.0%}  captured after 1, 2, 4, ... edits: {cells}")


if __name__ == "__main__":
    main()
