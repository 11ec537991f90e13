"""Do one of n parts of a whole run, as far as the other parts let it; a call without a part ends the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bestfor.backends.parts import WorkPart
from bestfor.endpoint.local import keeping_servers
from bestfor.runs.config import RunConfig
from bestfor.runs.stages import Stages, folds
from bestfor.runs.turns import locked_step, working

LOOK_EVERY = 15.0
"""Seconds between two looks at what other parts have done; thrice the time of a look where that is more."""


def run_part(
    config: RunConfig, out: str | Path, part: WorkPart, *, wait: float = 0.0, tell: Callable[[str], None]
) -> str:
    """Do a part of each stage of a run, up to the first stage that needs what other parts have not done.

    Candidates and utilities are needed whole by what comes after them, and texts are encoded once for all. The
    diagnosis and what follows it are left to a call without a part.

    Args:
        config: the run.
        out: its folder, which the parts share, or each its own with one place.
        part: which part.
        wait: seconds to wait for other parts in all; after them the same call goes on where this one ended.
        tell: called with one line a step.

    Returns:
        What other parts have to do before this one goes on, in words; "" where this part is done.

    Raises:
        InputError: as :func:`bestfor.runs.run.run`; or a policy that cannot be cut into parts.
    """
    until, told, look = time.monotonic() + wait, "", 0.0
    while True:
        began = time.monotonic()
        awaited = _as_far_as_it_goes(config, Path(out), part, tell if not told else _say_nothing)
        now = time.monotonic()
        if not awaited or now >= until:
            return awaited
        if told:
            # The first time is that of this part's own work, which says nothing of a look; so may be a later one.
            look = min(look or now - began, now - began)
        if awaited != told:
            tell(f"part {part} waits for {awaited}")
            told = awaited
        time.sleep(min(max(LOOK_EVERY, 3 * look), until - now))


def _as_far_as_it_goes(config: RunConfig, out: Path, part: WorkPart, tell: Callable[[str], None]) -> str:
    awaited = ""
    with working(config, out, tell, part), keeping_servers():
        for stages in folds(config, out, tell, part=part):
            awaited = _do_fold(stages, part) or awaited
            del stages
    return awaited


def _do_fold(stages: Stages, part: WorkPart) -> str:
    stages.check_ready()
    if stages.data.candidates is None:
        stages.sample()
        pool = stages.workspace.pool
        missing = pool.missing()
        if missing:
            return f"candidates: {len(missing)} of {len(pool.planned)} parts of {pool.folder} are not there"
        others = stages.measure_part()
        if others:
            return f"utilities of the parts {', '.join(f'{other}/{part.count}' for other in sorted(others))}"
    with locked_step(stages.folder, "measured"):
        stages.parts()
    stages.encode()
    unencoded = stages.unencoded()
    if unencoded:
        return f"embeddings of {unencoded} texts"
    tables = stages.own_models()
    stages.predict_together(tables)
    for table in tables:
        stages.predict(table)
    return ""


def _say_nothing(line: str) -> None:
    """Say nothing: the steps of a first look were told."""
