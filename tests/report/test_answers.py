"""The section of real answers: read from a run's folder, shown on the page and in the terminal."""

import io
import json

import pytest
from rich.console import Console

from bestfor.report import render_html
from bestfor.report.answers import FILE, print_answers, read_answers


def answer(user, candidate, served="own"):
    return {
        "user": user, "candidate": candidate, "text": f"text {candidate} <b>", "reward": 0.5 + candidate,
        "owner_reward": -0.25, "owner_utility": None if candidate else 0.75, "served": served,
    }  # fmt: skip


@pytest.fixture
def found():
    last = answer("bob", 1, "everybody")
    requests = [
        {"query": "q1", "owner": "ann", "input": "say it", "size": 8, "answers": [answer("ann", 0), answer("bob", 3)]},
        {"query": "q2", "owner": "bob", "input": "", "size": 4, "answers": [answer("ann", 1), last]},
    ]  # fmt: skip
    return {"model": "hierarchical", "rule": "best", "users": ["ann", "bob"], "requests": requests}


def test_answers_are_read_from_the_run_or_its_first_fold(tmp_path, found):
    assert read_answers(tmp_path) is None
    (tmp_path / "fold-0").mkdir()
    (tmp_path / "fold-0" / FILE).write_text(json.dumps(found))
    section = read_answers(tmp_path)
    assert (section.model, section.users) == ("hierarchical", ("ann", "bob"))
    first, second = section.requests
    assert (first.owner, first.asked, first.size) == ("ann", "say it", 8)
    assert first.said == "2 different answers for 2 users."
    assert second.said == "All get the same answer."
    own, other = first.answers
    assert (own.own, own.reward, own.owner_reward, own.owner_utility) == (True, "0.50", "\N{MINUS SIGN}0.25", "0.75")
    assert own.why == "best for ann: expected 0.50, measured 0.75"
    assert other.why == "best for bob: expected 3.50; for the asker: expected \N{MINUS SIGN}0.25"
    assert [one.distinct for one in section.telling] == [2, 1]
    assert (other.own, other.reward, other.owner_utility, other.everybody) == (False, "3.50", "", False)
    assert second.answers[1].everybody
    for torn in ("{", "null", "[]", '{"model": 1}'):
        (tmp_path / FILE).write_text(torn)
        assert read_answers(tmp_path) is None


def test_a_pick_worse_than_a_random_candidate_is_said_to_be_unlucky(tmp_path, found):
    pick = {"utility": 0.2, "rank": 16, "of": 30, "random": 0.3}
    found["requests"][0]["pick"] = pick
    found["requests"][1]["pick"] = pick | {"utility": 0.3}
    (tmp_path / FILE).write_text(json.dumps(found))
    first, second = read_answers(tmp_path).requests
    assert first.said.endswith(" Here the pick was unlucky for ann: rank 16 of 30, worse than a random candidate.")
    assert "unlucky" not in second.said


def test_the_page_shows_who_gets_what_and_escapes_it(tmp_path, found, make):
    (tmp_path / FILE).write_text(json.dumps(found))
    page = render_html(make(("hierarchical",)), answers=read_answers(tmp_path))
    assert '<h2 id="answers">Who gets what, and why?</h2>' in page
    assert 'href="#answers"' in page
    assert "text 3 &lt;b&gt;" in page
    assert "(asked)" in page
    assert "served by what all users share" in page
    assert 'id="answers"' not in render_html(make(("hierarchical",)))


def test_the_terminal_shows_who_gets_what(tmp_path, found):
    (tmp_path / FILE).write_text(json.dumps(found))
    out = io.StringIO()
    print_answers(read_answers(tmp_path), Console(file=out, width=110))
    said = out.getvalue()
    assert "Who gets what: hierarchical, rule best" in said
    assert "ann's 8 candidates, asked say it" in said
    assert "text 3 <b>" in said
    assert "All get the same answer." in said


def test_why_there_are_no_answers_is_on_the_page_and_in_the_terminal(tmp_path):
    found = {"model": "judge", "rule": "best", "users": ["a", "b"], "requests": [], "reason": "it costs money"}
    (tmp_path / "answers.json").write_text(json.dumps(found))
    section = read_answers(tmp_path)
    assert section.reason == "it costs money"
    assert section.telling == ()
    out = io.StringIO()
    print_answers(section, Console(file=out, width=80))
    assert "Not shown: it costs money." in out.getvalue()
