"""Pairs that a reward model has scored, in the shapes of reward benchmarks."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bestfor.cli.app import app
from bestfor.errors import InputError
from bestfor.runs.scored_pairs import PairColumns, read_scored_pairs

ROWS = [
    {"subset": "a", "scores_chosen": 2.0, "scores_rejected": 1.0},
    {"subset": "b", "scores_chosen": [0.5], "scores_rejected": [1.0, 0.25, -1]},
    {"subset": "a", "scores_chosen": "[[3.5]]", "scores_rejected": "1e-1"},
]
COLUMNS = PairColumns.of("subset", ["scores_chosen"], ["scores_rejected"])


def lines(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_is_a_pool(tmp_path):
    found = read_scored_pairs(lines(tmp_path, ROWS), COLUMNS)
    assert found.to_pydict() == {
        "user": list("aabbbbaa"),
        "query": list("11222233"),
        "utility": [1, 0, 1, 0, 0, 0, 1, 0],
        "scores": [2, 1, 0.5, 1, 0.25, -1, 3.5, 0.1],
    }


def test_formats_say_the_same(tmp_path):
    rows = [{"user": "u", "good": 1.5, "bad": -1.0}, {"user": "v", "good": 2.0, "bad": 3.0}]
    columns = PairColumns.of("user", ["good"], ["bad"])
    (tmp_path / "t.csv").write_text("user,good,bad\nu,1.5,-1.0\nv,2,3\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text(json.dumps(rows))
    tables = [read_scored_pairs(tmp_path / f"t.{kind}", columns) for kind in ("csv", "parquet", "json")]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores_chosen": None},
            r"row 4, field 'scores_chosen': found 'None'; expected a number, or a list of numbers",
        ),
        ({"scores_chosen": []}, r"row 4, field 'scores_chosen'"),
        ({"scores_rejected": "soon"}, r"row 4, field 'scores_rejected': found 'soon'"),
        ({"scores_rejected": [float("nan")]}, r"row 4, field 'scores_rejected'"),
        ({"subset": "n/a"}, r"row 4: found 'n/a'; expected whose pair it is"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_scored_pairs(lines(tmp_path, [*ROWS, ROWS[0] | change]), COLUMNS)


def test_columns_come_in_pairs_and_name_their_models():
    found = PairColumns.of("user", ["chosen", "own_chosen_score"], ["rejected", "own_rejected_score"])
    assert list(found.rewards) == ["reward", "own_score"]
    assert list(PairColumns.of("u", ["a_chosen", "chosen_a"], ["x", "y"]).rewards) == ["a_chosen", "chosen_a"]
    for given in (([], []), (["a"], []), (["a"], ["b", "c"])):
        with pytest.raises(InputError, match="both, as often"):
            PairColumns.of("user", *given)


def test_the_share_of_pairs_told_right_is_that_of_a_loop(tmp_path):
    draw = np.random.default_rng(0)
    rows = [
        {"user": f"u{k % 7}", "chosen": draw.normal(0.5), "rejected": [float(draw.normal()) for _ in range(3)]}
        for k in range(70)
    ]
    right = {}
    for row in rows:
        right.setdefault(row["user"], []).extend(row["chosen"] > one for one in row["rejected"])
    path = lines(tmp_path, rows)
    call = ["diagnose", str(path), "--chosen", "chosen", "--rejected", "rejected"]
    told = json.loads(CliRunner().invoke(app, [*call, "--json"]).stdout)["models"]["reward"]
    assert told["pair_accuracy"] == pytest.approx(np.mean([np.mean(one) for one in right.values()]))
    best = np.mean([np.mean([row["chosen"] > max(row["rejected"]) for row in rows if row["user"] == u]) for u in right])
    assert told["utility"][told["n"].index(4)] == pytest.approx(best)
    refused = CliRunner().invoke(app, [*call, "--reward", "x"])
    assert refused.exit_code != 0
