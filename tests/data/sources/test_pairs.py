"""Pairs of answers are pools whose utility at N = 2 is the pairwise accuracy."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from bestfor.data.sources.pairs import load_pairs
from bestfor.errors import InputError
from bestfor.runs.config import parse_config
from bestfor.runs.run import run
from bestfor.runs.sources import read_ratings, with_split

HEAD = "user,query,chosen,rejected"


def save(folder, rows, head=HEAD):
    path = folder / "pairs.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def ratings_by(found):
    rows = zip(found.user, found.query, found.text, found.rating, strict=True)
    return {(found.users[u], found.queries[q], found.texts[t]): r for u, q, t, r in rows}


def test_an_answer_is_rated_by_its_comparisons(tmp_path):
    rows = ["u,p,a,b", "u,p,a,c", "u,p,c,a", "v,p,b,a", "u,q,a,b "]
    found = load_pairs(save(tmp_path, rows))
    assert ratings_by(found) == pytest.approx({
        ("u", "p", "a"): 2 / 3, ("u", "p", "b"): 0.0, ("u", "p", "c"): 0.5, ("v", "p", "b"): 1.0, ("v", "p", "a"): 0.0,
        ("u", "q", "a"): 1.0, ("u", "q", "b"): 0.0,
    })  # fmt: skip
    assert not any("repeat" in note for note in found.notes)


def test_ties_are_half_and_pairs_of_one_text_tell_nothing(tmp_path):
    rows = ["u,p,a,b,True", "u,q,a,b,false", "u,r,a, a,false"]
    found = load_pairs(save(tmp_path, rows, HEAD + ",both_good"), {"tie": "both_good"})
    assert ratings_by(found) == {("u", "p", "a"): 0.5, ("u", "p", "b"): 0.5, ("u", "q", "a"): 1.0, ("u", "q", "b"): 0.0}
    assert found.notes[0] == "1 pairs of one and the same text were left out"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",p,a,b", "row 1, column 'user': found an empty cell; expected a user's id"),
        ("u,,a,b", "row 1, column 'query': found an empty cell; expected a text"),
        ("u,p,a,", "row 1, column 'rejected': found an empty cell; expected a text"),
        ("u,p,a,a", "no pair of different answers"),
    ],
)
def test_cells_that_cannot_be_are_named(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        load_pairs(save(tmp_path, [row]))


def test_other_names_and_unknown_roles(tmp_path):
    path = save(tmp_path, ["u,p,a,b"], "annotator,prompt,winner,loser")
    columns = {"user": "annotator", "query": "prompt", "chosen": "winner", "rejected": "loser"}
    assert len(load_pairs(path, columns).rating) == 2
    with pytest.raises(InputError, match="no column 'user'"):
        load_pairs(path)
    with pytest.raises(InputError, match=r"unknown role 'choosen'; expected 'chosen' \(did you mean it"):
        load_pairs(path, {"choosen": "winner"})


def test_the_utility_at_two_is_the_pairwise_accuracy(tmp_path):
    # ann chose the long answer in three of four prompts, ben always
    def pair(user, i):
        long, short = f"{'x' * 9} {i}", f"x {i}"
        return f"{user},p{i},{long},{short}" if user == "ben" or i % 4 else f"{user},p{i},{short},{long}"

    path = save(tmp_path, [pair(user, i) for user in ("ann", "ben") for i in range(40)])
    raw = {"data": {"source": "pairs", "path": str(path)}, "split": {"min_fit": 2, "min_test": 2, "fold": 1}}
    config = parse_config(raw | {"reward": [{"kind": "length"}], "diagnosis": {"n": [1, 2]}}, "r.toml")
    assert with_split(config, read_ratings(config)).split.by == "query"
    found = run(config, tmp_path / "out")
    queries = pq.read_table(tmp_path / "out" / "queries.parquet").to_pylist()
    tested = [row for row in queries if row["split"] == "test"]
    right = {"ann": [], "ben": []}
    for row in tested:
        right[row["user_id"]].append(row["user_id"] == "ben" or int(row["input"][1:]) % 4 > 0)
    accuracy = np.mean([np.mean(values) for values in right.values()])
    utility = found.diagnosis.to_dict()["models"]["length"]["utility"]
    assert utility[0] == pytest.approx(0.5)
    assert pytest.approx(accuracy) in (utility[1], 1 - utility[1])
