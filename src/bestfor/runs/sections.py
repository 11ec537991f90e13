"""Tables of a run's file that :mod:`bestfor.runs.config` reads: what all have in common, and those within [policy]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """Table of a run's file: unknown keys are errors, numbers are finite, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, data: object) -> object:
        """Hand on ``n = true`` as text, which no number is; as a truth value it would count as 1."""
        if not isinstance(data, Mapping):
            return data
        return {
            name: str(value).lower() if isinstance(value, bool) and _is_number(cls.model_fields.get(name)) else value
            for name, value in data.items()
        }


def _is_number(field: FieldInfo | None) -> bool:
    kinds = () if field is None else (get_args(field.annotation) or (field.annotation,))
    return bool(kinds) and all(kind in (int, float, type(None)) for kind in kinds)


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
    "rewarded": (None,),
}
"""Keys that came later, with their defaults."""


class RewardedTable(Section):
    """Adapters tuned for different metrics, and how they are mixed (rewarded soups).

    Attributes:
        metrics: an adapter is trained for each, on the policy's own candidates that this metric likes best.
        n: candidates of each item that trains.
        keep: how many of them, the best, train.
        weights: of the adapters, which sum to 1; chosen on held-out items by the primary metric where none are given.
        grid: weights are tried in steps of 1 / grid.
        held_out: share of the items that train adapters which choose the weights instead.
        held_out_n: candidates of each of these, at each weighting.
    """

    metrics: tuple[str, ...] = Field(min_length=1)
    n: int = Field(default=8, ge=2)
    keep: int = Field(default=1, ge=1)
    weights: tuple[float, ...] = ()
    grid: int = Field(default=4, ge=1)
    held_out: float = Field(default=0.25, gt=0, lt=1)
    held_out_n: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> RewardedTable:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("distinct metrics")
        if self.keep >= self.n:
            raise ValueError(f"keep below n, not {self.keep} of {self.n}")
        fine = min(self.weights, default=0.0) >= 0 and abs(sum(self.weights) - 1.0) < 1e-6
        if self.weights and (len(self.weights) != len(self.metrics) or not fine):
            raise ValueError("a weight of 0 or more for each metric, which sum to 1")
        return self


class AdaptersTable(BriefSection):
    """Per-user LoRA on the policy's checkpoint, trained within the run.

    Keys as in :class:`bestfor.policies.adapters.LoraSettings`.

    Attributes:
        groups: how many groups of users who write alike have an adapter of their own below their members' (PROPER);
            ``shared_steps`` are then those of a group's. 0 for none.
        soup: how many adapters of users who write alike are mixed for each (personalized soups), the user's own among
            them. 0 for the user's own alone.
        rewarded: adapters for metrics in the place of users' (rewarded soups).
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] = Field(default=("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    steps: int = Field(default=20, ge=0)
    shared_steps: int = Field(default=0, ge=0)
    rate: float = Field(default=1e-3, gt=0)
    tokens: int = Field(default=2048, ge=1)
    limit: int = Field(default=2048, ge=1)
    groups: int = Field(default=0, ge=0)
    soup: int = Field(default=0, ge=0)
    rewarded: RewardedTable | None = None

    @model_validator(mode="after")
    def _groups_have_steps(self) -> AdaptersTable:
        if self.rewarded is not None and (self.groups or self.soup or self.shared_steps):
            raise ValueError("rewarded, or groups, soup and shared_steps: its adapters are of metrics, not of users")
        if self.groups and not self.shared_steps:
            raise ValueError("shared_steps above 0 for the groups' adapters")
        if not self.steps and (self.soup or not self.shared_steps):
            raise ValueError(
                "steps above 0, or shared_steps above 0 and no soup: users then have no adapters of their own"
            )
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
