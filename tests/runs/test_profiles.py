"""Summaries of users: what they may know, that they are written once, and that they stand in every prompt."""

import json
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.__main__ import main
from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.data.split import Dataset
from bestfor.errors import BestforError, InputError
from bestfor.files import hash_tree
from bestfor.policies.base import Sampled
from bestfor.pool import CandidatePool
from bestfor.runs.config import load_config, parse_config
from bestfor.runs.foreseen import foresee
from bestfor.runs.plan import plan_run
from bestfor.runs.profiles import attach_profiles, plan_profiles
from bestfor.runs.prompts import Prompting, build_prompts
from bestfor.runs.run import run
from bestfor.runs.steps import Steps
from support.servers import chat, error

REQUEST = "Describe this author in a few sentences."
MARK = re.compile(r"[io]q?\d+x\d+")
RUN = {
    "data": {"source": "world", "users": 3, "queries": 1},
    "split": {"min_fit": 0, "min_test": 2},
    "policy": {
        **{"kind": "openai", "model": "m", "chunk": 2, "n": 3, "fit_n": 2, "fit_items": 2, "items": 1},
        "profile": {"max_new_tokens": 40, "items": 3},
    },
    "utility": {"metrics": ["rougeL"]},
    "reward": [{"kind": "length"}],
    "diagnosis": {"n": [1, 2, 3]},
}


class Summariser:
    """Says what it was asked, so that a summary holds all that it could know."""

    name, chunk, signature = "summariser", 2, {"kind": "summariser"}

    def __init__(self):
        self.asked = []

    def sample(self, prompts, n, *, seed):
        self.asked += prompts
        return [[Sampled(" ".join(turn["content"] for turn in one.messages), 3, None, "stop")] * n for one in prompts]


def table(rows, schema):
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def written(folder, rows, given_rows, fit_items, share=1.0):
    """The prompts of a run whose summaries say all that they were shown."""
    data = Dataset("d", "s", table(rows, HISTORIES), table(given_rows, QUERIES))
    policy = {"kind": "openai", "model": "m", "profile": {"items": 99}, "fit_items": fit_items, "fit_share": share}
    config = parse_config({**RUN, "policy": {**policy, "n": 3}}, "test")
    writer = Summariser()
    steps = Steps(folder, lambda line: None)
    prompting = attach_profiles(writer, config, data, Prompting("do", retriever="none"), steps)
    asked = build_prompts(writer, data.histories, data.queries, fit_items, prompting, fit_share=share)
    return asked, writer


