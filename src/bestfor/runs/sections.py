"""Tables of a run's file that :mod:`bestfor.runs.config` reads: what all have in common, and those within [policy]."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator


class Section(BaseModel):
    """Table of a run's file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BriefSection(Section):
    """Table whose later keys are written only where they differ from their defaults: older runs keep their bytes."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = handler(self)
        return {name: value for name, value in written.items() if name not in LATER or value not in LATER[name]}


LATER: dict[str, tuple[object, ...]] = {
    "moderation": ("shown",),
    "duplicates": ("error",),
    "signals": ({},),
    "shots": ((), []),
    "groups": (0,),
    "soup": (0,),
}
"""Keys that came later, with their defaults."""


class AdaptersTable(BriefSection):
    """Per-user LoRA on the policy's checkpoint, trained within the run.

    Keys as in :class:`bestfor.policies.adapters.LoraSettings`.

    Attributes:
        groups: how many groups of users who write alike have an adapter of their own below their members' (PROPER);
            ``shared_steps`` are then those of a group's. 0 for none.
        soup: how many adapters of users who write alike are mixed for each (personalized soups), the user's own among
            them. 0 for the user's own alone.
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] = Field(default=("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    steps: int = Field(default=20, ge=1)
    shared_steps: int = Field(default=0, ge=0)
    rate: float = Field(default=1e-3, gt=0)
    tokens: int = Field(default=2048, ge=1)
    limit: int = Field(default=2048, ge=1)
    groups: int = Field(default=0, ge=0)
    soup: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _groups_have_steps(self) -> AdaptersTable:
        if self.groups and not self.shared_steps:
            raise ValueError("shared_steps above 0 for the groups' adapters")
        return self


class ProfileTable(Section):
    """Summary of a user's earlier items that the policy itself writes once, and that stands in the user's prompts.

    Attributes:
        instruction: what the policy is asked for; see :data:`bestfor.policies.profiles.INSTRUCTION`.
        items: the most items that are summarised, the latest of those that all the user's queries may see.
        inputs: whether what was asked stands beside what the user wrote.
        max_new_tokens: the longest summary.
        temperature: of the summary.
    """

    instruction: str | None = Field(default=None, min_length=1)
    items: int = Field(default=8, ge=1)
    inputs: bool = True
    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.3, gt=0)
