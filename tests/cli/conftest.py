"""Diagnosing a table from the command line."""

import json
import sys
from dataclasses import dataclass
from io import StringIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from bestfor.__main__ import main
from bestfor.report import print_summary


@dataclass(frozen=True)
class Plain:
    """A harmless table that hostile ones are made from: three users, two queries each, six candidates a query."""

    users: int = 3
    queries: int = 2
    size: int = 6

    @property
    def rows(self):
        return self.users * self.queries * self.size

    def draws(self, seed):
        return np.random.default_rng(seed).normal(size=self.rows).round(3).tolist()

    def each(self, values):
        """These values in every query."""
        return list(values) * (self.rows // len(values))

    def whole(self, value):
        """A value of the row's number in every row."""
        return [value(row) for row in range(self.rows)]

    def columns(self, **changed):
        plain = {
            "user": self.whole(lambda row: f"u{row // (self.queries * self.size)}"),
            "query": self.whole(lambda row: f"q{row // self.size}"),
            "reward": self.draws(1),
            "utility": self.draws(2),
        }
        return plain | changed

    def csv(self, **changed):
        lines = zip(*self.columns(**changed).values(), strict=True)
        return HEADER + "".join(",".join(map(str, row)) + "\n" for row in lines)

    def table(self, **changed):
        return pa.table(self.columns(**changed))

    def objects(self, **changed):
        table = self.columns(**changed)
        return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]

    def jsonl(self, rows=None):
        return "".join(json.dumps(row) + "\n" for row in (self.objects() if rows is None else rows))

    def made(self, content):
        """What a test asks for: contents as they are, or made from this table by a function."""
        return content(self) if callable(content) else content


HEADER = "user,query,reward,utility\n"


@pytest.fixture(scope="session")
def plain():
    return Plain()


@pytest.fixture
def model():
    """The only model of an answer that is no error."""

    def only(result):
        assert isinstance(result, dict), result
        return result["models"]["reward"]

    return only


@pytest.fixture
def ask(monkeypatch, capfd, tmp_path, plain):
    """Diagnose a table given as bytes, text, columns or rows, or made from the plain one: JSON, page, summary."""

    def run(name, content, *words):
        path = tmp_path / name
        content = plain.made(content)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        elif isinstance(content, list):
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        elif content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        page = tmp_path / "page.html"
        monkeypatch.setattr(sys, "argv", ["bestfor", "diagnose", str(path), "--json", "--out", str(page), *words])
        code = main()
        out, err = capfd.readouterr()
        if code:
            assert (code, out, len(err.splitlines())) == (2, "", 1)
            return err
        result = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
        summary = StringIO()
        print_summary(result, Console(file=summary, highlight=False))
        for text in (summary.getvalue(), page.read_text(encoding="utf-8")):
            assert "nan" not in text.split()
        return result

    return run


HEADLINES = """
name = "headlines"
[data]
source = "lamp"
questions = "{folder}/dev_questions.json"
outputs = "{folder}/dev_outputs.json"
[split]
min_fit = 4
min_test = 2
[policy]
kind = "replay"
model = "{folder}/candidates.jsonl"
n = 4
fit_n = 2
items = 2
retriever = "recency"
prompt_tokens = 120
chunk = 2
[[reward]]
kind = "length"
[[reward]]
kind = "logprob"
[diagnosis]
n = [1, 2, 4]
"""


@pytest.fixture
def headlines(tmp_path):
    """A run on six authors in LaMP's format, with candidates that were written elsewhere; the path of its file."""
    questions, golds, written = [], [], []
    for user in range(6):
        profile = [
            {
                "id": f"i{at}",
                "text": f"article {user} {at} about a town",
                "title": f"town {user} {at}",
                "date": f"201{at}",
            }
            for at in range(5)
        ]
        asked = f"Generate a headline for the following article: what is new in town {user}"
        questions.append({"id": f"q{user}", "user_id": f"u{user}", "input": asked, "profile": profile})
        golds.append({"id": f"q{user}", "output": f"town {user} is new"})
        for name in (f"q{user}", *(f"u{user}/i{at}" for at in range(5))):
            texts = [" ".join(["town", str(user), "is", "new", "x", "y"][: 1 + (at + user) % 6]) for at in range(4)]
            written += [{"query_id": name, "text": text, "logprob": -1.0 - at} for at, text in enumerate(texts)]
    (tmp_path / "dev_questions.json").write_text(json.dumps(questions))
    (tmp_path / "dev_outputs.json").write_text(json.dumps({"task": "LaMP_4", "golds": golds}))
    (tmp_path / "candidates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    (tmp_path / "run.toml").write_text(HEADLINES.format(folder=tmp_path))
    return tmp_path / "run.toml"
