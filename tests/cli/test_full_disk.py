import resource
import subprocess
import sys

import pytest

RUN = """
[data]
source = "table"
path = "{table}"
[split]
min_fit = 5
min_test = 5
[[reward]]
kind = "length"
"""


@pytest.mark.slow
def test_a_file_that_cannot_grow_is_one_line_and_the_same_command_goes_on(tmp_path):
    rows = [f'u{user},"text {text} of {text * text}",{user * text % 5}' for user in range(12) for text in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(["user,text,rating", *rows]))
    (tmp_path / "run.toml").write_text(RUN.format(table=tmp_path / "table.csv"))
    command = [sys.executable, "-m", "bestfor", "run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run")]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    failed = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert failed.returncode == 2
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("bestfor: ")
    assert "found file too large; expected a disk with room that can be written; what was done is kept" in last
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "data: already there" in done.stderr
    assert (tmp_path / "run" / "diagnosis.json").is_file()