@settings(max_examples=40)
@given(st.data())
def test_a_profile_knows_nothing_of_what_is_asked_or_comes_later(tmp_path_factory, data):
    rows, given_rows, fit_items = [], [], data.draw(st.integers(1, 3))
    for user in range(2):
        count, timed = data.draw(st.integers(1, 6)), data.draw(st.booleans())
        times = sorted(data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
        for at in range(count):
            rows.append((f"u{user}", f"{at}", f"ask i{user}x{at}", f"wrote o{user}x{at}", times[at] if timed else None))
        asked = data.draw(st.integers(-1, count - 1))
        text = f"ask i{user}x{asked}" if asked >= 0 else f"ask iq{user}x0"
        when = data.draw(st.none() | st.integers(0, 4))
        given_rows.append((f"q{user}", f"u{user}", text, f"oq{user}x0", "test", when))
    try:
        made, writer = written(tmp_path_factory.mktemp("p"), rows, given_rows, fit_items)
    except InputError:
        return  # nobody has an item that is early enough
    place = {re.search(MARK, row[3])[0]: row for row in rows}
    order = {row: at for at, row in enumerate(rows)}
    told = {one.user_id: " ".join(turn["content"] for turn in one.messages) for one in writer.asked}
    asks = {row["query_id"]: row for row in made.queries.to_pylist()}
    for prompt in made.prompts:
        profile = told.get(prompt.user_id, "")
        assert (profile != "") == ("About this author" in prompt.messages[0]["content"])
        query, seen = asks[prompt.query_id], [place[mark] for mark in MARK.findall(profile) if mark in place]
        assert not re.search(r"[io]q\d", profile), "a test query's own text"
        assert all(row[0] == prompt.user_id for row in seen), "another user's item"
        assert all(row[2] != query["input"] for row in seen), "the very item that is asked"
        for row in seen:
            if query["timestamp"] is not None and row[4] is not None:
                limit = query["timestamp"] + (query["split"] == "test")
                assert row[4] < limit, "an item that is not earlier"
            elif query["split"] == "fit":
                assert order[row] < order[next(one for one in rows if one[2] == query["input"])]


def test_items_that_label_are_not_summarised(tmp_path):
    rows = [("u", f"{at}", f"ask {at}", f"wrote {at}", at) for at in range(6)]
    rows += [("v", "0", "ask", "wrote all of it", 0)]
    given_rows = [("q", "u", "ask now", "r", "test", 9), ("p", "v", "ask now", "r", "test", None)]
    made, writer = written(tmp_path, rows, given_rows, 2)
    (one,) = writer.asked
    assert [word for word in re.findall(r"Written: (wrote \d)", one.messages[1]["content"])] == [
        f"wrote {at}" for at in range(4)
    ]
    assert made.notes[0].startswith("1 of 2 users have a profile in their prompts; 1 have none: no item")
    with pytest.raises(InputError, match="nobody with an item to summarise"):
        written(tmp_path, rows, given_rows, 9)


def profile_of(request):
    """Writes what a profile is where one is asked for, else titles that grow."""
    if request.body["messages"][-1]["content"].endswith(REQUEST):
        return chat(f" Likes\n{len(request.body['messages'][-1]['content'])} signs. ", usage=(30, 4))
    return chat(*("!" * (i + 1) for i in range(request.body.get("n", 1))), usage=(20, 6))


def served(url, **profile):
    own = {**RUN["policy"]["profile"], **profile}
    endpoint = {"base_url": url, "identity": "x", "retries": 0, "input_price": 1.0, "output_price": 1.0}
    return parse_config({**RUN, "policy": {**RUN["policy"], "profile": own, "endpoint": endpoint}}, "run.toml")


def asked_for(server):
    return [one for one in server.requests if one.body["messages"][-1]["content"].endswith(REQUEST)]


@pytest.mark.slow
def test_a_run_asks_a_server_for_each_user_once(scripted, tmp_path):
    server, told = scripted(profile_of), []
    planned = plan_run(served(server.url), tmp_path / "run", probe=0.0)
    (fold,) = planned.folds
    assert (fold.profiles.owed_prompts, fold.profiles.most_new_tokens) == (3, 3 * 40)
    assert fold.profiles.prompt_tokens > 0
    assert planned.cost == pytest.approx(fold.profiles.cost + fold.sampling.cost)
    assert "profiles" in fold.steps
    assert not server.requests
    done = run(served(server.url), tmp_path / "run", tell=told.append)
    profiles = asked_for(server)
    assert len(profiles) == 3
    assert all((one.body["max_tokens"], one.body["temperature"]) == (40, 0.3) for one in profiles)
    assert len(server.requests) == 3 + 9
    for one in server.requests[3:]:
        assert re.search(r"About this author: Likes \d+ signs\.$", one.body["messages"][0]["content"])
    usage = json.loads((tmp_path / "run" / "usage.json").read_text())
    assert usage["policy"]["requests"] == 12
    assert usage["policy"]["completion_tokens"] == 3 * 4 + 9 * 6
    note = "3 of 3 users have a profile in their prompts"
    assert f"profiles: {note}" in told
    assert note in CandidatePool(tmp_path / "run" / "pool").notes
    assert not [one for one in foresee(served(server.url), tmp_path / "run")[0].steps if one.owed]
    before = hash_tree([tmp_path / "run"])
    again = load_config(tmp_path / "run" / "run.toml")
    assert again.policy.profile == served(server.url).policy.profile
    assert run(served(server.url), tmp_path / "run").diagnosis.to_dict() == done.diagnosis.to_dict()
    assert len(server.requests) == 12
    assert hash_tree([tmp_path / "run"]) == before
    steps = foresee(served(server.url, instruction="Say how."), tmp_path / "run")[0].steps
    owed = {one.name: one.why for one in steps if one.owed}
    assert owed["profiles"] == "not there yet"
    assert owed["sample"] == "5 of 5 parts are owed: after profiles"


@pytest.mark.slow
def test_profiles_that_were_begun_are_gone_on_with(scripted, tmp_path):
    served_ones = []

    def failing(request):
        served_ones.append(request)
        return error(500) if len(served_ones) > 2 else profile_of(request)

    server = scripted(failing)
    with pytest.raises(BestforError, match="1 candidates are missing"):
        run(served(server.url), tmp_path / "run")
    whole = scripted(profile_of)
    run(served(whole.url), tmp_path / "run")
    assert len(asked_for(whole)) == 1, "what came before is kept"
    run(served(scripted(profile_of).url), tmp_path / "other")
    folders = [tmp_path / name / "pool" for name in ("run", "other")]
    first, second = ({path.name: path.read_bytes() for path in one.glob("part-*")} for one in folders)
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("state", ["empty", "refused"])
def test_a_user_without_a_summary_goes_without(scripted, tmp_path, state):
    def answer(request):
        if request.body["messages"][-1]["content"].endswith(REQUEST) and len(asked_for(server)) == 1:
            return chat("  ", usage=(30, 1)) if state == "empty" else error(400, "the prompt is against our policy")
        return profile_of(request)

    server = scripted(answer)
    run(served(server.url), tmp_path / "run")
    (note, *_) = CandidatePool(tmp_path / "run" / "pool").notes
    assert note == "2 of 3 users have a profile in their prompts; 1 have none: the policy wrote nothing, or was refused"
    told = [one for one in server.requests if "About this author" in one.body["messages"][0]["content"]]
    assert len(told) == 6


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"kind": "replay", "model": "t.csv"}, r"\[policy.profile\].*kind 'replay'"),
        ({"kind": "transformers", "fit_share": 0.5, "adapters": {}}, "one of .policy.profile. and .policy.adapters."),
        ({"kind": "openai", "model": "m", "profile": {"lenght": 3}}, "lenght"),
        (
            {"kind": "feedback", "base": {"kind": "replay"}, "feedback": {"reward": "length"}},
            r"\[policy.profile\].*kind 'replay'",
        ),
    ],
)
def test_what_cannot_be_is_said(policy, said):
    with pytest.raises(InputError, match=said):
        parse_config({**RUN, "policy": {"profile": {}, "n": 3, **policy}}, "run.toml")


