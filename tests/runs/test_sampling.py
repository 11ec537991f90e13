import signal
from dataclasses import dataclass, replace

import pyarrow as pa
import pytest

from bestfor.data.ratings import text_id
from bestfor.data.schema import CANDIDATES, HISTORIES, QUERIES
from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.errors import InputError
from bestfor.policies.base import Sampled
from bestfor.pool import CandidatePool
from bestfor.runs.prompts import Prompting, build_prompts
from bestfor.runs.sampling import SamplingSettings, generate


@dataclass(frozen=True)
class Echo:
    """A policy without a model: says what it was asked, so that tests can read its prompts."""

    name: str = "echo"
    chunk: int = 3
    flavour: int = 0

    @property
    def signature(self):
        return {"kind": "echo", "chunk": self.chunk, "flavour": self.flavour}

    def sample(self, prompts, n, *, seed):
        said = [prompt.messages[-1]["content"] for prompt in prompts]
        return [[Sampled(f"{text} {seed} {i}", 3, -1.0 - i, "stop") for i in range(n)] for text in said]


def history(*rows):
    return pa.Table.from_pylist([dict(zip(HISTORIES.names, row, strict=True)) for row in rows], schema=HISTORIES)


def asked(*rows):
    return pa.Table.from_pylist([dict(zip(QUERIES.names, row, strict=True)) for row in rows], schema=QUERIES)


HISTORY = history(
    ("ann", "a2", "second ask", "second answer", 20),
    ("ann", "a1", "first ask", "first answer", 10),
    ("ann", "a3", "third ask", "third answer", 30),
    ("ann", "a3b", "third ask again", "third answer again", 30),
    ("bob", "b1", "bob asks", "bob answers", None),
    ("bob", "b2", "bob asks more", "bob answers more", None),
)
TEST = asked(("t-ann", "ann", "what now", "this", "test", 40), ("t-bob", "bob", "bob?", None, "test", None))


def shown(result, query):
    """Outputs of the items in a query's prompt, and what is asked at its end."""
    prompt = next(prompt for prompt in result.prompts if prompt.query_id == query)
    answers = [message["content"] for message in prompt.messages if message["role"] == "assistant"]
    return answers, prompt.messages[-1]["content"]


def everything(fit_items=9, histories=HISTORY, queries=TEST, policy=None, **prompting):
    return build_prompts(
        policy or Echo(), histories, queries, fit_items, Prompting("do", items=9, retriever="recency", **prompting)
    )


def test_items_become_fit_queries_whose_prompts_hold_only_earlier_items():
    result = everything()
    rows = {row["query_id"]: row for row in result.queries.to_pylist()}
    assert list(rows) == sorted(rows)
    assert rows["ann/a2"] == {
        "query_id": "ann/a2",
        "user_id": "ann",
        "input": "second ask",
        "reference": "second answer",
        "split": "fit",
        "timestamp": 20,
    }
    assert shown(result, "ann/a1") == ([], "first ask")
    assert shown(result, "ann/a2") == (["first answer"], "second ask")
    earlier = ["first answer", "second answer"]
    assert shown(result, "ann/a3") == (earlier, "third ask"), "an item of the same moment is not earlier"
    assert shown(result, "ann/a3b") == (earlier, "third ask again")
    assert shown(result, "bob/b2") == (["bob answers"], "bob asks more"), "without times the order of the rows counts"


def test_test_queries_see_all_history_up_to_their_time():
    assert len(shown(everything(), "t-ann")[0]) == 4
    assert shown(everything(), "t-bob")[0] == ["bob answers", "bob answers more"]
    early = asked(("t-ann", "ann", "what now", "this", "test", 20))
    assert shown(everything(queries=early), "t-ann")[0] == ["first answer", "second answer"]


def test_the_latest_items_are_chosen():
    names = everything(fit_items=2).queries["query_id"].to_pylist()
    assert names == ["ann/a3", "ann/a3b", "bob/b1", "bob/b2", "t-ann", "t-bob"]
    assert everything(fit_items=0).queries["query_id"].to_pylist() == ["t-ann", "t-bob"]


def test_an_item_that_is_a_test_query_is_neither_labelled_nor_shown():
    queries = asked(("t", "ann", " first  ask", "first answer", "test", 40))
    result = everything(queries=queries)
    assert "ann/a1" not in result.queries["query_id"].to_pylist()
    assert all("first answer" not in shown(result, prompt.query_id)[0] for prompt in result.prompts)


@dataclass(frozen=True)
class Narrow(Echo):
    budget: int = 8

    def count(self, messages):
        return sum(len(message["content"].split()) for message in messages)


