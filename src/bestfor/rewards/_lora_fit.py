"""Fitting and serving a reward model on a language model's back: everything that needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bestfor.data.candidates import Examples
from bestfor.lm.adapters import AdaptersOf, AdapterStore
from bestfor.lm.states import Backbone, states_of
from bestfor.rewards._canonical import canonical
from bestfor.rewards._lora_context import Context, Device
from bestfor.rewards._lora_state import State
from bestfor.rewards._lora_weights import Weights, digest_row
from bestfor.rewards.lora.attach import adapted
from bestfor.rewards.lora.config import Config
from bestfor.rewards.lora.fit import Course, Fitted, Passes
from bestfor.rewards.lora.heads import Standard
from bestfor.rewards.lora.rows import Rows, encode_rows, merged, texts_of
from bestfor.types import BoolArray, IntArray

Tell = Callable[[str], None]

FORMAT = 1
"""Another number, other states on disk: what an older version of this code left is not gone on from."""
BESIDE = ("memory", "save_every")
"""Settings that change no bit of the result."""


@dataclass(frozen=True)
class Learned:
    """A fit.

    Attributes:
        weights: what is stored.
        centre: mean utility.
        unit: standard deviation of utilities.
        noise: factor of the variance.
        passes: how many it took.
        abstained: shape (users,), who does without a part of their own; None where nobody was judged.
        store: where the adapters are.
        state: where the fit was kept; to be removed when the model is saved.
    """

    weights: Weights
    centre: float
    unit: float
    noise: float
    passes: Passes
    abstained: BoolArray | None
    store: AdapterStore
    state: State


def open_backbone(config: Config) -> Backbone:
    """The backbone of a configuration.

    Raises:
        InputError: no usable checkpoint, or a limit beyond the model's.
    """
    return Backbone(
        config.backbone,
        dtype=config.dtype,
        device=config.device,
        attention=config.attention,
        limit=config.limit,
        pooling=config.pooling,
    )


def fit(examples: Examples, config: Config, backbone: Backbone, root: Path, seed: int, tell: Tell) -> Learned:
    """Train heads and adapters on labelled rows in canonical order.

    Args:
        examples: the rows.
        config: the settings.
        backbone: the base, which is as before afterwards.
        root: folder of fits' states.
        seed: of everything random.
        tell: takes sentences about the fit.

    Raises:
        InputError: a text that is too long, or layers that are not there.
        NotFiniteError: a loss that is no number.
    """
    centre, unit = float(np.mean(examples.utility)), float(np.std(examples.utility)) or 1.0
    pairwise = config.loss == "bradley_terry"
    rows = encode_rows(examples, backbone, items=config.items, pairwise=pairwise, centre=centre, unit=unit)
    state = State(root, identity(rows, examples, config, backbone, seed))
    states = states_of(backbone, rows.packs, [{}] * len(rows.packs), tokens=config.tokens, tell=tell)
    base = _by_number(rows, states)
    device = Device(config.tokens, backbone.packs, tell)
    context = Context(config, Standard.of(base, backbone.device), device, seed)
    store = AdapterStore(state.adapters, base=backbone.fingerprint, most=config.memory << 20)
    with adapted(backbone, config) as worn:
        course = Course(rows, examples.users, worn, context, state, torch.from_numpy(base).to(backbone.device))
        fitted = course.run(store)
    verdict = fitted.verdict
    abstained = verdict.abstained if verdict is not None and config.abstain else None
    weights = _weights(fitted, context.standard, config, len(examples.users))
    noise = 1.0 if verdict is None else verdict.noise
    return Learned(weights, centre, unit, noise, fitted.passes, abstained, store, state)


def identity(rows: Rows, examples: Examples, config: Config, backbone: Backbone, seed: int) -> dict[str, Any]:
    """All that decides the result of a fit, as plain values."""
    digest = hashlib.sha256(repr((examples.users, rows.queries)).encode())
    for pack in rows.packs:
        digest.update(repr((pack.prompt, pack.texts)).encode())
    for values in (rows.text, rows.user, rows.bundle, rows.target):
        digest.update(values.tobytes())
    return {
        "format": FORMAT,
        "settings": config.model_dump(mode="json", exclude=set(BESIDE)),
        "data": digest.hexdigest(),
        "base": backbone.fingerprint,
        "seed": seed,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "device": str(backbone.device),
        "threads": torch.get_num_threads(),
    }


def score(
    examples: Examples, wearer: Mapping[str, int], model: tuple[Config, Backbone, AdapterStore], tell: Tell
) -> tuple[npt.NDArray[np.float32], IntArray]:
    """States of rows in any order: equal texts behind equal prompts are read once for all who wear the same.

    Args:
        examples: n rows.
        wearer: code of each user who wears an adapter of their own; the others wear what everybody does.
        model: settings, backbone and adapters.
        tell: takes sentences about batches that were too large.

    Returns:
        States, shape (texts, hidden), and which of them is each row's, shape (n,).
    """
    config, backbone, store = model
    # Rows carry their numbers through the sorting: batches are then the same in whatever order rows came.
    ordered = canonical(replace(examples, utility=np.arange(len(examples), dtype=np.float64)))
    packs, text, _ = texts_of(ordered, backbone, config.items)
    names = [ordered.users[pack.user] for pack in packs]
    made, owners, place = merged(packs, [wearer.get(name, -1) for name in names])
    ids = {code: name for name, code in wearer.items()}
    worn = AdaptersOf(store, [ids.get(owner) for owner in owners])
    states = states_of(backbone, made, worn, tokens=config.tokens, tell=tell)
    state = np.empty(len(examples), dtype=np.int64)
    state[ordered.utility.astype(np.int64)] = place[text]
    return states, state


def _by_number(rows: Rows, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """States in the order of the texts' numbers."""
    found = np.empty_like(states)
    found[np.concatenate([pack.rows for pack in rows.packs])] = states
    return found


def _weights(fitted: Fitted, standard: Standard, config: Config, users: int) -> Weights:
    arrays = {name: value.detach().cpu().numpy().astype(np.float32) for name, value in fitted.heads.tensors().items()}
    if config.loss != "gaussian":
        arrays |= {"spread": np.zeros(0, np.float32), "own_spread": np.zeros((users, 0), np.float32)}
    adapter = np.stack([digest_row(fitted.digests.get(user, "")) for user in range(users)])
    scale = {"centre": standard.centre.cpu().numpy(), "factor": standard.factor.cpu().numpy()}
    return Weights(**scale, **arrays, adapter=adapter, shared=digest_row(fitted.shared))
