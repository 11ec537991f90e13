"""Candidates from requests: coded like the rows of a run."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bestfor as bf
from bestfor.data.candidates import History
from bestfor.rewards import KINDS


class TestOf:
    def test_codes_one_request(self):
        found = bf.Candidates.of("ann", "A headline?", ["x", "y", "x"], [1, 0, 1], history=["old", "new"])
        assert (found.users, found.queries, found.inputs, found.texts) == (
            ("ann",),
            ("0",),
            ("A headline?",),
            ("x", "y"),
        )
        assert found.text.tolist() == [0, 1, 0]
        assert found.candidate.tolist() == [0, 1, 2]
        assert found.utility.tolist() == [1.0, 0.0, 1.0]
        assert found.history == History({"ann": ("old", "new")})

    def test_codes_many_requests_at_once(self):
        found = bf.Candidates.of(["b", "a", "b"], ["p", "", "q"], [["x"], ["y", "x"], ["z"]], query=["3", "1", "2"])
        assert found.users == ("b", "a")
        assert found.user.tolist() == [0, 1, 1, 0]
        assert found.query.tolist() == [0, 1, 1, 2]
        assert [found.texts[code] for code in found.text] == ["x", "y", "x", "z"]
        assert np.isnan(found.utility).all()
        assert found.queries == ("3", "1", "2")

    @pytest.mark.parametrize("texts", [["x", "y", "x"], ["a", "b"], [], ("é",)])
    @pytest.mark.parametrize("history", [None, ["old"], History({"ann": ("old",)})])
    def test_one_request_is_coded_as_one_of_many(self, texts, history):
        one = bf.Candidates.of("ann", "Why?", texts, history=history)
        many = bf.Candidates.of(["ann"], ["Why?"], [texts], history=History({"ann": ("old",)}) if history else None)
        for name, value in vars(many).items():
            found = getattr(one, name)
            if isinstance(value, np.ndarray):
                assert found.dtype == value.dtype
                np.testing.assert_array_equal(found, value)
            else:
                assert found == value
        assert one.user is not one.query

    def test_many_may_be_none(self):
        assert len(bf.Candidates.of([], [], [])) == 0

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ((["a", "b"], ["p"], [["x"], ["y"]]), "1 prompts for 2 users"),
            (("a", "p", "text"), "a value of type str"),
            (("a", "p", ["x", 3]), "a value of type int"),
            (("a", "p", ["x"], [1.0, 2.0]), "one for each text"),
            ((["a"], ["p"], [["x"]], None, ["old"]), "a list of texts for many requests"),
        ],
    )
    def test_refuses_what_does_not_go_together(self, given, message):
        with pytest.raises(bf.InputError, match=message):
            bf.Candidates.of(*given)

    def test_refuses_an_id_twice(self):
        with pytest.raises(bf.InputError, match="'q' twice"):
            bf.Candidates.of(["a", "b"], ["p", "p"], [["x"], ["y"]], query=["q", "q"])


ROWS = {
    "user": ["ann", "ann", "bob", "ann", "bob"],
    "prompt": ["A?", "A?", "A?", "B?", "A?"],
    "text": ["x", "y", "x", "z", "y"],
    "utility": [1.0, None, 0.0, 2.0, 1.0],
}


class TestOfRows:
    @pytest.mark.parametrize(
        "table",
        [dict, pa.table, pd.DataFrame, pl.DataFrame],
        ids=["plain columns", "arrow", "pandas", "polars"],
    )
    def test_codes_any_table_in_its_order(self, table):
        found = bf.Candidates.of_rows(table(ROWS))
        assert found.users == ("ann", "bob")
        assert found.queries == ("ann", "bob", "ann/1")
        assert found.inputs == ("A?", "A?", "B?")
        assert [found.texts[code] for code in found.text] == ROWS["text"]
        assert [found.queries[code] for code in found.query] == ["ann", "ann", "bob", "ann/1", "bob"]
        assert found.candidate.tolist() == [0, 1, 0, 0, 1]
        np.testing.assert_array_equal(found.utility, [1, np.nan, 0, 2, 1])
        assert np.isnan(found.logprob).all()

    def test_a_file_and_names_of_ones_own(self, tmp_path):
        (tmp_path / "t.csv").write_text("who,said,n,q\nann,x,4,1\nann,y,2,1\n", encoding="utf-8")
        names = {"user": "who", "text": "said", "candidate": "n", "query": "q"}
        found = bf.Candidates.of_rows(tmp_path / "t.csv", names)
        assert found.candidate.tolist() == [4, 2]
        assert found.queries == ("1",)
        assert found.inputs == ("",)

    def test_models_fit_and_predict_what_a_frame_holds(self):
        draw = np.random.default_rng(0)
        frame = pd.DataFrame({"user": np.repeat(["u", "v"], 20), "text": ["ab c" * (at % 7 + 1) for at in range(40)]})
        frame["utility"] = frame["text"].str.len() + draw.normal(size=40)
        model = KINDS["length"]().fit(bf.Candidates.of_rows(frame), rng=0)
        frame["reward"] = model.predict(bf.Candidates.of_rows(frame.drop(columns="utility"))).mean
        assert frame["reward"].corr(frame["utility"]) > 0.9

    def test_what_it_gives_it_takes_back(self):
        found = bf.Candidates.of_rows(ROWS)
        again = bf.Candidates.of_rows(found.to_pandas())
        assert again.to_arrow().equals(found.to_arrow())
        assert again.queries == found.queries
        assert repr(found) == "Candidates(5 rows, 3 queries, 2 users, 3 texts)"

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"text": None}, "no column 'text'"),
            ({"text": ["x", None, "x", "z", "y"]}, "row 2, column 'text': found an empty cell"),
            ({"utility": ["a", "b", "c", "d", "e"]}, "row 1, column 'utility': found 'a'"),
            ({"query": ["1", "1", "1", "2", "3"]}, "row 3, query '1': found the user 'bob' in a query of 'ann'"),
            ({"query": ["1", "1", "3", "1", "3"]}, "row 4, query '1': found the prompt 'B\\?' in a query of 'A\\?'"),
            ({"candidate": [0, 0, 0, 0, 1]}, "row 2: found candidate 0 of query 'ann' twice"),
            ({"candidate": [0, 0.5, 0, 0, 1]}, "row 2, candidate: found 0.5"),
            ({"user": ["ann"]}, "the columns: found"),
        ],
    )
    def test_refuses_what_does_not_fit(self, changed, message):
        rows = {name: values for name, values in {**ROWS, **changed}.items() if values is not None}
        with pytest.raises(bf.InputError, match=message):
            bf.Candidates.of_rows(rows)

    def test_refuses_an_unknown_role_and_what_is_no_table(self):
        with pytest.raises(bf.InputError, match="unknown role 'usr'"):
            bf.Candidates.of_rows(ROWS, {"usr": "who"})
        with pytest.raises(bf.InputError, match="found a int"):
            bf.Candidates.of_rows(3)

    def test_pandas_is_asked_for_only_where_it_is_wanted(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        found = bf.Candidates.of_rows(ROWS)
        assert found.to_arrow().num_rows == 5
        with pytest.raises(bf.BestforError, match="pip install pandas"):
            found.to_pandas()
