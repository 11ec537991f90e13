"""What the tests of judges share."""

from dataclasses import replace

from bestfor.data.candidates import History
from bestfor.testing.rewards import taste_examples

QUICK = {"concurrency": 8, "timeout": 5, "retries": 1}


def small(**how):
    return taste_examples(**{"users": 2, "queries": 2, "candidates": 3, **how})


def with_history(examples, seen=None, tested=None):
    """What two users wrote, oldest first; none of the tests' own queries is said to be earlier."""
    texts = {"u0": ("a first", "a second", "a third"), "u1": ("b first", "b second", "b third")}
    return replace(examples, history=History(texts, seen or {}, tested or {}))


def writing(server):
    return [
        request for request in server.requests if "<persona>...</persona>" in request.body["messages"][0]["content"]
    ]
