"""Which two answers to show a newcomer: python benchmarks/asking.py [world polis headlines] [--people 40].

A newcomer, of whom the model has no label, is shown two answers at a time and says which is better. After 0, 1, 2, 4
and more questions the model's person answers other requests of the same newcomer by the highest mean; captured is the
share of what a perfect pick would gain. Every rule sees the same prompts and candidates in the same order.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Preferred
from bestfor.data.sources.polis import load_polis
from bestfor.data.world import World
from bestfor.data.world.grammar import draw_facts, write
from bestfor.data.world.world import noise_std, noisy, true_utility, user_id
from bestfor.diagnostics import best_of_n
from bestfor.encoders import load_encoder
from bestfor.progress import Progress
from bestfor.rewards import RewardModel, build
from bestfor.rng import derive
from bestfor.selection import answer_noise, pair_to_show
from figures import table

ASKED = (0, 1, 2, 4, 8, 16, 32)
RULES = ("random", "top-two", "duel", "expected", "expected, later")
KINDS = ("hierarchical", "tastes")
SHOWN = 8
LATER = 4


@dataclass(frozen=True)
class Newcomer:
    """A person whom the model does not know.

    Attributes:
        user: a name that is not among the fitted.
        questions: the prompt and the candidates of each question.
        tests: prompt, candidates and their utilities of the requests that are answered.
        n: candidates of an answer.
        prefers: prompt, two texts and the question's number -> whether the first is preferred.
    """

    user: str
    questions: list[tuple[str, list[str]]]
    tests: list[tuple[str, list[str], np.ndarray]]
    n: int
    prefers: Callable[[str, str, str, int], bool]


@dataclass(frozen=True)
class Setting:
    """Labels of others, newcomers, and requests like those that will be answered."""

    name: str
    fit: Candidates
    newcomers: list[Newcomer]
    later: list[tuple[str, list[str]]]


def world(people: int) -> Iterator[Setting]:
    """Simulated people: 60 known ones rated 40 texts each; newcomers compare with a label's noise on either text."""
    config = World(seed=11, users=60 + people)

    def prompts(name: str, count: int, size: int) -> list[tuple[str, list[str]]]:
        made = []
        for number in range(count):
            draw = derive(11, "asking", name, number)
            facts = draw_facts("headline", rng=draw)
            made.append((facts.render(), [write(facts, rng=draw) for _ in range(size)]))
        return made

    fit, asked, tests = prompts("fit", 24, 8), prompts("ask", max(ASKED), SHOWN), prompts("test", 8, 16)
    users, inputs, texts, values = [], [], [], []
    for index in range(60):
        chosen = derive(11, "rated", index).choice(len(fit), 5, replace=False)
        for prompt, written in (fit[place] for place in chosen):
            users.append(user_id(index))
            inputs.append(prompt)
            texts.append(written)
            values.append(noisy(config, user_id(index), prompt, written))

    def newcomer(user: str) -> Newcomer:
        def prefers(prompt: str, a: str, b: str, number: int) -> bool:
            both = true_utility(config, user, prompt, [a, b])
            drawn = derive(11, "said", user, number, min(a, b)).standard_normal(2) * noise_std(
                config, user, prompt, [a, b]
            )
            return bool(both[0] + drawn[0] > both[1] + drawn[1])

        pools = [(prompt, written, true_utility(config, user, prompt, written)) for prompt, written in tests]
        return Newcomer(user, asked, pools, 8, prefers)

    new = [newcomer(user_id(60 + index)) for index in range(people)]
    yield Setting("world", Candidates.of(users, inputs, texts, values), new, [(p, t[:SHOWN]) for p, t in fit[:LATER]])


def polis(people: int, data: Path = Path("../shared/data/polis/american-assembly.bowling-green")) -> Iterator[Setting]:
    """Votes: known people's on all statements; a newcomer's on half of the statements answer questions."""
    votes = load_polis(data)
    own: dict[str, list[tuple[str, float]]] = {}
    for user, text, rating in zip(votes.user.tolist(), votes.text.tolist(), votes.rating.tolist(), strict=True):
        own.setdefault(votes.users[user], []).append((votes.texts[text], rating))
    half = {text: derive(12, "half", text).random() < 0.5 for text in votes.texts}

    def enough(user: str) -> bool:
        said = own[user]
        parts = [[value for text, value in said if half[text] is side] for side in (True, False)]
        return min(map(len, parts)) >= 16 and all(len(set(part)) > 1 for part in parts)

    able = sorted(user for user in own if enough(user))
    new = [able[place] for place in derive(12, "newcomers").permutation(len(able))[:people]]
    known = sorted(set(own) - set(new))
    known = [known[place] for place in derive(12, "known").permutation(len(known))[:400]]
    fit = Candidates.of(
        known,
        [""] * len(known),
        [[text for text, _ in own[user]] for user in known],
        [np.array([value for _, value in own[user]]) for user in known],
    )
    new_people = [_voter(user, own[user], half) for user in new]
    some = sorted(text for text, side in half.items() if not side)
    later = [
        ("", [some[place] for place in derive(12, "later", number).choice(len(some), SHOWN, replace=False)])
        for number in range(LATER)
    ]
    yield Setting("polis", fit, new_people, later)


