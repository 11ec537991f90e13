"""Rows that repeat a candidate count once; draws that recur are draws."""

import csv
from collections import Counter
from itertools import product
from math import factorial
from pathlib import Path

import numpy as np
import pytest

from bestfor.diagnostics import Reward, Settings, diagnose_arrays
from bestfor.diagnostics.table.copies import distinct_candidates, merge_repeats
from bestfor.diagnostics.table.pools import pools_from_rows
from bestfor.diagnostics.table.rows import sort_rows
from bestfor.runs.table import LARGE, TableColumns, diagnose_table

CASE = Path(__file__).parents[3].parent / "shared/cases/verdicts/ill_11_duplicates.csv"


def drawn(queries=12, size=8, seed=0):
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(queries), size)
    utility = rng.standard_normal(len(query))
    return query // 2, query, utility, 0.4 * utility + rng.standard_normal(len(query))


def figures(diagnosis):
    """Everything but the notes, and the hash of the rows."""
    found = diagnosis.to_dict()
    for model in found["models"].values():
        model.pop("notes")
    found["signature"].pop("data")
    return found


@pytest.mark.parametrize("times", [2, 4])
def test_a_table_whose_rows_are_repeated_gives_the_figures_of_the_table(times):
    user, query, utility, reward = drawn()
    std = np.full(len(user), 1.0)
    order = np.random.default_rng(1).permutation(times * len(user))
    columns = [np.repeat(column, times)[order] for column in (user, query, utility, reward, std)]
    once = diagnose_arrays(user, query, utility, {"x": Reward(reward, "utility", std)})
    again = diagnose_arrays(*columns[:3], {"x": Reward(columns[3], "utility", columns[4])})
    assert figures(again) == figures(once)
    assert once.signature["data"] == again.signature["data"]
    (note,) = again.models["x"].notes
    assert note.startswith(f"{96 * (times - 1)} of {96 * times} candidates are copies")
    assert not once.models["x"].notes


def test_only_some_queries_are_repeated():
    user, query, utility, reward = drawn()
    times = np.where(user < 2, 3, 1)
    again = [np.repeat(column, times) for column in (user, query, utility, reward)]
    once = diagnose_arrays(user, query, utility, {"x": reward})
    assert figures(diagnose_arrays(*again[:3], {"x": again[3]})) == figures(once)


def test_numbers_of_candidates_stay_those_of_the_first_row():
    user, query, utility, reward = drawn(1)
    rows = sort_rows(
        np.repeat(user, 2), np.repeat(query, 2), np.repeat(utility, 2), {"x": np.repeat(reward, 2)}, candidate=range(16)
    )
    merged = merge_repeats(rows, renumber=False)
    assert merged.index.tolist() == list(range(0, 16, 2))
    assert (merged.merged, merged.not_finite) == (8, 0)


def test_ratings_of_the_same_texts_become_their_means():
    user, query, utility, reward = drawn(3)
    text = [f"t{place}" for place in range(len(user))] * 2
    second = utility + np.random.default_rng(3).standard_normal(len(user))
    both = [np.tile(column, 2) for column in (user, query, reward)]
    rated = diagnose_arrays(*both[:2], np.r_[utility, second], {"x": both[2]}, text=text)
    mean = diagnose_arrays(user, query, (utility + second) / 2, {"x": reward}, text=text[: len(user)])
    assert rated.oracle.value == pytest.approx(mean.oracle.value)
    assert rated.models["x"].gain.value == pytest.approx(mean.models["x"].gain.value)


@pytest.mark.parametrize(
    "columns",
    [
        (np.r_[np.arange(7.0), 0.0] / 3, np.r_[np.arange(7.0), 0.0]),  # one is drawn twice
        (np.repeat([0.1, 0.2, 0.3], 2), np.repeat([1.0, 2.0, 3.0], 2)),  # three pairs of few values
        (np.repeat(np.arange(8.0), 2), np.repeat(np.arange(8.0), 2)),  # marks
        (np.repeat(np.arange(8.0) / 3, 2), np.arange(16.0)),  # equal utilities alone
        (np.arange(16.0) / 3, np.repeat(np.arange(8.0), 2)),  # equal rewards alone
    ],
)
def test_what_is_no_repeated_row(columns):
    utility, reward = columns
    rows = sort_rows([0] * len(utility), [0] * len(utility), utility, {"x": reward})
    assert merge_repeats(rows, renumber=True) is rows


def test_even_counts_by_chance():
    """The bound on the chance of even counts is that of equal chances: brute force over all draws of four."""
    d, k = 4, 2
    even = sum(set(Counter(draw).values()) == {k} and len(set(draw)) == d for draw in product(range(d), repeat=d * k))
    assert even / d ** (d * k) == pytest.approx(factorial(d * k) / (factorial(k) ** d * d ** (d * k)))


def test_distinct_candidates():
    utility = np.array([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 1.0, 1.0, 2.0, 3.0, 4.0, 0.5])
    pools = pools_from_rows([0] * 12, [0] * 6 + [1] * 6, utility, {"x": utility})
    assert distinct_candidates(pools).tolist() == [4, 6]  # the second holds marks
    texts = [*"aabbcc", *"abcdef"]
    pools = pools_from_rows([0] * 12, [0] * 6 + [1] * 6, utility, {"x": np.arange(12.0)}, text=texts)
    assert distinct_candidates(pools).tolist() == [3, 6]


def test_copies_of_draws_stay_in_the_curve_and_count_once_in_the_noise():
    user, query, utility, reward = drawn(60, 30)
    source = np.where(np.arange(1800) % 30 < 8, np.arange(1800) // 30 * 30, np.arange(1800))
    found = diagnose_arrays(user, query, utility[source], {"x": reward[source]})
    assert found.candidates == 1800
    assert found.models["x"].notes[0].startswith("420 of 1,800 candidates are copies")
    alone = diagnose_arrays(user, query, utility, {"x": reward})
    assert found.models["x"].quantities.beta_by_chance > alone.models["x"].quantities.beta_by_chance


@pytest.mark.slow
def test_blocks_give_the_same(tmp_path):
    user, query, utility, reward = drawn((LARGE + 8) // 16 + 2, 8)
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["user", "query", "utility", "reward", "std"])
        out.writerows(
            [row for row in zip(user, query, utility, reward, np.ones(len(user)), strict=True) for _ in range(2)]
        )
    columns = TableColumns("user", "query", ("reward",), "utility", stds={"reward": "std"})
    streamed = diagnose_table(path, columns, Settings(), scale="utility")
    once = diagnose_arrays(
        user.astype(str), query.astype(str), utility, {"reward": Reward(reward, "utility", np.ones(len(user)))}
    )
    assert streamed.candidates == len(user)
    assert streamed.models["reward"].gain.value == pytest.approx(once.models["reward"].gain.value, rel=1e-12)
    assert streamed.models["reward"].calibration.candidates == len(user)
    assert streamed.models["reward"].notes[0].startswith(f"{len(user):,} of {2 * len(user):,} candidates are copies")


@pytest.mark.skipif(not CASE.exists(), reason="the cases lie beside the project, not in it")
def test_the_case_of_copies_gives_the_figures_of_each_candidate_once():
    with CASE.open() as file:
        rows = [(r["user"], r["query"], float(r["reward"]), float(r["utility"])) for r in csv.DictReader(file)]
    found, once = (
        diagnose_arrays(*zip(*[(r[0], r[1], r[3]) for r in part], strict=True), {"reward": [r[2] for r in part]})
        for part in (rows, list(dict.fromkeys(rows)))
    )
    assert figures(found) == figures(once)
