"""Journals of both databases."""

import uuid

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

from sqlalchemy import create_engine, make_url, text

from bestfor.serving.journal import Journal, Label, LoggedAnswer, database
from support.postgres import postgres


@pytest.fixture(autouse=True)
def no_waiting(request, monkeypatch):
    """Nothing waits for the disk but in tests that are about it."""
    if "disk" not in request.node.name:
        monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")


@pytest.fixture(scope="session")
def postgres_server():
    with postgres() as address:
        if address is None:
            pytest.skip("no PostgreSQL: set BESTFOR_TEST_POSTGRES to an address, or put initdb and postgres on PATH")
        yield address


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def address(request, tmp_path):
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'feedback.db'}"
        return
    url = make_url(request.getfixturevalue("postgres_server")).set(drivername="postgresql+pg8000")
    name = f"bestfor_{uuid.uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


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
