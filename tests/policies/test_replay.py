import json

import pyarrow.parquet as pq
import pytest

from bestfor.data.ratings import text_id
from bestfor.data.schema import CANDIDATES
from bestfor.errors import InputError
from bestfor.policies.base import Policy, Prompt
from bestfor.policies.replay import ReplayPolicy, replay
from bestfor.pool import CandidatePool

ROWS = [("q2", "zwei"), ("q1", "eins"), ("q2", "two, or 2"), ("q1", "e\u0301in")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_format_gives_the_same_candidates(tmp_path, kind):
    path = tmp_path / f"texts.{kind}"
    if kind == "csv":
        path.write_text("query_id,text\n" + "".join(f'{query},"{text}"\n' for query, text in ROWS), encoding="utf-8")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"query_id": q, "text": t}) + "\n" for q, t in ROWS), encoding="utf-8")
    else:
        import pyarrow as pa

        pq.write_table(pa.table({"query_id": [q for q, _ in ROWS], "text": [t for _, t in ROWS]}), path)
    table = replay(path, policy="elsewhere")
    assert table.schema == CANDIDATES
    assert table["query_id"].to_pylist() == ["q1", "q1", "q2", "q2"]
    assert table["candidate"].to_pylist() == [0, 1, 0, 1]
    assert table["text"].to_pylist() == ["eins", "e\u0301in", "zwei", "two, or 2"]
    assert table["text_id"].to_pylist()[1] == text_id("\u00e9in")
    assert table["logprob"].null_count == 4
    assert set(table["finish_reason"].to_pylist()) == {"stop"}
    assert set(table["policy"].to_pylist()) == {"elsewhere"}
    pool = CandidatePool(tmp_path / "pool")
    pool.append(table)
    assert pool.scan().equals(table)


def test_other_names_and_known_log_probabilities_are_read(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("prompt\tanswer\tlp\tfinish_reason\na\tx\t-1.5\tlength\na\ty\t\tstop\n")
    table = replay(path, columns={"query_id": "prompt", "text": "answer", "logprob": "lp"})
    assert table["logprob"].to_pylist() == [-1.5, None]
    assert table["finish_reason"].to_pylist() == ["length", "stop"]


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("query_id,answer\na,x\n")
    with pytest.raises(InputError, match="text"):
        replay(path)
    with pytest.raises(InputError, match="'txt'"):
        replay(path, columns={"txt": "answer"})
    path.write_text("query_id,text\n")
    with pytest.raises(InputError, match="no rows"):
        replay(path)


def test_a_table_answers_as_a_policy(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("query_id,text\nb,x\na,y\nb,z\na,w\n")
    policy = ReplayPolicy(path)
    assert isinstance(policy, Policy)
    found = policy.sample([Prompt("b", ()), Prompt("a", ())], 2, seed=0)
    assert [[candidate.text for candidate in row] for row in found] == [["x", "z"], ["y", "w"]]
    assert policy.sample([Prompt("a", ())], 1, seed=9)[0][0].text == "y"
    with pytest.raises(InputError, match="2 candidates of query 'b'; expected at least 3"):
        policy.sample([Prompt("b", ())], 3, seed=0)
    with pytest.raises(InputError, match="0 candidates of query 'c'"):
        policy.sample([Prompt("c", ())], 1, seed=0)
    with pytest.raises(InputError, match="no file"):
        _ = ReplayPolicy(tmp_path / "none.csv").signature
