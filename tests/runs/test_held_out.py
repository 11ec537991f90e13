"""Runs on logs with one answer a prompt, and on pairs."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from bestfor.errors import InputError
from bestfor.report.held_out import print_held_out, read_held_out
from bestfor.runs.config import parse_config
from bestfor.runs.folder import write_report
from bestfor.runs.opened import load_run
from bestfor.runs.run import run


def log(folder, users=6, prompts=30):
    draw = np.random.default_rng(0)
    rows = ["user,prompt,answer,thumb"]
    for user in range(users):
        for k in range(prompts):
            words = int(draw.integers(1, 9))
            liked = draw.random() < (words / 9 if user % 2 else 1 - words / 9)
            rows.append(f"u{user},ask {user} {k},{'word ' * words}{user} {k},{liked}")
    path = folder / "log.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def config(path, **split):
    columns = {"query": "prompt", "text": "answer", "rating": "thumb"}
    data = {"source": "table", "path": str(path), "columns": columns}
    kinds = [{"kind": "length"}, {"kind": "pooled", "components": 0}]
    return parse_config({"data": data, "split": {"min_fit": 5, **split}, "reward": kinds}, "run.toml")


def test_the_error_names_what_can_be_had(tmp_path):
    with pytest.raises(InputError, match=r"min_test = 1 fits on such logs and gives held-out AUC, log-loss and calib"):
        run(config(log(tmp_path)), tmp_path / "out")


def test_one_answer_a_prompt(tmp_path):
    result = run(config(log(tmp_path), min_test=1), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "held_out.json").read_text())
    assert found["outcomes"] == [0.0, 1.0]
    length, pooled = found["models"]["length"], found["models"]["pooled"]
    assert length["users"] == pooled["users"] == 6
    assert length["log_loss"]["value"] is None
    assert 0 < pooled["log_loss"]["value"] < 1.5
    assert pooled["auc"]["low"] < pooled["auc"]["value"] < pooled["auc"]["high"]
    assert pooled["accuracy"]["value"] is None
    page = result.report.read_text()
    assert '<h2 id="held-out">Held-out answers</h2>' in page
    assert '<a href="#held-out">Held-out answers</a>' in page
    assert write_report(tmp_path / "out").read_text() == page


def test_all_folds_are_one_table(tmp_path):
    run(config(log(tmp_path, prompts=20), min_test=1, fold="all"), tmp_path / "out")
    section = read_held_out(tmp_path / "out")
    assert [row.answers for row in section.rows] == [120, 120]
    assert section.by_shots == () or {row.model for row in section.by_shots} == {"length", "pooled"}


def test_pairs_of_unseen_users(tmp_path):
    rows = ["user,query,chosen,rejected"]
    rows += [f"u{u},ask {u} {k},{'word ' * (1 + k % 5)}{u} {k},w {u} {k}" for u in range(12) for k in range(8)]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    data = {"source": "pairs", "path": str(tmp_path / "pairs.csv")}
    split = {"by": "user", "min_fit": 0, "min_test": 2}
    run(parse_config({"data": data, "split": split, "reward": [{"kind": "length"}]}, "run.toml"), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "held_out.json").read_text())["models"]["length"]
    assert found["accuracy"]["value"] > 0.7
    assert [(one["from"], one["to"]) for one in found["by_shots"]] == [(0, 0)]


def test_pools_of_many_answers_have_none(tmp_path):
    rows = ["user,text,rating"] + [f"u{u},text {k},{(u + k) % 3}" for u in range(4) for k in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    data = {"source": "table", "path": str(tmp_path / "t.csv")}
    out = tmp_path / "out"
    out.mkdir()
    split = {"min_fit": 5, "min_test": 5}
    run(parse_config({"data": data, "split": split, "reward": [{"kind": "length"}]}, "run.toml"), out)
    assert not (out / "held_out.json").exists()
    assert "held-out" not in (out / "report.html").read_text()
    assert read_held_out(out) is None
    (out / "held_out.json").write_text("{")
    assert read_held_out(out) is None


def test_shots_are_a_table_of_their_own(tmp_path):
    rows = ["user,query,chosen,rejected"]
    rows += [f"u{u},ask {u} {k},{'word ' * (1 + k % 5)}{u} {k},w {u} {k}" for u in range(9) for k in range(4 + 3 * u)]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    data = {"source": "pairs", "path": str(tmp_path / "pairs.csv")}
    split = {"min_fit": 1, "min_test": 2}
    config = parse_config({"data": data, "split": split, "reward": [{"kind": "length"}]}, "run.toml")
    page = run(config, tmp_path / "out").report.read_text()
    console = Console(width=100, record=True, file=io.StringIO())
    print_held_out(read_held_out(tmp_path / "out"), console)
    told = console.export_text()
    assert told.count("ECE") == page.count(">ECE<") == 1
    assert "5 to 19" in told
    assert "5 to 19" in page


@pytest.mark.slow
def test_profiles_are_histories_of_unseen_users(tmp_path):
    """Whose profile speaks of boats prefers answers about boats: nearness to it tells pairs right for new people."""
    words = {"boats": "sail harbour boat mast tide", "bread": "dough oven bread flour yeast"}
    rows = []
    for u in range(80):
        mine, other = ("boats", "bread") if u % 2 else ("bread", "boats")
        profile = [{"id": f"{u}-{k}", "text": f"how does {words[mine]} go {k}"} for k in range(3)]
        pair = {"chosen": f"{words[mine]} {u}", "rejected": f"{words[other]} {u}"}
        rows.append({"id": str(u), "question": f"What about {u}?", **pair, "profile": profile})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"source": "pairs", "path": str(path)}
    split = {"by": "user", "min_fit": 0, "min_test": 2, "fold": "all"}
    kinds = [{"kind": "similarity"}, {"kind": "length"}]
    run(parse_config({"data": data, "split": split, "reward": kinds}, "run.toml"), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "held_out.json").read_text())["models"]["similarity"]
    assert found["accuracy"]["value"] > 0.9
    assert found["users"] >= 5
    opened = load_run(tmp_path / "out").candidates("test", fold=0)
    assert opened.history.before(opened.users[0], opened.queries[0])[0].startswith("how does")
