"""Diagnosing a table from the command line."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.__main__ import main


@pytest.fixture
def ask(monkeypatch, capfd, tmp_path):
    """Diagnose a table given as bytes, text, columns or rows; as JSON and again as a page and a summary."""

    def run(name, content, *words):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        elif isinstance(content, list):
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        elif content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        monkeypatch.setattr(sys, "argv", ["bestfor", "diagnose", str(path), "--json", *words])
        code = main()
        out, err = capfd.readouterr()
        if code:
            assert (code, out, len(err.splitlines())) == (2, "", 1)
            return err
        page = tmp_path / "page.html"
        monkeypatch.setattr(sys, "argv", ["bestfor", "diagnose", str(path), "--out", str(page), *words])
        assert main() == 0
        summary = capfd.readouterr().out
        for text in (summary, page.read_text(encoding="utf-8")):
            assert "nan" not in text.replace("finance", "").split()
        return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))

    return run
