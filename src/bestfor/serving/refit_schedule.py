"""Keep the model of a tenant fresh: see whether a refit is due, do it once for all gateways, find the newest model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bestfor.artifacts import CONFIG_FILE
from bestfor.errors import BestforError, InputError
from bestfor.files import hash_text, remove_unheld
from bestfor.labels.scale import LabelScale
from bestfor.serving.base import ServedModel, open_model, scale_of
from bestfor.serving.refit import Source
from bestfor.serving.refit_comparison import renew

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal
    from bestfor.serving.journal.refits import RefitRecord

KEPT = 2
"""Folders of refits that are kept: the newest, and the one before, which another gateway may be opening."""
SERVED_AFTER = 600.0
"""Seconds after the end of a refit from which every gateway of the journal serves it."""


@dataclass(frozen=True)
class RefitPolicy:
    """Conditions under which a tenant's model is fitted again, and where the new one lies.

    Attributes:
        share: growth of the labels, over the run's rows and the labels of the refit before, from which one is due.
        least: labels below which none is due, whatever the share.
        folder: of the new models; None takes ``refits`` beside the model's own run or folder.
    """

    share: float = 0.2
    least: int = 200
    folder: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a share or a number that is not above 0.
        """
        if not self.share > 0:
            raise InputError("refit.share", f"{self.share:g}", "a number above 0")
        if self.least < 1:
            raise InputError("refit.least", str(self.least), "1 or more")


@dataclass(frozen=True)
class Due:
    """Growth of a tenant's journal since its model was last fitted.

    Attributes:
        new: labels since.
        needed: labels from which a refit is due.
        forgotten: whether somebody was forgotten since, whom the present model may hold.
    """

    new: int
    needed: int
    forgotten: bool

    @property
    def due(self) -> bool:
        """True where a refit is due."""
        return self.new >= self.needed or self.forgotten

    def __str__(self) -> str:
        """Say it in words."""
        if self.forgotten:
            return "due: somebody was forgotten since the last refit"
        return f"{'due' if self.due else 'not due'}: {self.new} new labels, {self.needed} make a refit due"


def growth(journal: Journal, tenant: str, model: ServedModel, policy: RefitPolicy) -> Due:
    """Say how far a tenant's journal has grown since the last refit that ended."""
    from bestfor.serving.journal.refits import count_labels, last_forgotten, refits_of

    ended = [one for one in refits_of(journal, model.digest, tenant) if one.state in ("swapped", "kept")]
    before = ended[-1].labels if ended else 0
    needed = max(policy.least, int(policy.share * (_rows(model.run) + before)))
    swapped = [one for one in ended if one.state == "swapped"]
    gone = bool(swapped) and last_forgotten(journal) >= swapped[-1].begun
    # Labels that were withdrawn since may leave fewer than there were.
    return Due(max(0, count_labels(journal, tenant) - before), needed, gone)


def newest(journal: Journal, tenant: str, model: ServedModel) -> Path | None:
    """Find the folder of a tenant's newest refit; None where the model itself is the newest."""
    from bestfor.serving.journal.refits import refits_of

    taken = [one for one in refits_of(journal, model.digest, tenant) if one.state == "swapped"]
    if not taken:
        return None
    folder = Path(taken[-1].folder)
    return folder if (folder / CONFIG_FILE).is_file() else None


def keep_fresh(
    journal: Journal,
    model: ServedModel,
    tenant: str = "",
    policy: RefitPolicy | None = None,
    scale: LabelScale | None = None,
    options: Mapping[str, Any] | None = None,
) -> RefitRecord | None:
    """Fit a tenant's model again and compare it, unless somebody else is at it.

    Args:
        journal: an open one.
        model: the one that gateways were started with.
        tenant: whose labels.
        policy: where the new model lies.
        scale: how labels are read; None takes the run's.
        options: ``encoder`` and ``cache``, as the kind takes them.

    Returns:
        What became of it, as the journal has it; None where somebody else has begun one.

    Raises:
        InputError: nobody knows the run of the model, or there are no labels.
    """
    from bestfor.serving.journal.refits import claim_refit, end_refit, last_forgotten, refits_of

    policy, options = policy or RefitPolicy(), dict(options or {})
    if model.run is None or model.folder is None:
        raise InputError("refit", "a model whose run nobody knows", "one that was opened from a run's folder")
    number = claim_refit(journal, tenant, model.digest)
    if number is None:
        return None
    out = _folder(model, policy, tenant, number)
    began = time.monotonic()
    try:
        present = newest(journal, tenant, model)
        taken = [one for one in refits_of(journal, model.digest, tenant) if one.state == "swapped"]
        holds = present is not None and last_forgotten(journal) >= taken[-1].begun
        served = model if present is None else open_model(present, **options)
        read = scale if scale is not None else scale_of(model.run)
        out.parent.mkdir(parents=True, exist_ok=True)
        done = renew(served, out, Source(journal, tenant, read, lambda known: None), replaces=holds, **options)
    except BaseException as error:
        reason = str(error) if isinstance(error, BestforError) else type(error).__name__
        end_refit(journal, tenant, model.digest, number, "failed", "", {"reason": reason})
        raise
    report = {**done.to_dict(), "seconds": round(time.monotonic() - began, 3)}
    if done.folder is not None:
        journal.note_folder(out)
    end_refit(journal, tenant, model.digest, number, done.decision, done.folder or "", report)
    remove_old(journal, tenant, model)
    return next(one for one in refits_of(journal, model.digest, tenant) if one.number == number)


def remove_old(journal: Journal, tenant: str, model: ServedModel, served_after: float = SERVED_AFTER) -> None:
    """Remove folders of refits that nobody serves any more.

    That is all but the two newest; and the one before the newest, too, where somebody was forgotten since it was begun.

    Args:
        journal: an open one.
        model: the one that gateways were started with.
        tenant: whose refits.
        served_after: seconds after the end of the newest from which nobody serves the one before.
    """
    from bestfor.serving.journal.refits import last_forgotten, refits_of

    taken = [one for one in refits_of(journal, model.digest, tenant) if one.state == "swapped"]
    old = taken[:-KEPT]
    if taken and (taken[-1].ended or 0.0) + served_after <= time.time():
        gone = last_forgotten(journal)
        old += [one for one in taken[-KEPT:-1] if one.begun <= gone]
    for one in old:
        if Path(one.folder).is_dir():
            remove_unheld(Path(one.folder))


def _folder(model: ServedModel, policy: RefitPolicy, tenant: str, number: int) -> Path:
    """Name a new model's folder; a tenant's name may be anything, so its hash stands for it."""
    place = model.run if model.run is not None else model.folder
    home = Path(policy.folder) if policy.folder is not None else Path(str(place)) / "refits"
    who = f"-{hash_text(tenant)[:8]}" if tenant else ""
    # Other gateways of the journal may have another working directory.
    return home.absolute() / f"{model.digest[:8]}{who}-{number}"


def _rows(run: Path | None) -> int:
    """Count the labelled rows of a run."""
    if run is None:
        return 0
    try:
        return max((pq.read_metadata(path).num_rows for path in (run / "utilities").glob("*.parquet")), default=0)
    except (OSError, pa.ArrowException):
        return 0
