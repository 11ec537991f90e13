"""Diagnosing a table from the command line."""

import json
import sys
from io import StringIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from bestfor.__main__ import main
from bestfor.report import print_summary


@pytest.fixture
def ask(monkeypatch, capfd, tmp_path):
    """Diagnose a table given as bytes, text, columns or rows; as JSON, as a page and as a summary."""

    def run(name, content, *words):
        path = tmp_path / name
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
