"""Answers that labels are about."""

import pytest

from bestfor.labels.records import LoggedAnswer


@pytest.fixture
def answer():
    """Makes an answer of an id for a user."""

    def make(id="a", user="ann", texts=("one", "two", "three"), chosen=0, **values):
        count = len(texts)
        known = {
            "prompt": "say it",
            "mean": (0.0,) * count,
            "std": None,
            "chances": (1.0 / count,) * count,
            "rule": "best",
            "model": "m",
            "served": "own",
            "tokens": None,
            "time": 1.0,
        }
        return LoggedAnswer(id=id, user=user, texts=tuple(texts), chosen=chosen, **{**known, **values})

    return make