def test_items_that_find_no_room_are_left_out():
    result = everything(policy=Narrow())
    assert shown(result, "t-ann")[0] == ["third answer"], "instruction and question take 3 of 8, an item takes 4 or 6"
    with pytest.raises(InputError, match="query 't-ann': found 3 tokens without any item"):
        everything(policy=Narrow(budget=2))


def test_queries_that_are_too_long_are_an_error_left_out_or_cut():
    long = asked(("t-ann", "ann", "what now " * 5, "this", "test", 40), ("t-bob", "bob", "bob?", None, "test", None))
    with pytest.raises(InputError, match=r"query 't-ann': found 11 tokens .*too_long = \"drop\""):
        everything(policy=Narrow(), queries=long)
    out = everything(policy=Narrow(), queries=long, too_long="drop")
    assert "t-ann" not in out.queries["query_id"].to_pylist()
    assert out.left_out == ("t-ann",)
    assert out.notes == (
        f"1 of {len(out.prompts) + 1} queries are longer than prompts may be (8 tokens): left out (t-ann)",
    )
    assert out.counts["queries_left_out"] == 1
    cut = everything(policy=Narrow(), queries=long, too_long="truncate")
    assert shown(cut, "t-ann") == ([], "what now what now what now what")
    assert dict(zip(cut.queries["query_id"].to_pylist(), cut.cut, strict=True))["t-ann"]
    assert cut.notes == (
        f"1 of {len(cut.prompts)} queries are longer than prompts may be (8 tokens): cut at their end",
    )
    assert "what now " * 5 in cut.queries["input"].to_pylist(), "the query itself stays whole"
    assert not set(everything(policy=Narrow()).counts) & {"queries_cut", "queries_left_out"}


def test_what_was_left_out_is_noted_with_the_pool(tmp_path):
    long = asked(("t-ann", "ann", "what now " * 5, "this", "test", 40), ("t-bob", "bob", "bob?", None, "test", None))
    pool, told = CandidatePool(tmp_path / "pool"), []
    sampling = SamplingSettings(2, 1, 1, Prompting("do", retriever="none", too_long="drop"))
    generate(Narrow(), HISTORY, long, pool, sampling, progress=False, tell=told.append)
    assert [note for note in pool.notes if "left out (t-ann)" in note] == list(pool.notes)
    assert any("left out (t-ann)" in line for line in told)
    assert set(pool.scan()["query_id"].to_pylist()) >= {"t-bob"}


def test_what_does_not_fit_together_is_named():
    with pytest.raises(InputError, match="items of user 'ann': found 'a1' twice"):
        everything(histories=history(("ann", "a1", "x", "y", 1), ("ann", "a1", "z", "y", 2)))
    with pytest.raises(InputError, match="user 'ann': found item 'a2' without a time"):
        everything(histories=history(("ann", "a1", "x", "y", 1), ("ann", "a2", "z", "y", None)))
    with pytest.raises(InputError, match="queries: found 'ann/a1' twice"):
        everything(queries=asked(("ann/a1", "ann", "what", None, "test", None)))
    with pytest.raises(InputError, match="fit_n: found 0"):
        SamplingSettings(fit_n=0)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


SAMPLING = SamplingSettings(n=4, fit_n=2, fit_items=9, prompting=Prompting("do", 2, "recency"), seed=1)


def test_candidates_lie_in_the_pool(tmp_path, capsys):
    pool = CandidatePool(tmp_path)
    queries = generate(Echo(), HISTORY, TEST, pool, SAMPLING)
    table = pool.scan()
    assert table.schema == CANDIDATES
    counts = {row["values"]: row["counts"] for row in table["query_id"].value_counts().to_pylist()}
    splits = dict(zip(queries["query_id"].to_pylist(), queries["split"].to_pylist(), strict=True))
    assert counts == {name: 4 if split == "test" else 2 for name, split in splits.items()}
    row = table.to_pylist()[-1]
    assert row["text"] == "bob? 1 3"
    assert (row["text_id"], row["policy"], row["seed"], row["logprob"]) == (text_id("bob? 1 3"), "echo", 1, -4.0)
    assert capsys.readouterr() == ("", ""), "no bar where there is no terminal"


def test_order_of_the_tables_and_repetition_change_nothing(tmp_path, monkeypatch):
    pool, other = CandidatePool(tmp_path / "a"), CandidatePool(tmp_path / "b")
    generate(Echo(), HISTORY, TEST, pool, SAMPLING)
    ann, bob = HISTORY.slice(0, 4), HISTORY.slice(4)
    generate(Echo(), pa.concat_tables([bob, ann.take([3, 2, 0, 1])]), TEST.take([1, 0]), other, SAMPLING)
    assert contents(other.folder) == contents(pool.folder)
    monkeypatch.setattr(Echo, "sample", None)
    generate(Echo(), HISTORY, TEST, pool, SAMPLING)
    assert pool.missing() == []


