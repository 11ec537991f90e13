import pytest

from bestfor.backends.parts import WorkPart
from bestfor.errors import InputError


def test_every_piece_falls_to_one_part():
    parts = [WorkPart.parse(f"{index}/3") for index in range(3)]
    assert [sum(part.has(piece) for part in parts) for piece in range(10)] == [1] * 10
    assert [piece for piece in range(10) if parts[1].has(piece)] == [1, 4, 7]
    assert [part.has_key(bytes(7) + b"\x05rest") for part in parts] == [False, False, True]
    assert [str(part) for part in parts] == ["0/3", "1/3", "2/3"]


@pytest.mark.parametrize("said", ["3/3", "1", "a/2", "-1/2", "1/0", ""])
def test_a_part_is_written_i_of_n(said):
    with pytest.raises(InputError, match=r"--part: found .*; expected i/n"):
        WorkPart.parse(said)