def _voter(user: str, said: list[tuple[str, float]], half: dict[str, bool]) -> Newcomer:
    utility = dict(said)
    asked, tested = ([text for text, _ in said if half[text] is side] for side in (True, False))
    questions = [
        ("", [asked[place] for place in derive(12, "pool", user, number).choice(len(asked), SHOWN, replace=False)])
        for number in range(max(ASKED))
    ]
    tests = [("", tested, np.array([utility[text] for text in tested]))]
    return Newcomer(f"new {user}", questions, tests, 8, _by(utility, user))


def _by(utility: dict[str, float], user: str) -> Callable[[str, str, str, int], bool]:
    def prefers(prompt: str, a: str, b: str, number: int) -> bool:
        if utility[a] == utility[b]:
            return (derive(13, "coin", user, min(a, b), max(a, b)).random() < 0.5) == (a < b)
        return utility[a] > utility[b]

    return prefers


def headlines(people: int, path: Path = Path("../shared/data/headlines/ranked_headlines.csv")) -> Iterator[Setting]:
    """Rankings of six headlines: each person is new once, the others are known; ten articles ask, ten are answered."""
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["rank"].strip()]
    people_of, articles = (sorted({row[name] for row in rows}) for name in ("participant", "article"))
    said = {(row["participant"], row["article"], row["headline"]): 1 - (float(row["rank"]) - 1) / 2.5 for row in rows}
    written = {(row["participant"], row["article"]): [] for row in rows}
    for row in rows:
        if row["headline"] not in written[row["participant"], row["article"]]:
            written[row["participant"], row["article"]].append(row["headline"])
    for fold in range(5):
        new = people_of[fold::5][: max(people // 5, 1)]
        known = [(user, article) for user in people_of if user not in people_of[fold::5] for article in articles]
        fit = Candidates.of(
            [user for user, _ in known],
            [f"article {article}" for _, article in known],
            [written[key] for key in known],
            [np.array([said[(*key, text)] for text in written[key]]) for key in known],
        )
        newcomers = [_reader(user, articles, written, said) for user in new]
        yield Setting("headlines", fit, newcomers, [])


def _reader(
    user: str,
    articles: list[str],
    written: dict[tuple[str, str], list[str]],
    said: dict[tuple[str, str, str], float],
) -> Newcomer:
    order = derive(13, "articles", user).permutation(len(articles))
    asked, tested = ([articles[place] for place in part] for part in (order[::2], order[1::2]))
    utility = {
        (f"article {article}", text): said[user, article, text]
        for article in articles
        for text in written[user, article]
    }

    def prefers(prompt: str, a: str, b: str, number: int) -> bool:
        return utility[prompt, a] > utility[prompt, b]

    questions = [(f"article {asked[t % len(asked)]}", written[user, asked[t % len(asked)]]) for t in range(max(ASKED))]
    tests = [
        (
            f"article {article}",
            written[user, article],
            np.array([said[user, article, t] for t in written[user, article]]),
        )
        for article in tested
    ]
    return Newcomer(f"new {user}", questions, tests, 5, prefers)


def ask(model: RewardModel, one: Newcomer, rule: str, later: Sequence[tuple[str, list[str]]]) -> np.ndarray:
    """Ask a newcomer; the gain at each of ``ASKED`` and the headroom, shape (len(ASKED) + 1,)."""
    said: dict[tuple[str, str, str], Preferred] = {}
    found = np.zeros(len(ASKED) + 1)
    for number in range(max(ASKED) + 1):
        person = model.person(one.user, Labels(preferred=tuple(said.values())))
        if number in ASKED:
            found[ASKED.index(number)], found[-1] = _gain(person, one)
        if number == max(ASKED):
            break
        prompt, texts = one.questions[number]
        others = [text for _, pool in later for text in pool] if rule == "expected, later" else []
        scores = person.score(prompt, [*texts, *others])
        assert scores.cov_mean is not None
        pools = [range(len(texts) + SHOWN * at, len(texts) + SHOWN * (at + 1)) for at in range(len(others) // SHOWN)]
        a, b = pair_to_show(
            scores.mean,
            scores.cov_mean,
            rule="expected" if others else rule,  # pyright: ignore[reportArgumentType]
            noise=answer_noise(scores),
            among=range(len(texts)),
            pools=[list(pool) for pool in pools] or [list(range(len(texts)))],
            rng=derive(14, "random", one.user, number),
        )
        better, worse = (a, b) if one.prefers(prompt, texts[a], texts[b], number) else (b, a)
        key = (prompt, *sorted((texts[a], texts[b])))
        said.setdefault(key, Preferred(prompt, texts[better], texts[worse]))
    return found


def _gain(person: object, one: Newcomer) -> tuple[float, float]:
    """Gain over a random pick and headroom, summed over the newcomer's pools, exact over all draws of N."""
    scores = person.score_many([prompt for prompt, _, _ in one.tests], [texts for _, texts, _ in one.tests])  # pyright: ignore
    gain = headroom = 0.0
    for (_, _, utility), found in zip(one.tests, scores, strict=True):
        size, n = np.array([len(utility)]), np.array([min(one.n, len(utility))])
        mine, best = (best_of_n(by[None], utility[None], size, n)[0, 0] for by in (found.mean, utility))
        gain += mine - utility.mean()
        headroom += best - utility.mean()
    return gain, headroom


SETTINGS = {"world": world, "polis": polis, "headlines": headlines}


def main() -> None:
    """Ask everybody by every rule and print the tables of docs/results/asking.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--rules", nargs="*", default=list(RULES))
    parser.add_argument("--out", type=Path, default=Path("runs/asking"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or SETTINGS:
        for kind in given.kinds:
            path = given.out / f"{name}-{kind}.json"
            if not path.is_file():
                path.write_text(json.dumps(done(name, kind, given.people, given.rules, given.out)))
            show(name, kind, json.loads(path.read_text()))


def done(name: str, kind: str, people: int, rules: Sequence[str], out: Path) -> dict[str, list[list[float]]]:
    """Ask the newcomers of one setting; by rule, a row a newcomer."""
    encoder = load_encoder(cache=out / "embeddings")
    # Persons score a request at a time: later pools are weighed where a prompt does not matter.
    rules = [rule for rule in rules if name != "headlines" or rule != "expected, later"]
    found: dict[str, list[list[float]]] = {rule: [] for rule in rules}
    for setting in SETTINGS[name](people):
        texts = {*setting.fit.texts, *(text for _, pool in setting.later for text in pool)}
        for one in setting.newcomers:
            texts |= {text for _, pool in one.questions for text in pool}
            texts |= {text for _, pool, _ in one.tests for text in pool}
        encoder.encode(sorted(texts))
        model = build(kind, encoder=encoder).fit(setting.fit, rng=0)
        with Progress(f"{name} {kind}", len(setting.newcomers) * len(rules)) as progress:
            for one in setting.newcomers:
                for rule in rules:
                    found[rule].append(ask(model, one, rule, setting.later).tolist())
                    progress.advance()
    return found


def show(name: str, kind: str, found: dict[str, list[list[float]]]) -> None:
    """Captured share by questions asked, and the paired differences from random pairs."""
    rows = {rule: np.array(values) for rule, values in found.items()}
    count = len(next(iter(rows.values())))
    draws = derive(15, name, kind).integers(0, count, (2000, count))

    def shares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = values[draws].sum(axis=1)
        return values[:, :-1].sum(axis=0) / values[:, -1].sum(), sums[:, :-1] / sums[:, -1:]

    print(f"### {name}, {kind}: {count} newcomers\n")
    base = shares(rows["random"])
    lines = []
    for rule, values in rows.items():
        share, drawn = shares(values)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        lines.append([rule, *(f"{s:.3f} ({a:.3f} to {b:.3f})" for s, a, b in zip(share, low, high, strict=True))])
    table(["captured after", *map(str, ASKED)], lines)
    lines = []
    for rule in list(rows)[1:]:
        share, drawn = shares(rows[rule])
        low, high = np.quantile(drawn - base[1], [0.025, 0.975], axis=0)
        difference = share - base[0]
        lines.append(
            [
                f"{rule} minus random",
                *(f"{s:+.3f} ({a:+.3f} to {b:+.3f})" for s, a, b in zip(difference, low, high, strict=True)),
            ][:1]
            + [f"{s:+.3f} ({a:+.3f} to {b:+.3f})" for s, a, b in zip(difference[1:], low[1:], high[1:], strict=True)]
        )
    table(["difference after", *map(str, ASKED[1:])], lines)


if __name__ == "__main__":
    main()
