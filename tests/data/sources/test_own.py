import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data.sources.own import load_histories, load_ratings
from bestfor.errors import InputError

HISTORIES = [
    {"user_id": "ann", "item_id": "a1", "input": "ask", "output": "Änswer", "timestamp": "2020-01-01"},
    {"user_id": "bob", "item_id": "b1", "input": "ask", "output": "no", "timestamp": "2020-01-01"},
    {"user_id": "ann", "item_id": "a2", "input": "", "output": "unasked", "timestamp": "2020-01-02 12:00:00"},
    {"user_id": "zoe", "item_id": "z1", "input": "ask", "output": "nobody asks zoe", "timestamp": "2020-01-02"},
]
QUERIES = [
    {"query_id": "q1", "user_id": "ann", "input": "now?", "reference": "yes", "split": "test"},
    {"query_id": "q2", "user_id": "bob", "input": "then?", "reference": "was", "split": "fit"},
    {"query_id": "q3", "user_id": "new", "input": "who?", "reference": None, "split": None},
]


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        lines = [list(rows[0]), *([str(value) if value is not None else "" for value in row.values()] for row in rows)]
        path.write_text("".join(",".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_two_tables_of_any_kind(tmp_path, ending):
    data = load_histories(write(tmp_path / f"h{ending}", HISTORIES), write(tmp_path / f"q{ending}", QUERIES))
    assert data.histories.select(["user_id", "item_id", "input", "output"]).to_pylist() == [
        {"user_id": "ann", "item_id": "a1", "input": "ask", "output": "Änswer"},
        {"user_id": "bob", "item_id": "b1", "input": "ask", "output": "no"},
        {"user_id": "ann", "item_id": "a2", "input": "", "output": "unasked"},
    ]
    assert data.histories["timestamp"].to_pylist() == [1577836800, 1577836800, 1577966400]
    assert data.queries["split"].to_pylist() == ["test", "fit", "test"]
    assert data.queries["reference"].to_pylist()[:2] == ["yes", "was"]
    assert data.notes == ("1 users have no history",)


def test_other_names_and_what_may_be_absent(tmp_path):
    rows = [{"who": 7, "wrote": "x"}, {"who": 7, "wrote": "x"}, {"who": 7, "wrote": "y"}]
    asked = [{"query_id": 1, "who": 7, "input": "?"}]
    columns = {"user_id": "who", "output": "wrote"}
    paths = write(tmp_path / "h.jsonl", rows), write(tmp_path / "q.jsonl", asked)
    data = load_histories(*paths, columns=columns)
    assert data.histories.select(["user_id", "item_id", "input", "output", "timestamp"]).to_pylist() == [
        {"user_id": "7", "item_id": "1", "input": "", "output": "x", "timestamp": None},
        {"user_id": "7", "item_id": "3", "input": "", "output": "y", "timestamp": None},
    ]
    assert data.queries["reference"].to_pylist() == [None]


def test_only_some_users(tmp_path):
    paths = write(tmp_path / "h.jsonl", HISTORIES), write(tmp_path / "q.jsonl", QUERIES)
    data = load_histories(*paths, users=1)
    assert data.queries["query_id"].to_pylist() == ["q1"]
    assert set(data.histories["user_id"].to_pylist()) == {"ann"}
    assert data.signature != load_histories(*paths).signature


@pytest.mark.parametrize(
    ("table", "row", "change", "message"),
    [
        ("h", 1, {"output": None}, "h.jsonl, row 2, column 'output': found an empty cell"),
        ("h", 0, {"timestamp": "soon"}, "h.jsonl, row 1, column 'timestamp': found 'soon'"),
        ("h", 3, {"user_id": ""}, "h.jsonl, row 4, column 'user_id': found an empty cell; expected a user's id"),
        ("q", 1, {"query_id": "q1"}, "q.jsonl, row 2, field 'id': found query 'q1' twice"),
        ("q", 0, {"split": "dev"}, "q.jsonl, row 1, column 'split': found 'dev'; expected fit or test"),
        ("q", 2, {"input": None}, "q.jsonl, row 3, column 'input': found an empty cell"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path, table, row, change, message):
    tables = {"h": [dict(one) for one in HISTORIES], "q": [dict(one) for one in QUERIES]}
    tables[table][row] |= change
    with pytest.raises(InputError) as caught:
        load_histories(write(tmp_path / "h.jsonl", tables["h"]), write(tmp_path / "q.jsonl", tables["q"]))
    assert message in str(caught.value)


def test_missing_columns_and_unknown_roles_are_named(tmp_path):
    paths = write(tmp_path / "h.jsonl", [{"user": "a"}]), write(tmp_path / "q.jsonl", QUERIES)
    with pytest.raises(InputError, match="no column 'user_id'"):
        load_histories(*paths)
    with pytest.raises(InputError, match=r"columns: found unknown role 'usr_id'; expected 'user_id' \(did you mean it"):
        load_histories(*paths, columns={"usr_id": "user"})
    fit = write(tmp_path / "fit.jsonl", [{**QUERIES[1]}])
    with pytest.raises(InputError, match="found no questions"):
        load_histories(write(tmp_path / "h2.jsonl", HISTORIES), fit)


def ratings_file(path, rows):
    """A table of ratings from rows of cells; the first row is the header."""
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


HEAD = ("user", "text", "rating", "timestamp")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("", "b", "2", "1"), "row 2, column 'user': found an empty cell; expected a user's id"),
        (("nan", "b", "2", "1"), "row 2, column 'user': found 'nan', which stands for a missing value"),
        (("v", "", "2", "1"), "row 2, column 'text': found an empty cell; expected a text"),
        (("v", "\u00a0", "2", "1"), "row 2, column 'text': found an empty cell"),
        (("v", "b", "inf", "1"), "row 2, column 'rating': found an infinite rating"),
        (("v", "b", "2", ""), "row 2, column 'timestamp': found an empty cell; expected a year, a date"),
        (("v", "b", "2", "soon"), "row 2, column 'timestamp': found 'soon'"),
    ],
)
def test_cells_of_ratings_that_cannot_be_are_named(tmp_path, row, message):
    path = ratings_file(tmp_path / "r.csv", [HEAD, ("u", "a", "1", "2021-03-01"), row])
    with pytest.raises(InputError, match=message):
        load_ratings(path, times=True)


def test_rows_without_a_rating_may_lack_anything(tmp_path):
    path = ratings_file(tmp_path / "r.csv", [HEAD, ("u", "a", "1", "1"), ("", "", "", ""), ("v", "", "None", "soon")])
    ratings = load_ratings(path, times=True)
    assert ratings.users == ("u",)
    assert ratings.notes == ("2 rows without a rating were left out",)
    late = ratings_file(tmp_path / "s.csv", [HEAD, ("", "", "", ""), ("", "b", "1", "1")])
    with pytest.raises(InputError, match="row 2, column 'user'"):
        load_ratings(late)


def test_times_are_read_where_they_are_needed_and_can_be(tmp_path):
    rows = [HEAD, ("u", "a", "1", "2021-03-01T10:00:00Z"), ("u", "b", "1", "2021-03-02 10:00:00+00")]
    path = ratings_file(tmp_path / "r.csv", rows)
    day = 86_400
    for times in (None, True):
        when = load_ratings(path, times=times).timestamp
        assert sorted(when)[1] - sorted(when)[0] == day
    assert load_ratings(path, times=False).timestamp is None
    odd = ratings_file(tmp_path / "o.csv", [*rows, ("u", "c", "1", "yesterday")])
    assert load_ratings(odd, times=False).notes == ()
    (note,) = load_ratings(odd).notes
    assert "times were not read" in note
    assert "row 3, column 'timestamp': found 'yesterday'" in note


def test_timestamps_of_a_database_are_times(tmp_path):

    when = [datetime(2021, 3, 1, 10, tzinfo=UTC), datetime(2021, 3, 1, 10, 0, 0, 500, tzinfo=UTC)]
    for kind in (pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.timestamp("ms"), pa.date32()):
        table = pa.table(
            {
                "user": ["u", "u"],
                "text": ["a", "b"],
                "rating": [1.0, 2.0],
                "timestamp": pa.array(when).cast(kind, safe=False),
            }
        )
        pq.write_table(table, tmp_path / "r.parquet")
        found = load_ratings(tmp_path / "r.parquet", times=True)
        first = found.timestamp[found.texts.index("a")]
        assert first == (when[0].timestamp() if kind != pa.date32() else datetime(2021, 3, 1, tzinfo=UTC).timestamp())


def test_pools_that_mix_prompts_are_told(tmp_path):
    rows = [("user", "prompt", "text", "rating")]
    rows += [("u", f"prompt {p}", f"answer {p} {a}", "1") for p in range(4) for a in range(3)]
    (note,) = load_ratings(ratings_file(tmp_path / "r.csv", rows)).notes
    assert note == (
        "pools mix the answers of 4 values of 'prompt': columns = { query = \"prompt\" } under [data] gives each "
        "prompt its own pool"
    )
    assert load_ratings(tmp_path / "r.csv", {"query": "prompt"}).notes == ()
    # a topic that all texts of a table share, or that crosses them, is no prompt
    shared = [("user", "topic", "text", "rating")] + [("u", f"{i % 3}", f"text {i // 3}", "1") for i in range(9)]
    assert load_ratings(ratings_file(tmp_path / "s.csv", shared), duplicates="last").notes[-1:] != (note,)
    assert not any("pools mix" in one for one in load_ratings(tmp_path / "s.csv", duplicates="last").notes)


def test_prompts_have_one_spelling_and_none_is_missing(tmp_path):
    head = ("user", "query", "text", "rating")
    path = ratings_file(
        tmp_path / "r.csv", [head, ("u", "p", "a", "1"), ("u", " p", "b", "1"), ("u", "p\u00a0", "c", "1")]
    )
    assert load_ratings(path).queries == ("p",)
    path = ratings_file(tmp_path / "r.csv", [head, ("u", "p", "a", "1"), ("u", "", "b", "1")])
    with pytest.raises(
        InputError, match="row 2, column 'query': found an empty cell; expected the prompt, as in other"
    ):
        load_ratings(path)
    path = ratings_file(tmp_path / "r.csv", [head, ("u", "", "a", "1"), ("u", "", "b", "1")])
    assert load_ratings(path).queries == ("",)


def test_users_that_never_meet_are_told_before_anything_is_sampled(tmp_path):
    head = "user_id,input,output\n"
    (tmp_path / "h.csv").write_text(head + "mail:ann,i,o\nmail:ben,i,o\n", encoding="utf-8")
    (tmp_path / "q.csv").write_text("query_id,user_id,input,reference\nq,ann,i,r\nr,ben,j,r\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"h\.csv: found none of the 2 users of .*q\.csv \('ann' there, 'mail:ann' here\)"
    ):
        load_histories(tmp_path / "h.csv", tmp_path / "q.csv")
    labelled = "query_id,user_id,input,reference,split\nq,ann,i,r,test\nr,ann,j,r,fit\n"
    (tmp_path / "q.csv").write_text(labelled, encoding="utf-8")
    assert load_histories(tmp_path / "h.csv", tmp_path / "q.csv").notes == ("1 users have no history",)


def test_users_that_a_gap_made_floats_meet(tmp_path):
    (tmp_path / "h.csv").write_text("user_id,input,output\n0.0,i,o\n1.0,i,o\n", encoding="utf-8")
    (tmp_path / "q.csv").write_text("query_id,user_id,input,reference\nq,0,i,r\nr, 1,j,r\n", encoding="utf-8")
    data = load_histories(tmp_path / "h.csv", tmp_path / "q.csv")
    assert set(data.histories["user_id"].to_pylist()) == {"0", "1"} == set(data.queries["user_id"].to_pylist())
    assert data.notes == ()


def test_rankings_with_ties_and_blanks(tmp_path):
    rows = [("who", "article", "headline", "place")]
    rows += [("u", "7", f"h{i}", place) for i, place in enumerate(["1", "2.0", "2", "", "4"])]
    path = ratings_file(tmp_path / "r.csv", rows)
    columns = {"user": "who", "query": "article", "text": "headline", "rank": "place"}
    found = load_ratings(path, columns)
    by_text = {found.texts[text]: value for text, value in zip(found.text, found.rating, strict=True)}
    assert by_text == pytest.approx({"h0": 1.0, "h1": 0.5, "h2": 0.5, "h4": 0.0})
    assert found.notes == ("1 rows without a rating were left out",)
    rated = {"rating" if role == "rank" else role: name for role, name in columns.items()}
    assert found.signature != load_ratings(path, rated).signature
    with pytest.raises(InputError, match="a rating and a rank; expected one of them"):
        load_ratings(path, columns | {"rating": "place"})


@pytest.mark.data
def test_the_rankings_of_headlines(headlines_file):
    columns = {"user": "participant", "query": "article", "text": "headline", "text_id": "headline_id", "rank": "rank"}
    found = load_ratings(headlines_file, columns)
    assert (len(found.users), len(found.queries), len(found.text_ids), len(found.rating)) == (20, 20, 840, 2390)
    assert found.owned
    assert found.rating.min() == 0.0
    assert found.rating.max() == 1.0
    pools = {}
    for user, query, value in zip(found.user, found.query, found.rating, strict=True):
        pools.setdefault((user, query), []).append(value)
    # in every pool half of all comparisons are won
    assert np.array([np.mean(values) for values in pools.values()]) == pytest.approx(0.5)
