import os

from bestfor.files import sweep

DEAD = 2**22 + 7
"""Above the largest process id of Linux."""


def test_leftovers_of_killed_writers_are_swept_and_those_of_living_ones_kept(tmp_path):
    inner = tmp_path / "models" / "length"
    inner.mkdir(parents=True)
    left = [tmp_path / f".rougeL.parquet.{DEAD}.partial", inner / f".weights.{DEAD}.partial"]
    kept = [tmp_path / f".run.toml.{os.getpid()}.partial", tmp_path / ".note.partial", tmp_path / f"x.{DEAD}.partial"]
    for path in (*left, *kept):
        path.write_text("half")
    sweep(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
    sweep(tmp_path / "none")
