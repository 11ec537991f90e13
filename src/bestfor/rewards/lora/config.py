"""Settings of the LoRA reward model, as plain data: nothing heavy is imported for them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Loss = Literal["gaussian", "point", "bradley_terry"]
LATER = {"members": 1, "caution": 0.0, "stop_by": "loss"}
"""Settings that came later, with their defaults: models that do without them keep their bytes."""


class Config(BaseModel):
    """Settings of backbone, adapters, loss, and training.

    Attributes:
        backbone: a checkpoint's folder, a hub name, or ``"embedded"``, the small model of the package.
        loss: what the variants of the paper differ in.
        likelihood: of ``loss = "gaussian"``: the plain one, or beta-NLL, which does not give up on what is hard to fit.
        beta: exponent of beta-NLL; 0 is the likelihood, 1 has the gradient of squared error to the mean.
        warm_up: first passes over the labels, those of ``probe`` included, of squared error; variances come after.
        faithful: whether the variance's gradient stops at the heads, so that adapters are shaped by the mean alone
            (Stirn et al. 2023): else they learn labels by heart for the variance's sake.
        level: who has an adapter: everybody the same and each user a small one on top, everybody alone, or each user
            alone.
        own_heads: whether users' heads deviate from the shared ones; with ``level = "global"`` and without them nothing
            is personal.
        deviation: prior precision of a user's deviation from the shared head, in units of the labels' variance; the
            larger, the more users are alike.
        spread: how much more users' log-variance heads are pulled to the shared one than their mean heads.
        rank: rank of the adapter for everybody.
        alpha: its update is scaled by alpha / rank.
        targets: names of the layers it changes; ``("all-linear",)`` is every linear one.
        user_rank: rank of a user's adapter.
        user_alpha: its update is scaled by user_alpha / user_rank.
        user_targets: the layers that it changes; empty is peft's choice for the architecture, mostly the projections of
            queries and values, after Hu et al. 2022.
        dropout: of the adapters' inputs while they are trained.
        rate: peak learning rate of the adapter for everybody.
        user_rate: of users' adapters.
        head_rate: of heads: by about how many standard deviations of the labels a step moves a prediction.
        decay: weight decay of adapters.
        clip: largest norm of a step's gradient.
        probe: passes over the labels at most in which heads learn on the backbone as it is, before any adapter.
        epochs: passes over the labels at most with the adapter for everybody.
        user_epochs: passes over a user's labels at most.
        patience: passes without gain on held-out labels after which training stops.
        held_out: share of every user's queries (labels, where a user has few queries; texts, where users share them)
            that says when to stop, how large errors are and who abstains; 0 trains for all ``epochs`` and
            ``user_epochs``.
        stop_by: what held-out labels say when to stop by: the mean ``"loss"``, or the ``"ranking"``, the share of pairs
            of a query (of a user, where queries have one candidate) that are in the wrong order, which is all that a
            pick depends on.
        refit: whether all labels are then trained on for as long.
        rows: labels of an optimiser step.
        user_rows: labels of a step of a user's adapter.
        tokens: padded tokens of a batch on the device; gradients of several are added up to a step's.
        checkpointing: whether activations are computed again on the way back, for memory.
        dtype: of the backbone: ``"auto"`` (float32 on a CPU, the checkpoint's own elsewhere) or a torch name; adapters
            and heads are float32.
        device: ``"auto"`` or a torch name.
        attention: an implementation; ``"auto"`` is SDPA.
        limit: the longest prompt and text together in tokens.
        pooling: what heads read: the state of a text's last token, as the paper has it, or the mean of its tokens'
            states, which tells more where the backbone is small. Encoders always take the mean of the pair.
        items: how many of the user's own earlier texts stand in the prompt, the latest last.
        min_rows: users with fewer labels have no adapter of their own.
        abstain: whether users whose own part errs no less than the shared one on held-out labels do without it.
        save_every: steps after which the state is written from which a killed training goes on.
        memory: megabytes of users' adapters that are kept in memory when they are served.
        members: how many sets of adapters and heads are trained, each from a seed of its own, on one backbone; what
            held-out labels say to the first holds for all.
        caution: lambda, by how many standard deviations between members a reward is lowered (``penalty`` of
            ``ensemble`` is of their variance).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "Qwen/Qwen2.5-1.5B"
    loss: Loss = "gaussian"
    likelihood: Literal["nll", "beta_nll"] = "beta_nll"
    beta: float = Field(default=0.5, ge=0, le=1)
    warm_up: int = Field(default=10, ge=0)
    faithful: bool = True
    level: Literal["both", "global", "user"] = "both"
    own_heads: bool = True
    deviation: float = Field(default=2.0, ge=0)
    spread: float = Field(default=3.0, ge=0)
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] = Field(default=("all-linear",), min_length=1)
    user_rank: int = Field(default=4, ge=1)
    user_alpha: float = Field(default=8.0, gt=0)
    user_targets: tuple[str, ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rate: float = Field(default=5e-4, gt=0, le=1)
    user_rate: float = Field(default=5e-3, gt=0, le=1)
    head_rate: float = Field(default=0.005, gt=0, le=10)
    decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    probe: int = Field(default=60, ge=0)
    epochs: int = Field(default=3, ge=1)
    user_epochs: int = Field(default=5, ge=0)
    patience: int = Field(default=2, ge=1)
    held_out: float = Field(default=0.2, ge=0, lt=1)
    refit: bool = True
    rows: int = Field(default=32, ge=1)
    user_rows: int = Field(default=8, ge=1)
    tokens: int = Field(default=8192, ge=16)
    checkpointing: bool = False
    dtype: str = "auto"
    device: str = "auto"
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = "auto"
    limit: int | None = Field(default=None, ge=16)
    pooling: Literal["last", "mean"] = "last"
    items: int = Field(default=0, ge=0)
    min_rows: int = Field(default=8, ge=1)
    abstain: bool = True
    save_every: int = Field(default=100, ge=1)
    memory: int = Field(default=256, ge=1)
    members: int = Field(default=1, ge=1, le=32)
    caution: float = Field(default=0.0, ge=0)
    stop_by: Literal["loss", "ranking"] = "loss"


def written(config: Config) -> dict[str, Any]:
    """Give settings as a model's folder holds them: those that came later only where they are in use."""
    values = config.model_dump(mode="json")
    return {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}
