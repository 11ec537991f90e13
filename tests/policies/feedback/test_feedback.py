"""Textual feedback: a scripted model that does as it is advised, and the shipped model, which cannot."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bestfor.data.world import INSTRUCTIONS
from bestfor.diagnostics import best_by_tokens
from bestfor.errors import InputError
from bestfor.lm.chat import messages
from bestfor.policies.base import Budgeted, Policy, Prompt, Resumable
from bestfor.policies.feedback import FeedbackPolicy, free_text_policy
from bestfor.policies.feedback.prompts import fit_to_budget, revision
from bestfor.policies.replay import ReplayPolicy
from bestfor.policies.transformers import TransformersPolicy
from support.answers import prompts
from support.reader import kind_of, obedient, quiet
from support.servers import chat


def test_it_is_a_policy(feedback):
    made, _ = feedback()
    assert isinstance(made, Policy)
    assert isinstance(made, Resumable)
    assert isinstance(made, Budgeted)
    assert made.name == "m with feedback"
    assert made.chunk == made.policy.chunk
    assert made.parallel == made.policy.parallel


def test_what_decides_what_is_written_is_in_the_signature(feedback):
    made, _ = feedback()
    others = [replace(made, width=4), replace(made, contrast=False), replace(made, identity="another")]
    others += [replace(made, critique_tokens=21), replace(made, critic=ReplayPolicy("x", chunk=1))]
    others.append(replace(made, policy=replace(made.policy, temperature=0.5)))
    with pytest.raises(InputError, match="no file"):
        _ = others[4].signature
    found = [repr(one.signature) for one in (made, *others[:4], others[5])]
    assert len(set(found)) == len(found)
    assert all(isinstance(value, str | int | float) for value in made.signature.values())


def test_a_model_that_follows_a_correct_critique_improves(feedback):
    made, server = feedback()
    traces = made.refine(prompts("a", "b"), 9, seed=3)
    for trace in traces:
        marked = [one.text.count("!") for one in trace.candidates]
        assert list(trace.scores) == marked
        assert max(marked[:3]) < max(marked[3:6]) < max(marked[6:])
        assert trace.answer.text.count("!") == max(marked)
        first, second = trace.steps
        assert first.critique.text == "A has more marks"
        assert first.advice.text == "- more"
        assert marked[first.best] == max(marked[:3])
        assert marked[first.worst] == min(marked[:3])
        assert marked[second.best] == max(marked[:6])
        assert not first.plain
    kinds = Counter(kind_of(request) for request in server.requests)
    assert kinds == {"draft": 2, "critique": 4, "advice": 4, "revision": 4}
    assert made.sample(prompts("b", "a"), 9, seed=3) == [list(trace.candidates) for trace in reversed(traces)]


def test_all_generated_tokens_are_counted(feedback):
    made, _ = feedback()
    [trace] = made.refine(prompts("a"), 9, seed=0)
    # 6 tokens for every choice of the server: 9 candidates, and a critique and advice before steps 1 and 2
    assert trace.spent[-1] == 6 * (9 + 4)
    assert trace.critique_tokens == 24
    assert np.diff(trace.spent)[[2, 5]].min() > 12
    assert sum(one.tokens for one in trace.candidates) == 54
    assert made.spent == {"a": trace.spent}
    assert made.notes[0] == "feedback: 54 tokens of candidates, 24 of critiques and advice"
    assert made.policy.usage.completion_tokens == trace.spent[-1]


def test_a_hacked_reward_rises_while_utility_falls(feedback):
    """The best scored so far never scores less by construction; what it is worth is another matter."""
    made, _ = feedback(score=quiet)
    [trace] = made.refine(prompts("a"), 12, seed=0)
    utility = [one.text.count("!") for one in trace.candidates]
    curve = best_by_tokens(trace.scores, utility, trace.spent, trace.spent)
    assert (np.diff(curve.reward[0]) >= 0).all()
    assert curve.reward[0, -1] > curve.reward[0, 2]
    assert curve.utility[0, -1] < curve.utility[0, 2] < np.mean(utility[:3])


def test_the_first_step_is_what_the_policy_writes_by_itself(feedback):
    made, server = feedback()
    [written] = made.sample(prompts("a"), 7, seed=5)
    draft = server.requests[0].body
    assert made.policy.sample(prompts("a"), 3, seed=5) == [written[:3]]
    assert server.requests[-1].body == draft
    assert [request.body.get("n", 1) for request in server.requests[:7]] == [3, 1, 1, 3, 1, 1, 1]


def test_every_call_has_a_seed_of_its_own(feedback):
    made, server = feedback()
    made.sample(prompts("a", "b"), 9, seed=1)
    seeds = [request.body["seed"] for request in server.requests]
    assert len(set(seeds)) == len(seeds)
    made.sample(prompts("b", "a"), 9, seed=1)
    assert sorted(request.body["seed"] for request in server.requests[len(seeds) :]) == sorted(seeds)


def test_critiques_are_longer_and_answers_keep_to_their_form(feedback):
    made, server = feedback(critique_tokens=77)
    made = replace(made, policy=replace(made.policy, stop=("\n",), user_model="lora-{user}"))
    made.sample([replace(one, user_id="ann") for one in prompts("a")], 6, seed=0)
    for request in server.requests:
        own = kind_of(request) in ("draft", "revision")
        assert request.body["max_tokens"] == (32 if own else 77)
        assert ("stop" in request.body) == own
        assert request.body["model"] == ("lora-ann" if own else "m")
    made.policy.close()


def test_without_contrast_only_the_best_is_reviewed(feedback):
    made, server = feedback(lambda request: chat("more") if kind_of(request) == "critique" else obedient(request))
    made = replace(made, contrast=False)
    [trace] = made.refine(prompts("a"), 6, seed=0)
    asked = [request for request in server.requests if kind_of(request) == "critique"]
    assert len(asked) == 1
    assert "Draft B" not in asked[0].body["messages"][-1]["content"]
    assert trace.steps[0].worst is None
    assert trace.best >= 3


def test_another_critic_writes_the_critiques(feedback, policy):
    other, critic = policy(obedient)
    made, server = feedback(critic=other)
    made.sample(prompts("a"), 6, seed=0)
    assert {kind_of(request) for request in server.requests} == {"draft", "revision"}
    assert {kind_of(request) for request in critic.requests} == {"critique", "advice"}
    assert "critic" in made.signature


def long_prompt(name, turns):
    body = [{"role": "system", "content": "do"}]
    for turn in range(turns):
        body += [{"role": "user", "content": f"earlier {turn} " + "x" * 60}, {"role": "assistant", "content": "y" * 30}]
    return Prompt(name, (*body, {"role": "user", "content": name}))


def test_chats_keep_to_the_budget_by_whole_turns(feedback):
    made, server = feedback(context=330)
    [trace] = made.refine([long_prompt("a", 5)], 6, seed=0)
    critic = free_text_policy(made.policy, 20)
    whole = {turn["content"] for turn in long_prompt("a", 5).messages}
    for request in server.requests:
        asked = request.body["messages"]
        own = kind_of(request) in ("draft", "revision")
        assert made.count(asked) <= (made if own else critic).budget
        if kind_of(request) == "revision":
            assert {turn["content"] for turn in asked[:-2]} <= whole
    asked = next(request for request in server.requests if kind_of(request) == "critique")
    asked = asked.body["messages"][-1]["content"]
    kept = re.findall(r"earlier (\d) ", asked)
    assert kept == sorted(kept)
    assert kept[-1] == "4"
    assert trace.steps[0].dropped == 2 * (5 - len(kept)) > 0
    assert "feedback: 1 of 1 steps had no room for all earlier turns" in made.notes


def test_what_finds_no_room_at_all_is_not_asked(feedback):
    made, server = feedback(context=100)
    [trace] = made.refine(prompts("a"), 6, seed=0)
    assert trace.steps[0].plain == "no room"
    assert {kind_of(request) for request in server.requests} == {"draft"}


def test_fitting_leaves_the_task_and_the_query(feedback):
    made, _ = feedback(context=200)
    request = long_prompt("the query", 3).messages
    room = fit_to_budget(revision("best", "advice"), request, made.policy)
    assert [turn["role"] for turn in room.messages][:2] == ["system", "user"]
    assert room.messages[-3]["content"] == "the query"
    assert made.count(list(room.messages)) <= made.budget
    assert fit_to_budget(revision("b" * 900, "advice"), request, made.policy) is None
    assert fit_to_budget(revision("b" * 900, "advice"), request, ReplayPolicy("x")).dropped == 0


WORLD = [
    Prompt(f"q{index}", tuple(messages(INSTRUCTIONS["headline"], items, facts)), "ann")
    for index, (items, facts) in enumerate(
        [
            ([("headline | place: Foxcombe | event: bake sale | count: 70 | day: Monday", "Foxcombe plans bake sale")],
             "headline | place: Oakmere | event: harvest fair | count: 340 | day: Friday"),
            ([], "headline | place: Dunmoor | event: kite contest | count: 60 | day: Sunday"),
            ([], "headline | place: Saltby | event: soup festival | count: 200 | day: Monday"),
        ]
    )
]  # fmt: skip


@pytest.mark.slow
def test_the_shipped_model_repeats_its_bytes_and_counts_its_tokens():
    """It was not made to follow critiques: nothing is said of quality."""
    asked = []

    def lengths(requests, texts):
        asked.append([request.query_id for request in requests])
        return [[float(len(text)) for text in one] for one in texts]

    inner = TransformersPolicy("embedded", max_new_tokens=24)
    made = FeedbackPolicy(inner, lengths, "length", width=3, critique_tokens=8)
    traces = made.refine(WORLD, 5, seed=4)
    assert asked == [["q0", "q1", "q2"]] * 2
    again = FeedbackPolicy(inner, lengths, "length", width=3, critique_tokens=8)
    assert again.refine(WORLD[::-1], 5, seed=4)[::-1] == traces
    assert again.sample(WORLD, 3, seed=4) == inner.sample(WORLD, 3, seed=4) == [list(t.candidates[:3]) for t in traces]
    assert again._critic.checkpoint is inner.checkpoint
    for trace in traces:
        assert len(trace.candidates) == 5
        assert len({one.text for one in trace.candidates[3:]}) > 1
        assert all(0 < one.tokens <= 24 for one in trace.candidates)
        assert trace.scores[trace.best] == max(len(one.text) for one in trace.candidates)
        for step in trace.steps:
            assert step.plain in ("", "empty critique", "empty advice")
            assert 0 < step.critique.tokens <= 8
        total = sum(one.tokens for one in trace.candidates) + sum(step.tokens for step in trace.steps)
        assert trace.spent[-1] == total
        assert made.spent[trace.prompt.query_id] == trace.spent
    assert made.sample(WORLD[1:2], 3, seed=5) != [list(traces[1].candidates[:3])]
