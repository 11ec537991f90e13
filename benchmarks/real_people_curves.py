"""What labels and texts buy on real votes: python benchmarks/real_people_curves.py [labels | texts] [--draw FOLDER].

labels: a third of the voters of Bowling Green come new, with 0 to 50 votes each, to models fitted on everybody else;
    three folds, unseen statements.
texts: how much the number of rated statements limits every model, and what knowing the crowd's mean vote would
    reach; inner folds of fold 0's fit statements, no test statement is looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bestfor.data.candidates import Candidates
from bestfor.data.ratings import Ratings, fold_of
from bestfor.data.sources.polis import load_polis
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.encoders import Encoder, load_encoder
from bestfor.report.charts.plots import COLORS, frame
from bestfor.rewards import KINDS
from bestfor.rewards.model import RewardModel
from bestfor.types import BoolArray, FloatArray

SOURCE = "american-assembly.bowling-green"
LABELS = (0, 5, 10, 20, 50)
SHARES = (0.25, 0.5, 0.75, 1.0)
MIN_FIT, MIN_TEST, SIZE = 50, 16, 8
ABSORBING = ("hierarchical", "tastes")
REFITTED = ("ridge", "gaussian")
SHARING = ("pooled", "hierarchical", "tastes")


@dataclass(frozen=True)
class Votes:
    """Ratings, and who of the voters come new."""

    ratings: Ratings
    newcomer: BoolArray
    rank: np.ndarray

    def rows(self, mask: BoolArray) -> Candidates:
        """The rated rows of a mask as examples; a user's votes are one query."""
        r = self.ratings
        user, text, count = r.user[mask], r.text[mask], int(mask.sum())
        none = np.full(count, np.nan)
        return Candidates(
            r.users, r.users, ("",) * len(r.users), r.texts, user, user, text, text, r.rating[mask].astype(float), none
        )


def main() -> None:
    """Measure one of the curves, print it as Markdown and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curve", choices=["labels", "texts"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/polis"))
    parser.add_argument("--cache", type=Path, default=Path("runs/real-people/embeddings"))
    parser.add_argument("--draw", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    votes = read(given.data / SOURCE)
    encoder = load_encoder(cache=given.cache)
    measured = labels_curve(votes, encoder) if given.curve == "labels" else texts_curve(votes, encoder)
    print(json.dumps(measured, indent=1))
    draw(measured, given.curve, given.draw / f"{given.curve}.svg")


def read(path: Path) -> Votes:
    """Votes with an order of each voter's own that depends on ids alone."""
    ratings = load_polis(path)
    newcomer = np.array([fold_of("newcomer" + user) == 0 for user in ratings.users])
    order = np.array([fold_of(f"a{name}") + 3 * fold_of(f"b{name}") for name in ratings.text_ids])
    keys = np.lexsort((ratings.text, order[ratings.text], ratings.user))
    rank = np.empty(len(keys), dtype=np.int64)
    starts = np.searchsorted(ratings.user[keys], np.arange(len(ratings.users)))
    rank[keys] = np.arange(len(keys)) - starts[ratings.user[keys]]
    return Votes(ratings, newcomer, rank)


def labels_curve(votes: Votes, encoder: Encoder) -> dict[str, dict[str, list[float]]]:
    """Captured share of the newcomers by number of their votes, mean of three folds."""
    found: dict[tuple[str, int], list[Diagnosis]] = {}
    r = votes.ratings
    for fold in (0, 1, 2):
        test = r.text_fold[r.text] == fold
        fit = ~test
        enough = count(r, fit) >= MIN_FIT
        asked = test & (votes.newcomer & enough & (count(r, test) >= MIN_TEST))[r.user]
        old = fit & ~votes.newcomer[r.user]
        first = ranked(votes, fit)
        for kind, have, model in fitted(votes, encoder, old, first):
            found.setdefault((kind, have), []).append(diagnosed(votes, asked, predicted(model, votes, asked)))
            print(f"  fold {fold}: {kind} with {have} labels", flush=True)
    return {
        kind: dict(zip(("labels", "captured", "low", "high"), summary(found, kind), strict=True))
        for kind in names(found)
    }


def fitted(votes: Votes, encoder: Encoder, old: BoolArray, first: np.ndarray) -> Iterator[tuple[str, int, RewardModel]]:
    """Every kind at every number of labels; labels are nested."""
    new = votes.newcomer[votes.ratings.user]
    for kind in ("pooled", *ABSORBING):
        model = KINDS[kind](encoder=encoder).fit(votes.rows(old), rng=0)
        for low, high in zip((0, *LABELS[:-1]), LABELS, strict=True):
            if kind == "pooled" and high:
                continue
            if high:
                model.update(votes.rows(new & (first >= low) & (first < high)))
            yield kind, high, model
    for kind in REFITTED:
        for have in LABELS:
            rows = old | (new & (first >= 0) & (first < have))
            yield kind, have, KINDS[kind](encoder=encoder).fit(votes.rows(rows), rng=0)


