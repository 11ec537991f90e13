"""Journals of both databases."""

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

from bestfor.serving.journal import Journal, Label, LoggedAnswer
from bestfor.serving.journal import database as databases
from support.postgres import database


@pytest.fixture(autouse=True)
def no_waiting(request, monkeypatch):
    """Nothing waits for the disk but in tests that are about it."""
    if "disk" not in request.node.name:
        monkeypatch.setattr(databases, "SYNCHRONOUS", "OFF")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def address(request, tmp_path):
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'feedback.db'}"
        return
    with database(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def journal(address):
    with Journal(address) as opened:
        yield opened


@pytest.fixture
def answer():
    """Makes an answer of an id for a user."""

    def make(id="a", user="ann", texts=("one", "two", "three"), chosen=0, **values):
        count = len(texts)
        known = {
            "prompt": "say it",
            "mean": tuple(float(place) for place in range(count)),
            "std": None,
            "chances": (1 / count,) * count,
            "rule": "best",
            "model": "digest",
            "served": "own",
            "tokens": None,
            "time": 1000.0,
        }
        return LoggedAnswer(id=id, user=user, texts=tuple(texts), chosen=chosen, **{**known, **values})

    return make


@pytest.fixture
def thumb():
    """Makes a thumb under a key."""

    def make(key="k", value=1.0, user="ann", **values):
        return Label(key, user, "thumb", value=value, **{"texts": ("one",), "time": 1000.0, **values})

    return make
