"""Logs of shown answers in tables."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bestfor.cli.app import app
from bestfor.errors import InputError
from bestfor.runs.logs import LogColumns, diagnose_log_table


def log(queries=120, size=4, *, seed=0):
    draw = np.random.default_rng(seed)
    rows = []
    for q in range(queries):
        reward = draw.standard_normal(size)
        utility = (draw.random(size) < 1 / (1 + np.exp(-reward))).astype(float)
        shown = draw.integers(size)
        rows += [
            {
                "user": f"u{q // 4}",
                "query": f"q{q}",
                "reward": reward[j],
                "noise": draw.standard_normal(),
                "chance": 1 / size,
                "shown": int(j == shown),
                "utility": utility[j] if j == shown else None,
            }
            for j in range(size)
        ]
    return pd.DataFrame(rows)


class TestTable:
    def test_reads_a_log_in_any_order_of_rows(self, tmp_path):
        frame = log()
        frame.to_csv(tmp_path / "log.csv", index=False)
        one = diagnose_log_table(frame)
        mixed = frame.sample(frac=1, random_state=1)
        two = diagnose_log_table(mixed)
        three = diagnose_log_table(tmp_path / "log.csv")
        value = one.models["reward"].gain["ips"].value
        assert value == pytest.approx(two.models["reward"].gain["ips"].value)
        assert value == pytest.approx(three.models["reward"].gain["ips"].value)
        assert (one.pools, one.users, three.name) == (120, 30, "log")
        assert value[-1] > 0.05

    def test_compares_models(self):
        found = diagnose_log_table(log(400), LogColumns(rewards=("noise", "reward")))
        (pair,) = found.comparisons
        assert (pair.model, pair.against, pair.n) == ("reward", "noise", 4)
        assert pair.difference.low > 0
        assert found.needed["reward"] > 0

    def test_says_what_is_never_shown(self):
        frame = log()
        top = frame.groupby("query")["reward"].rank() == 4
        frame.loc[top, "shown"] = 0
        frame = frame[frame.groupby("query")["shown"].transform("sum") == 1].copy()
        frame["chance"] = np.where(frame.groupby("query")["reward"].rank() == 4, 0.0, 1 / 3)
        found = diagnose_log_table(frame)
        assert any("never shows (chance 0, or next to it)" in note for note in found.notes)
        assert np.isnan(found.models["reward"].gain["dr"].value[-1])
        json.dumps(found.to_dict(), allow_nan=False)

    def test_refuses_silence(self):
        frame = log()
        frame.loc[frame["query"].isin([f"q{k}" for k in range(30)]), "utility"] = None
        with pytest.raises(InputError, match=r"outcomes for 90 of 120 shown answers \(75%\)"):
            diagnose_log_table(frame)

    @pytest.mark.parametrize(
        ("column", "value", "message"),
        [
            ("shown", 0, "0 shown answers for query 'q0' of user 'u0'"),
            ("shown", 2, "row 1, column 'shown': found 2"),
            ("chance", None, "row 1, column 'chance': found no number"),
            ("chance", 0.9, "found chances that sum to"),
            ("reward", None, "row 1, column 'reward'"),
        ],
    )
    def test_names_the_cell(self, column, value, message):
        frame = log()
        frame.loc[frame["query"] == "q0", column] = value
        with pytest.raises(InputError, match=message):
            diagnose_log_table(frame)


class TestCommand:
    def test_prints_a_curve_and_json(self, tmp_path):
        log().to_csv(tmp_path / "log.csv", index=False)
        given = ["diagnose", str(tmp_path / "log.csv"), "--shown", "shown", "--chance", "chance"]
        told = CliRunner().invoke(app, given)
        assert told.exit_code == 0
        assert "120 shown answers of 30 users" in told.stdout
        assert "not known from logs of one answer a pool" in told.stdout
        told = CliRunner().invoke(app, [*given, "--json"])
        assert json.loads(told.stdout)["models"]["reward"]["n"] == [1, 2, 4]

    def test_refuses_what_a_log_cannot_have(self, tmp_path):
        log().to_csv(tmp_path / "log.csv", index=False)
        given = ["diagnose", str(tmp_path / "log.csv"), "--shown", "shown", "--std", "reward"]
        told = CliRunner().invoke(app, given)
        assert isinstance(told.exception, InputError) or told.exit_code == 2