def test_other_settings_never_take_over_what_is_there(tmp_path):
    pool = CandidatePool(tmp_path)
    variants = [
        (Echo(), SAMPLING, HISTORY),
        (Echo(flavour=1), SAMPLING, HISTORY),
        (Echo(), replace(SAMPLING, seed=2), HISTORY),
        (Echo(), replace(SAMPLING, n=5), HISTORY),
        (Echo(), SAMPLING, HISTORY.slice(1)),
    ]
    plans = []
    for policy, sampling, histories in variants:
        generate(policy, histories, TEST, pool, sampling)
        plans.append(pool.planned)
    assert len(set(plans)) == len(variants)
    assert set(plans[0]) & set(plans[3]), "what n does not touch is kept"
    before = contents(pool.folder)
    generate(Echo(), HISTORY, TEST, pool, SAMPLING)
    assert pool.planned == plans[0]
    assert {**before, "plan.json": b""} == {**contents(pool.folder), "plan.json": b""}


def test_only_a_torn_part_is_sampled_again(tmp_path, monkeypatch):
    pool = CandidatePool(tmp_path)
    generate(Echo(), HISTORY, TEST, pool, SAMPLING)
    before, sampled, sample = contents(pool.folder), [], Echo.sample
    pool.path(pool.planned[1]).write_bytes(b"torn")
    monkeypatch.setattr(Echo, "sample", lambda self, p, n, *, seed: sampled.append(p) or sample(self, p, n, seed=seed))
    generate(Echo(), HISTORY, TEST, pool, SAMPLING)
    assert len(sampled) == 1
    assert contents(pool.folder) == before


def test_the_bar_goes_to_standard_error_when_forced(tmp_path, capsys):
    generate(Echo(), HISTORY, TEST, CandidatePool(tmp_path), SAMPLING, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "20/20" in err
    assert "/s" in err


def test_a_log_says_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("bestfor.progress.EVERY", 0.0)
    said = []
    generate(Echo(), HISTORY, TEST, CandidatePool(tmp_path), SAMPLING, tell=said.append)
    assert [line.split(",")[0] for line in said] == [
        "pool: 3 of 3 parts from 'echo'",
        "candidates: 6 of 20",
        "candidates: 12 of 20",
    ]
    assert all(line.endswith(" left") and "/s, 0:00:0" in line for line in said[1:])
    said.clear()
    generate(Echo(), HISTORY, TEST, CandidatePool(tmp_path), SAMPLING, tell=said.append)
    assert said == ["pool: already there"]


KILLED = """
import os, signal, sys
from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.runs.prompts import Prompting
from bestfor.runs.sampling import SamplingSettings, generate
from bestfor.policies.transformers import TransformersPolicy
from bestfor.pool import CandidatePool

checkpoint, folder = sys.argv[1:]
done, inner = 0, TransformersPolicy._chunk

def outer(self, *rest):
    global done
    done += 1
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(self, *rest)

TransformersPolicy._chunk = outer
world = build(World(seed=2, users=5, items=(3, 4), queries=2))
policy = TransformersPolicy(checkpoint, max_new_tokens=6, chunk=4)
sampling = SamplingSettings(n=6, fit_n=3, fit_items=2, prompting=Prompting(INSTRUCTIONS["headline"], 1))
generate(policy, world.histories, world.queries, CandidatePool(folder), sampling)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(checkpoint, forks, tmp_path):
    from bestfor.policies.transformers import TransformersPolicy

    world = build(World(seed=2, users=5, items=(3, 4), queries=2))
    policy = TransformersPolicy(checkpoint, max_new_tokens=6, chunk=4)
    sampling = SamplingSettings(n=6, fit_n=3, fit_items=2, prompting=Prompting(INSTRUCTIONS["headline"], 1))
    whole = CandidatePool(tmp_path / "whole")
    generate(policy, world.histories, world.queries, whole, sampling)

    code, said = forks.run(KILLED, checkpoint, tmp_path / "killed")
    assert code == -signal.SIGKILL, said
    killed = CandidatePool(tmp_path / "killed")
    assert len(killed.planned) - len(killed.missing()) == 2
    assert killed.verify() == []
    generate(policy, world.histories, world.queries, killed, sampling)
    assert contents(killed.folder) == contents(whole.folder)
