"""The table ``[backend]`` of a run's file."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bestfor.runs.sections import Section


class BackendTable(Section):
    """Table that says who does the work of a run; it changes no byte of what is left and is not in ``run.toml``.

    Keys as in the backends' own classes; those that are not given are left to them.

    Attributes:
        kind: who does it.
        place: a shared place for the run's folder, as fsspec names it (``s3://bucket/run``), for machines without a
            folder in common: what others left there is fetched first, what is made here is put there.
        options: what a class from outside takes, ``kind = "package.module:Class"``.
    """

    kind: str = "local"
    workers: int | None = Field(default=None, ge=0)
    in_flight: int | None = Field(default=None, ge=0)
    address: str | None = Field(default=None, min_length=1)
    cpus: float | None = Field(default=None, ge=0)
    gpus: float | None = Field(default=None, ge=0)
    place: str = ""
    options: dict[str, Any] = Field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """Give the options of the backend that the table has."""
        own = self.model_dump(exclude={"kind", "place", "options"}, exclude_none=True)
        return {**own, **self.options}
