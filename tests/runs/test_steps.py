from bestfor.files import hash_tree as tree_digest
from bestfor.files import write_text
from bestfor.runs.steps import Steps


def make(folder, calls):
    steps = Steps(folder, calls.append)

    def step(inputs, content="x"):
        return steps.run("write", inputs, ["a.txt"], lambda: write_text(folder / "a.txt", content))

    return step


def test_a_step_is_done_once_and_redone_when_inputs_or_files_change(tmp_path):
    calls = []
    step = make(tmp_path, calls)
    first = step({"seed": 0})
    assert step({"seed": 0}) == first
    assert calls == ["write", "write: already there"]
    assert step({"seed": 1}, "y") != first
    (tmp_path / "a.txt").write_text("edited")
    step({"seed": 1}, "y")
    (tmp_path / ".steps" / "write.json").write_text("{ torn")
    step({"seed": 1}, "y")
    assert calls[2:] == ["write", "write", "write"]
    assert (tmp_path / "a.txt").read_text() == "y"


def test_a_tree_hash_counts_names_and_bytes(tmp_path):
    write_text(tmp_path / "m" / "a", "1")
    write_text(tmp_path / "m" / "b", "2")
    first = tree_digest([tmp_path / "m"])
    (tmp_path / "m" / "b").rename(tmp_path / "m" / "c")
    assert tree_digest([tmp_path / "m"]) != first
    assert tree_digest([tmp_path / "gone"]) == ""