@pytest.mark.slow
def test_a_model_on_this_machine_summarises_and_is_loaded_once(tmp_path, capsys, monkeypatch):
    from bestfor.lm.checkpoint import Checkpoint

    own = {"kind": "transformers", "n": 3, "fit_n": 2, "fit_items": 2, "items": 1, "max_new_tokens": 6}
    config = parse_config({**RUN, "policy": {**own, "profile": {"max_new_tokens": 12, "items": 2}}}, "run.toml")
    made, init = [], Checkpoint.__init__
    monkeypatch.setattr(Checkpoint, "__init__", lambda self, *a, **b: made.append(a) or init(self, *a, **b))
    run(config, tmp_path / "run")
    assert len(made) == 1
    pool = CandidatePool(tmp_path / "run" / "profiles")
    rows = pool.scan().to_pylist()
    assert len({row["query_id"] for row in rows}) == 3
    parts = {path: path.read_bytes() for path in pool.folder.glob("part-*")}
    gone = next(iter(parts))
    gone.unlink()
    run(config, tmp_path / "run")
    assert gone.read_bytes() == parts[gone], "the same bytes, and only what is owed"
    asked = ["bestfor", "plan", str(tmp_path / "run" / "run.toml"), "--out", str(tmp_path / "new"), "--probe", "0"]
    monkeypatch.setattr("sys.argv", asked)
    assert main() == 0
    assert "profiles" in capsys.readouterr().out


@pytest.mark.slow
def test_feedback_revises_beside_a_profile(scripted, tmp_path):
    from support.reader import kind_of, obedient

    def answer(request):
        return profile_of(request) if request.body["messages"][-1]["content"].endswith(REQUEST) else obedient(request)

    server = scripted(answer)
    raw = {
        **RUN,
        "policy": {
            **{"kind": "feedback", "n": 4, "fit_n": 2, "fit_items": 2, "items": 1, "profile": {"max_new_tokens": 40}},
            "base": {"kind": "openai", "model": "m", "endpoint": {"base_url": server.url, "identity": "x"}},
            "feedback": {"reward": "length", "width": 2},
        },
    }
    run(parse_config(raw, "run.toml"), tmp_path)
    assert len(asked_for(server)) == 3
    drafts = [one for one in server.requests[3:] if kind_of(one) == "draft"]
    assert drafts
    assert all("About this author: Likes" in one.body["messages"][0]["content"] for one in drafts)


def test_nothing_is_asked_where_there_is_no_profile(tmp_path):
    config = parse_config({**RUN, "policy": {"kind": "openai", "model": "m", "n": 3}}, "run.toml")
    prompting, data = Prompting("do"), Dataset("d", "s", HISTORIES.empty_table(), QUERIES.empty_table())
    assert plan_profiles(Summariser(), config, data, prompting, tmp_path) is None
    assert attach_profiles(Summariser(), config, data, prompting, Steps(tmp_path, print)) is prompting
    assert "profile" not in config.policy.model_dump()
