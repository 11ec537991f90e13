"""Hold back requests to a local server that its context has no room for: it would begin all, and fail most half-way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_BYTES = 3
"""Bytes of a prompt for each of its tokens, a generous estimate for most languages."""


def tokens_of(text: str, most: int) -> int:
    """Estimate the tokens of a prompt, and add those that its answers may have."""
    return -(-len(text.encode(errors="replace")) // _BYTES) + most


class ContextRoom:
    """Tokens of context that all requests under way share; used within one event loop.

    Args:
        tokens: how many there are.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens, self._taken, self._freed = tokens, 0, asyncio.Event()

    @asynccontextmanager
    async def hold(self, wanted: int) -> AsyncIterator[None]:
        """Wait until so many tokens are free, and keep them while the block runs; more than all there are, alone."""
        part = min(wanted, self._tokens)
        while self._taken + part > self._tokens:
            self._freed.clear()
            await self._freed.wait()
        self._taken += part
        try:
            yield
        finally:
            self._taken -= part
            self._freed.set()
