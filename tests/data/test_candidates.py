"""Candidates from requests: coded like the rows of a run."""

import numpy as np
import pytest

import bestfor as bf
from bestfor.data.candidates import History


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
