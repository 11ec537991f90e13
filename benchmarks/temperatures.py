"""Which factor the predicted variances of personal models ask for: on leave-one-out labels, and on unseen texts.

python benchmarks/temperatures.py [--data ../shared/data/polis] [--source NAME]

Real votes, fold 0: models are fitted to two inner folds of the fit texts, the third is unseen; no test
text is looked at. A factor of 1 means that the standard deviations are right.
"tempered" is hierarchical with temper = true.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from bestfor.data.ratings import fold_of
from bestfor.encoders import load_encoder
from bestfor.rewards import KINDS, Hierarchical, RewardModel, Tastes
from bestfor.types import FloatArray
from real_people_curves import SOURCE, read


def main() -> None:
    """Fit both models and print their factors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/polis"))
    parser.add_argument("--cache", type=Path, default=Path("runs/real-people/embeddings"))
    parser.add_argument("--kinds", nargs="+", default=["hierarchical", "tempered", "tastes"])
    parser.add_argument("--source", default=SOURCE)
    given = parser.parse_args()
    votes, encoder = read(given.data / given.source), load_encoder(cache=given.cache)
    r = votes.ratings
    inner = np.array([fold_of("inner" + name) for name in r.text_ids])[r.text]
    fit = r.text_fold[r.text] != 0
    seen = np.bincount(r.user[fit & (inner != 0)], minlength=len(r.users)) > 0
    train, unseen = votes.rows(fit & (inner != 0)), votes.rows(fit & (inner == 0) & seen[r.user])
    encoder.encode([r.texts[code] for code in np.unique(train.text)])
    for kind in given.kinds:
        start = time.process_time()
        built = Hierarchical(encoder=encoder, temper=True) if kind == "tempered" else KINDS[kind](encoder=encoder)
        model = built.fit(train, rng=0)
        print(f"{kind}: {len(train)} labels fitted in {time.process_time() - start:.1f} s of the processor")
        estimate = model.predict(unseen)
        if estimate.std is not None:
            squares = ((unseen.utility - estimate.mean) / estimate.std) ** 2
            print(f"  T on {len(unseen)} labels of unseen texts: {squares.mean():.3f}")
        left = left_out(model)
        if left is not None:
            print(f"  T on leave-one-out labels: {left:.3f}")


def left_out(model: RewardModel) -> float | None:
    """Mean squared leave-one-out error over its predicted variance; None for kinds without."""
    if isinstance(model, Hierarchical) and model.left_out is not None:
        return float(np.average(model.left_out.ratio, weights=model.left_out.labels))
    if isinstance(model, Tastes):
        return float(np.concatenate(list(ratios(model))).mean())
    return None


def ratios(model: Tastes) -> list[FloatArray]:
    """Of every user, what texts are being taken as known."""
    people = [model._person(user, None) for user in range(len(model._users))]
    return [person.left_out**2 * np.diag(person.inverse) for person in people]


if __name__ == "__main__":
    main()
