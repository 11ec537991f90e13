import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bestfor.runs.turns import working_in

HOLD = """
import sys
from pathlib import Path
from bestfor.runs.turns import working_in
with working_in(Path(sys.argv[1]), print):
    print("here", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_the_second_process_waits_and_says_so(tmp_path):
    folder, told = tmp_path / "run", []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "here\n"

        def tell(line):
            told.append(line)
            other.kill()  # a lock goes with its process, however that ends

        with working_in(folder, tell):
            assert other.wait() < 0
    assert told == [f"{folder}: another process works there, waiting until it is done"]


def test_parts_work_side_by_side_and_all_waits_for_them(tmp_path):
    folder, order = tmp_path / "run", []
    waiting = threading.Event()

    def whole():
        with working_in(folder, lambda line: waiting.set()):
            order.append("whole")

    with working_in(folder, pytest.fail, shared=True), working_in(folder, pytest.fail, shared=True):
        thread = threading.Thread(target=whole)
        thread.start()
        assert waiting.wait(20)
        order.append("parts")
    thread.join()
    assert order == ["parts", "whole"]


def test_nothing_is_left_of_a_folder_in_which_nothing_was_written(tmp_path):
    with pytest.raises(ZeroDivisionError), working_in(tmp_path / "run", print):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    Path(tmp_path / "file").touch()
    with working_in(tmp_path / "file", print):
        assert (tmp_path / "file").is_file()
