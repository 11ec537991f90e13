"""Limit matrix libraries to one thread for the length of a call, and give back what was set.

Threads of a matrix product wait for each other by spinning. On a machine that others use too, the one that is waited
for may have no core, and the others burn theirs: small products take many times as long with several threads as with
one. How threads wait is read by OpenMP as it is loaded, so a library cannot choose it without changing it for
everybody in the process; how many there are can be chosen for a call.

What is limited lies on two levels. OpenMP, and MKL within torch, count per Python thread: other threads see nothing.
OpenBLAS, which NumPy and SciPy bring, has one count for the process: it is one from the first call that begins
to the last that ends, in whatever threads they run, and other work of the process finds it so meanwhile.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from threadpoolctl import ThreadpoolController

SMALL = 512
"""Rows of the largest square matrices that one thread serves as well as several."""


class _OneThread:
    """One entry of :func:`one_thread`; a generator would take a request's small products twice the time."""

    __slots__ = ("_give_back", "_nested")

    def __enter__(self) -> None:
        self._nested = getattr(_here, "limited", False)
        if self._nested:
            return
        _here.limited, self._give_back = True, [_leave]
        try:
            _process.__enter__()
            self._give_back.append(_process.__exit__)
            self._give_back += _limit_torch() + _limit_openmp()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if not self._nested:
            for give_back in reversed(self._give_back):
                give_back()


def one_thread() -> AbstractContextManager[None]:
    """Run matrix products of this Python thread on one thread; may be nested, and entered by several at once."""
    return _OneThread()


def for_size(size: int) -> AbstractContextManager[None]:
    """Run on one thread where matrices are small, else on as many as are set.

    Args:
        size: rows of the largest square matrix of the work, for instance the features of a linear model.
    """
    return one_thread() if size <= SMALL else nullcontext()


_here = threading.local()


class _ProcessLimit:
    """Keep BLAS at one thread from the first entry to the last exit."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                libraries = _libraries("blas", len(sys.modules))
                found = [one for one in libraries if getattr(one, "threading_layer", "") != "openmp"]
                # one that is at one thread already has nothing to be changed: a request's products take less time
                self._before = [(one, count) for one in found if (count := one.num_threads) != 1]
                for library, _ in self._before:
                    _set_for_all(library, 1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for library, count in self._before:
                    _set_for_all(library, count)


_process = _ProcessLimit()


def _set_for_all(library: Any, count: int) -> None:  # noqa: ANN401 - threadpoolctl names no type
    """Set a library's count for the process; threadpoolctl lets one thread do so until that thread gives it up."""
    give_up = getattr(library, "clear_controlling_thread", None)
    if give_up is not None:
        give_up(force=True)
    library.set_num_threads(count)
    if give_up is not None:
        give_up(force=True)


def _leave() -> None:
    _here.limited = False


def _limit_openmp() -> list[Callable[[], object]]:
    """Limit OpenMP for the calling thread; gives what gives its threads back."""
    found: list[Callable[[], object]] = []
    for library in _libraries("openmp", len(sys.modules)):
        if (count := library.num_threads) != 1:
            library.set_num_threads(1)
            found.append(partial(library.set_num_threads, count))
    return found


@lru_cache(maxsize=8)
def _libraries(sort: str, modules: int) -> tuple[Any, ...]:
    """Find the loaded libraries of a sort, anew where modules were imported since, as they may have brought some."""
    return tuple(one for one in _controller(modules).lib_controllers if one.user_api == sort and one.num_threads)


@lru_cache(maxsize=1)
def _controller(modules: int) -> ThreadpoolController:
    return ThreadpoolController()


def _limit_torch() -> list[Callable[[], object]]:
    """Limit the MKL that is built into torch, which OpenMP's count does not reach after ``torch.set_num_threads``."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_num_threads"):
        return []
    # Else torch would set this thread's count at its first product, over the limit.
    torch.get_num_threads()
    limit = _mkl_limit(str(torch.__file__))
    return [] if limit is None else [partial(limit, limit(1))]


@lru_cache(maxsize=1)
def _mkl_limit(torch: str) -> Any:  # noqa: ANN401 - a function of a shared library
    """Find what sets MKL's count for the calling thread and returns the one before (0: none); None without MKL."""
    try:
        return ctypes.CDLL(str(Path(torch).parent / "lib" / "libtorch_cpu.so")).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):
        return None