def texts_curve(votes: Votes, encoder: Encoder) -> dict[str, dict[str, list[float]]]:
    """Captured share by number of rated statements, mean of three inner folds, and what bounds it."""
    found: dict[tuple[str, int], list[Diagnosis]] = {}
    r = votes.ratings
    inner = np.array([fold_of("inner" + name) for name in r.text_ids])
    thin = np.array(
        [int(fold_of("p" + name)) * 9 + fold_of("q" + name) * 3 + fold_of("r" + name) for name in r.text_ids]
    )
    outer = r.text_fold != 0
    for fold in (0, 1, 2):
        test = (outer & (inner == fold))[r.text]
        texts = np.flatnonzero(outer & (inner != fold))
        order = texts[np.argsort(thin[texts], kind="stable")]
        every = (outer & (inner != fold))[r.text]
        asked = test & ((count(r, every) >= 20) & (count(r, test) >= MIN_TEST))[r.user]
        for share in SHARES:
            kept = np.isin(r.text, order[: round(share * len(order))])
            models = {kind: KINDS[kind](encoder=encoder).fit(votes.rows(kept), rng=0) for kind in SHARING}
            rewards = {kind: predicted(model, votes, asked) for kind, model in models.items()}
            if share == 1:
                rewards |= bounds(votes, models["tastes"], asked, rewards["tastes"])
            for kind, reward in rewards.items():
                found.setdefault((kind, round(share * 100)), []).append(diagnosed(votes, asked, reward))
            print(f"  inner fold {fold}: {share:.0%} of {len(order)} statements", flush=True)
    return {
        kind: dict(zip(("share", "captured", "low", "high"), summary(found, kind), strict=True))
        for kind in names(found)
    }


def bounds(votes: Votes, model: RewardModel, asked: BoolArray, whole: FloatArray) -> dict[str, FloatArray]:
    """The mean vote of all others on the very statement, alone and in the place of what tastes thinks of everybody."""
    r = votes.ratings
    total, heard = np.bincount(r.text, r.rating, len(r.texts)), np.bincount(r.text, minlength=len(r.texts))
    others = (total[r.text] - r.rating) / np.maximum(heard[r.text] - 1, 1)
    rows = votes.rows(asked)
    nobody = Candidates(**{**vars(rows), "users": tuple(f"stranger {name}" for name in rows.users)})
    everybody = model.predict(nobody).mean
    return {"crowd": others[asked], "crowd + own tastes": others[asked] + whole - everybody}


def predicted(model: RewardModel, votes: Votes, asked: BoolArray) -> FloatArray:
    """Rewards of the asked rows."""
    return model.predict(votes.rows(asked)).mean


def diagnosed(votes: Votes, asked: BoolArray, reward: FloatArray) -> Diagnosis:
    """The diagnosis of one vector of rewards."""
    r = votes.ratings
    user = r.user[asked]
    return diagnose_arrays(
        user, user, r.rating[asked], {"model": Reward(reward, "utility")}, Settings(n=[1, SIZE]), text=r.text[asked]
    )


def summary(found: dict[tuple[str, int], list[Diagnosis]], kind: str) -> tuple[list[float], ...]:
    """x, captured, low and high of one kind, each the mean of the folds."""
    points = sorted(x for name, x in found if name == kind)
    told = [combine_folds(found[kind, x]).to_dict()["models"]["model"] for x in points]
    return (
        [float(x) for x in points],
        *([model[key][-1] for model in told] for key in ("captured", "captured_low", "captured_high")),
    )


def names(found: dict[tuple[str, int], list[Diagnosis]]) -> list[str]:
    """Kinds in the order in which they were measured."""
    return list(dict.fromkeys(kind for kind, _ in found))


def count(ratings: Ratings, mask: BoolArray) -> np.ndarray:
    """Rows of each user within a mask."""
    return np.bincount(ratings.user[mask], minlength=len(ratings.users))


def ranked(votes: Votes, mask: BoolArray) -> np.ndarray:
    """Place of each row among its user's rows of a mask, -1 outside of it."""
    r = votes.ratings
    place = np.full(len(mask), -1)
    rows = np.flatnonzero(mask)
    rows = rows[np.lexsort((votes.rank[rows], r.user[rows]))]
    starts = np.searchsorted(r.user[rows], np.arange(len(r.users)))
    place[rows] = np.arange(len(rows)) - starts[r.user[rows]]
    return place


def draw(measured: dict[str, dict[str, list[float]]], curve: str, path: Path) -> None:
    """One line a model, with its interval."""
    with rc_context({"svg.hashsalt": "bestfor", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        frame(axes)
        for color, (kind, line) in zip(COLORS * 2, measured.items(), strict=False):
            x, y = (line[key] for key in ("labels" if curve == "labels" else "share", "captured"))
            if len(x) == 1:
                axes.axhline(y[0], color=color, linestyle="--", linewidth=1, label=kind)
                continue
            axes.plot(x, y, color=color, marker="o", markersize=4, label=kind)
            if curve == "labels":
                axes.fill_between(x, line["low"], line["high"], color=color, alpha=0.12, linewidth=0)
        told = "votes of the newcomer" if curve == "labels" else "share of the rated statements known, %"
        axes.set(xlabel=told, ylabel=f"captured, N = {SIZE}", ylim=(0, None))
        axes.legend(frameon=False, ncols=2, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
