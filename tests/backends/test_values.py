import io
from dataclasses import dataclass

import numpy as np
import pytest

from bestfor.backends.parts import WorkPart
from bestfor.backends.values import pack, unpack
from bestfor.errors import BestforError


@dataclass
class Foreign:
    """Of no module of the package."""

    one: int = 1


def test_values_come_back_bit_by_bit():
    arrays = [np.array([[1.5, np.nan], [-0.0, np.inf]]), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros(0)]
    found = unpack(pack({"a": arrays, ("b", 2): (True, None, "ü", 0.1, np.uint64(2**63)), "part": WorkPart(1, 3)}))
    for one, other in zip(found["a"], arrays, strict=True):
        assert (one.dtype, one.shape, one.tobytes("A")) == (other.dtype, other.shape, other.tobytes("A"))
        assert one.flags.f_contiguous == other.flags.f_contiguous
    assert found["b", 2] == (True, None, "ü", 0.1, np.uint64(2**63))
    assert type(found["b", 2][4]) is np.uint64
    assert found["part"] == WorkPart(1, 3)


@pytest.mark.parametrize("value", [Foreign(), {1, 2}, np.array(["a"], dtype=object), np.array(["a"]), object(), b"x"])
def test_what_is_no_plain_value_is_refused(value):
    with pytest.raises(TypeError):
        pack([value])


def test_a_file_names_no_code():
    whole = pack(WorkPart(1, 3))
    for made in (
        b"",
        whole[:50],
        whole.replace(b"WorkPart", b"WorkPort"),
        pickled(),
        whole.replace(b"bestfor.", b"bestfar."),
    ):
        with pytest.raises(BestforError, match="cannot be read"):
            unpack(made)


def pickled():
    sink = io.BytesIO()
    np.savez(sink, tree=np.array([print], dtype=object))
    return sink.getvalue()
