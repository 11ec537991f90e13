"""Models fitted again with few labels of a fold's users."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from bestfor.data.ratings import fold_of
from bestfor.errors import InputError
from bestfor.report.held_out import print_held_out, read_held_out
from bestfor.runs.config import parse_config
from bestfor.runs.run import run
from bestfor.runs.shots import unit_of, with_shots
from bestfor.runs.stages import folds


def pairs(folder, users=12, prompts=12):
    """Half of the people choose the longer answer and half the shorter one."""
    draw = np.random.default_rng(0)
    rows = ["user,query,chosen,rejected"]
    for user in range(users):
        for k in range(prompts):
            short, long = (f"{'word ' * int(words)}{user} {k}" for words in (draw.integers(1, 4), draw.integers(6, 12)))
            best = (long, short) if user % 2 else (short, long)
            rows.append(f"u{user},ask {user} {k},{best[0]},{best[1]}")
    path = folder / "pairs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def config(path, *kinds, shots=(), split=None, source="pairs"):
    kinds = kinds or ({"kind": "length"}, {"kind": "ridge", "components": 0})
    table = {"data": {"source": source, "path": str(path)}, "split": {"min_fit": 2, "min_test": 2, **(split or {})}}
    return parse_config(table | {"reward": list(kinds), "diagnosis": {"shots": list(shots)}}, "run.toml")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (stages,) = folds(config(pairs(folder)), folder / "out", lambda line: None)
    return stages.parts()


class TestWithShots:
    def test_a_fold_s_users_give_so_many_prompts_and_the_others_all(self, parts):
        whole = parts.fit
        for shots in (0, 1, 3):
            cut = with_shots(parts, 0, shots, unit="prompts", seed=0)
            given = {
                user: len(np.unique(cut.fit.query[cut.fit.user == code])) for code, user in enumerate(cut.fit.users)
            }
            for code, user in enumerate(whole.users):
                all_of = len(np.unique(whole.query[whole.user == code]))
                assert given.get(user, 0) == (min(shots, all_of) if fold_of(user) == 0 else all_of)
            assert {fold_of(user) for user in cut.test.users} == {0}
            assert np.isnan(cut.test.utility).all()

    def test_few_shots_are_among_more_and_seeds_differ(self, parts):
        cuts = [set(with_shots(parts, 0, shots, unit="prompts", seed=0).fit.queries) for shots in (1, 2, 4)]
        assert cuts[0] < cuts[1] < cuts[2]
        assert set(with_shots(parts, 0, 1, unit="prompts", seed=1).fit.queries) != cuts[0]

    def test_unseen_users_are_no_users_of_the_fit(self, parts):
        cut = with_shots(parts, 0, 0, unit="prompts", seed=0)
        assert not set(cut.fit.users) & set(cut.test.users)

    def test_rows_say_what_they_said(self, parts):
        cut = with_shots(parts, 0, None, unit="prompts", seed=0)

        def said(part):
            return {
                (part.users[u], part.queries[q], part.inputs[q], part.texts[t])
                for u, q, t in zip(part.user, part.query, part.text, strict=True)
            }

        assert said(cut.fit) == said(parts.fit)
        assert said(cut.test) < said(parts.test)
        rows = dict(zip(cut.test_text_ids.to_pylist(), (cut.test.texts[t] for t in cut.test.text), strict=True))
        known = dict(zip(parts.test_text_ids.to_pylist(), (parts.test.texts[t] for t in parts.test.text), strict=True))
        assert rows.items() <= known.items()

    def test_labels_are_shots_where_people_rate_bare_texts(self, tmp_path):
        rows = ["user,text,rating"] + [f"u{u},text {k},{(u * k) % 3}" for u in range(9) for k in range(30)]
        (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
        (stages,) = folds(config(tmp_path / "t.csv", source="table"), tmp_path / "out", lambda line: None)
        assert unit_of(stages.parts()) == "labels"
        cut = with_shots(stages.parts(), 0, 4, unit="labels", seed=0)
        counts = {user: int((cut.fit.user == code).sum()) for code, user in enumerate(cut.fit.users)}
        assert {count for user, count in counts.items() if fold_of(user) == 0} == {4}


@pytest.mark.slow
def test_a_run_draws_the_curve_and_goes_on_where_it_was(tmp_path):
    lines = []
    given = config(pairs(tmp_path), shots=(0, 2, 6), split={"fold": "all"})
    page = run(given, tmp_path / "out", tell=lines.append).report.read_text()
    assert sum(line.startswith("shots ") for line in lines) == 2 * 3 * 3
    found = json.loads((tmp_path / "out" / "held_out.json").read_text())["after_shots"]
    assert found["unit"] == "prompts"
    ridge = found["models"]["ridge"]
    assert [point["shots"] for point in ridge] == [0, 2, 6, None]
    assert {point["users"] for point in ridge} == {12}
    assert len({point["answers"] for point in ridge}) == 1
    assert ridge[2]["accuracy"]["value"] > 0.9 > 0.7 > ridge[0]["accuracy"]["value"]
    assert ridge[2]["gained"]["accuracy"]["low"] > 0
    assert {point["gained"]["accuracy"]["value"] for point in found["models"]["length"]} == {0}
    assert "Fitted again with so many shots of each user" in page
    assert "pairs told right by prompts of each user" in page
    console = Console(width=140, record=True, file=io.StringIO())
    print_held_out(read_held_out(tmp_path / "out"), console)
    assert "gained" in console.export_text()
    again = []
    run(given, tmp_path / "out", tell=again.append)
    assert all(line.endswith("already there") for line in again if line.startswith("shots "))
    assert run(given, tmp_path / "out").report.read_text() == page


def test_rankings_have_it_too_and_runs_without_shots_have_their_bytes(tmp_path):
    rows = ["user,query,text,rank"]
    rows += [f"u{u},q{k},{'w ' * (place + 1)}{u} {k},{place}" for u in range(6) for k in range(8) for place in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    table = {
        "data": {"source": "table", "path": str(tmp_path / "t.csv"), "columns": {"rank": "rank"}},
        "split": {"by": "query", "min_fit": 1, "min_test": 4},
        "reward": [{"kind": "length"}],
    }
    run(parse_config(table, "run.toml"), tmp_path / "plain")
    assert not (tmp_path / "plain" / "held_out.json").exists()
    assert "shots" not in (tmp_path / "plain" / "run.toml").read_text()
    run(parse_config(table | {"diagnosis": {"shots": [1, 0]}}, "run.toml"), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "held_out.json").read_text())["after_shots"]["models"]["length"]
    assert [point["shots"] for point in found] == [0, 1, None]
    assert found[0]["accuracy"]["value"] == 0
    assert "shots = [" in (tmp_path / "out" / "run.toml").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": {"by": "user"}}, r"\[split\] by: found 'user' with shots; expected 'query', 'text' or 'time'"),
        ({"shots": (-1,)}, "shots"),
    ],
)
def test_shots_that_cannot_be_given_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        run(config(pairs(tmp_path), **({"shots": (0, 1)} | change)), tmp_path / "out")
