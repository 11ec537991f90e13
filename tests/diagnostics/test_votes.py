"""Real votes: the crowd as a reward model, against figures computed elsewhere with other code."""

import csv
import hashlib

import numpy as np
import pytest

from bestfor.diagnostics import Reward, Settings, combine_folds, diagnose_arrays

pytestmark = pytest.mark.data


def votes(folder):
    """Votes (people x comments) on moderated comments, one's own left out; ids of people and comments."""
    with (folder / "comments.csv").open(newline="") as handle:
        comments = {row["comment-id"]: row for row in csv.DictReader(handle)}
    with (folder / "participants-votes.csv").open(newline="") as handle:
        header, *rows = list(csv.reader(handle))
    table = np.array([[float(cell) if cell else np.nan for cell in row[6:]] for row in rows])
    people = np.array([row[0] for row in rows])
    author = np.array([comments[one]["author-id"] for one in header[6:]])
    table[people[:, None] == author] = np.nan
    kept = np.array([comments[one]["moderated"] == "1" for one in header[6:]])
    return table[:, kept], people, np.array(header[6:])[kept]


def crowd_fold(table, people, comments, fold, n):
    """Diagnose the mean vote of the others on the very same comment."""
    test = np.array([int(hashlib.sha256(one.encode()).hexdigest(), 16) % 3 == fold for one in comments])
    known = np.isfinite(table)
    keep = (known[:, ~test].sum(axis=1) >= 20) & (known[:, test].sum(axis=1) >= 16)
    here = table[:, test]
    person, comment = np.nonzero(np.isfinite(here) & keep[:, None])
    vote = here[person, comment]
    total, count = np.nansum(here, axis=0)[comment], np.isfinite(here).sum(axis=0)[comment]
    crowd = (total - vote) / np.maximum(count - 1, 1)
    return diagnose_arrays(
        people[person],
        people[person],
        vote,
        {"crowd": Reward(crowd, "utility")},
        Settings(n=n),
        text=comments[test][comment],
    )


@pytest.mark.slow
def test_the_crowd_in_bowling_green(polis_dir):
    table = votes(polis_dir / "american-assembly.bowling-green")
    folds = [crowd_fold(*table, fold, [1, 8]) for fold in range(3)]
    assert folds[0].users == 1096
    captured = [round(float(fold.models["crowd"].captured.value[-1]), 3) for fold in folds]
    assert captured == [0.492, 0.444, 0.470]
    whole = combine_folds(folds).models["crowd"]
    assert whole.interval == "two-way users x texts"
    estimate = whole.captured.at(8)
    assert estimate.low < np.mean(captured) < estimate.high
    assert 0.03 < (estimate.high - estimate.low) / 2 < 0.08
    assert whole.quantities.alpha.value == 0
