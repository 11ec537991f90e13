"""Fit heads and adapters on a backbone, and read the states that a fitted model predicts from.

Heads are learned first, on the backbone as it is, so that adapters start from gradients that mean something (Kumar et
al. 2022); then an adapter for everybody, then a small one for each user. Everything is done once without the held-out
labels, which say how many passes are best, how large errors are and who does without a part of their own
(:mod:`bestfor.rewards.lora.held_out`); then again with all labels for as long. A user's own choice of passes would be
noise: all users share the number that is best for them together, and it may be none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.files import hash_file, hash_parts
from bestfor.lm.adapter_files import AdapterStore, LazyAdapters, file_of
from bestfor.lm.packing import Pack
from bestfor.lm.passes import states_of
from bestfor.lm.states import Backbone
from bestfor.progress import Progress
from bestfor.rewards.lora.attach import OWN, SHARED, AdaptedBackbone, attach_adapters, has_adapter
from bestfor.rewards.lora.config import Config, written
from bestfor.rewards.lora.heads import LoraHeads, Standardizer
from bestfor.rewards.lora.held_out import HeldOut, stopping_value
from bestfor.rewards.lora.resume import FitFiles, SavePoint, StoppingRule, run_to_end
from bestfor.rewards.lora.rows import TokenRows, encode_rows, encode_texts, hold_out, merge_packs
from bestfor.rewards.lora.training import DeviceLimits, LoraRun, StateSource, TrainingContext, TrainingStage
from bestfor.rewards.lora.weights import Weights, digest_row
from bestfor.rewards.rows import canonical
from bestfor.types import BoolArray, FloatArray, IntArray

Note = Callable[[str], None]
"""Takes a sentence about the work."""

FORMAT = 1
"""Another number, other states on disk: what an older version of this code left is not gone on from."""
BESIDE = ("memory", "save_every", "members", "caution")
"""Settings that change no bit of the result."""
LEAST_HELD_OUT = 20
UNSTOPPED = 2
"""Passes of an adapter where too few labels are held out to say when to stop."""
PATIENCE = 5
"""At least, of heads alone: their passes cost nothing."""


@dataclass(frozen=True)
class FittedLora:
    """Result of a fit: what is stored, and where the adapters and the fit's state are.

    Attributes:
        weights: what is stored.
        centre: mean utility.
        unit: standard deviation of utilities.
        noise: factor of the variance.
        passes: how many it took.
        abstained: shape (users,), who does without a part of their own; None where nobody was judged.
        store: where the adapters are.
        state: where the fit was kept; to be removed when the model is saved.
        verdict: what held-out labels said, None where none were held out.
    """

    weights: Weights
    centre: float
    unit: float
    noise: float
    passes: Passes
    abstained: BoolArray | None
    store: AdapterStore
    state: FitFiles
    verdict: Verdict | None


@dataclass(frozen=True)
class Decided:
    """Decisions of an ensemble's first member, which hold for a further one.

    Attributes:
        member: the further one's number.
        seed: of the first, which drew the held-out labels.
        passes: how long each part is trained.
        verdict: what held-out labels said.
    """

    member: int
    seed: int
    passes: Passes
    verdict: Verdict | None


def open_backbone(config: Config) -> Backbone:
    """Open the backbone of a configuration.

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


def fit_members(
    candidates: Candidates, config: Config, backbone: Backbone, root: Path, seed: int, note: Note
) -> list[FittedLora]:
    """Train the members of an ensemble one after another on one backbone; arguments as for :func:`fit`.

    The first one finds how long to train and who abstains; the others, of seeds of their own, are trained on the same
    labels for as long.
    """
    first = fit(candidates, config, backbone, root, seed, note)
    others = [
        fit(
            candidates,
            config,
            backbone,
            root,
            rng.key(seed, "member", member),
            note,
            Decided(member, seed, first.passes, first.verdict),
        )
        for member in range(1, config.members)
    ]
    return [first, *others]


def fit(
    candidates: Candidates,
    config: Config,
    backbone: Backbone,
    root: Path,
    seed: int,
    note: Note,
    decided: Decided | None = None,
) -> FittedLora:
    """Train heads and adapters on labelled rows in canonical order.

    Args:
        candidates: the rows.
        config: the settings.
        backbone: the base, which is as before afterwards.
        root: folder of fits' states.
        seed: of everything random.
        note: takes sentences about the fit.
        decided: what an ensemble's first member found; None finds it here.

    Raises:
        InputError: a text that is too long, or layers that are not there.
        NotFiniteError: a loss that is no number.
    """
    centre, unit = float(np.mean(candidates.utility)), float(np.std(candidates.utility)) or 1.0
    pairwise = config.loss == "bradley_terry"
    rows = encode_rows(candidates, backbone, items=config.items, pairwise=pairwise, centre=centre, unit=unit)
    state = FitFiles(root, identity(rows, candidates, config, backbone, seed, decided))
    states = states_of(backbone, rows.packs, [{}] * len(rows.packs), tokens=config.tokens, note=note)
    base = _by_number(rows, states)
    device = DeviceLimits(config.tokens, backbone.packs, note)
    context = TrainingContext(config, Standardizer.of(base, backbone.device), device, seed)
    store = AdapterStore(state.adapters, base=backbone.fingerprint, most=config.memory << 20)
    with attach_adapters(backbone, config) as adapted:
        work = LoraFit(rows, candidates.users, adapted, context, state, torch.from_numpy(base).to(backbone.device))
        parts = work.run(store, decided)
    verdict = parts.verdict
    abstained = verdict.abstained if verdict is not None and config.abstain else None
    weights = _weights(parts, context.standard, config, len(candidates.users))
    noise = 1.0 if verdict is None else verdict.noise
    return FittedLora(weights, centre, unit, noise, parts.passes, abstained, store, state, verdict)


def identity(
    rows: TokenRows,
    candidates: Candidates,
    config: Config,
    backbone: Backbone,
    seed: int,
    decided: Decided | None = None,
) -> dict[str, Any]:
    """Collect all that decides the result of a fit, as plain values."""
    names = [repr((candidates.users, rows.queries)), *(repr((pack.prompt, pack.texts)) for pack in rows.packs)]
    numbers = (rows.text, rows.user, rows.bundle, rows.target)
    data = hash_parts(chain((name.encode() for name in names), (values.tobytes() for values in numbers)))
    member = {} if decided is None else {"member": decided.member, "first": decided.seed}
    return member | {
        "format": FORMAT,
        "settings": {name: value for name, value in written(config).items() if name not in BESIDE},
        "data": data,
        "base": backbone.fingerprint,
        "seed": seed,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "device": str(backbone.device),
        "threads": torch.get_num_threads(),
    }


def read_states(
    candidates: Candidates, adapted: Mapping[str, int], model: tuple[Config, Backbone, AdapterStore], note: Note
) -> tuple[npt.NDArray[np.float32], IntArray]:
    """Read the states of rows in any order; equal texts behind equal prompts once for all with the same adapter.

    Args:
        candidates: n rows.
        adapted: code of each user with an adapter of their own; the others have the one for everybody.
        model: settings, backbone and adapters.
        note: takes sentences about batches that were too large.

    Returns:
        States, shape (texts, hidden), and which of them is each row's, shape (n,).
    """
    config, backbone, store = model
    # Rows carry their numbers through the sorting: batches are then the same in whatever order rows came.
    ordered = canonical(replace(candidates, utility=np.arange(len(candidates), dtype=np.float64)))
    packs, text, _ = encode_texts(ordered, backbone, config.items)
    names = [ordered.users[pack.user] for pack in packs]
    made, owners, place = merge_packs(packs, [adapted.get(name, -1) for name in names])
    ids = {code: name for name, code in adapted.items()}
    adapters = LazyAdapters(store, [ids.get(owner) for owner in owners])
    states = states_of(backbone, made, adapters, tokens=config.tokens, note=note)
    state = np.empty(len(candidates), dtype=np.int64)
    state[ordered.utility.astype(np.int64)] = place[text]
    return states, state


def _by_number(rows: TokenRows, states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Put states in the order of the texts' numbers."""
    found = np.empty_like(states)
    found[np.concatenate([pack.rows for pack in rows.packs])] = states
    return found


def _weights(parts: TrainedParts, standard: Standardizer, config: Config, users: int) -> Weights:
    arrays = {name: value.detach().cpu().numpy().astype(np.float32) for name, value in parts.heads.tensors().items()}
    if config.loss != "gaussian":
        arrays |= {"spread": np.zeros(0, np.float32), "own_spread": np.zeros((users, 0), np.float32)}
    adapter = np.stack([digest_row(parts.digests.get(user, "")) for user in range(users)])
    scale = {"centre": standard.centre.cpu().numpy(), "factor": standard.factor.cpu().numpy()}
    return Weights(**scale, **arrays, adapter=adapter, shared=digest_row(parts.shared))


@dataclass(frozen=True)
class Passes:
    """Numbers of passes of the parts of a fit: heads alone, the adapter for everybody, users' own."""

    probe: int
    shared: int
    own: int


@dataclass(frozen=True)
class Verdict:
    """Judgement of held-out labels.

    Attributes:
        noise: factor of the variance.
        abstained: shape (users,), who does without a part of their own.
    """

    noise: float
    abstained: BoolArray


@dataclass(frozen=True)
class TrainedParts:
    """Heads and hashes of adapters that a fit has trained; the adapters are in the state's folder.

    Attributes:
        heads: trained heads.
        passes: how many it took.
        verdict: what held-out labels said, None where none were held out.
        digests: SHA-256 of the users' adapters, by user's code.
        shared: that of the adapter for everybody, empty where there is none.
    """

    heads: LoraHeads
    passes: Passes
    verdict: Verdict | None
    digests: dict[int, str]
    shared: str


class LoraFit:
    """Work of a fit, from its first weights or from where it was stopped.

    Args:
        rows: all labels.
        users: ids by code.
        adapted: the backbone in its adapters.
        context: what all runs share.
        state: where it is kept.
        base: states of the texts on the backbone as it is, shape (texts, hidden).
    """

    def __init__(
        self,
        rows: TokenRows,
        users: tuple[str, ...],
        adapted: AdaptedBackbone,
        context: TrainingContext,
        state: FitFiles,
        base: torch.Tensor,
    ) -> None:
        self.rows, self.users, self.adapted = rows, users, adapted
        self.context, self.state, self.config = context, state, context.config
        self._base = StateSource(lambda packs: base[torch.from_numpy(_texts(packs)).to(base.device)])
        self._progress = Progress("labels", 0)
        counts = np.bincount(rows.user, minlength=len(users))
        self._eligible = (counts >= self.config.min_rows) & has_adapter(self.config, OWN)

    def run(self, store: AdapterStore, decided: Decided | None = None) -> TrainedParts:
        """Do all of the fit; finished parts that are on disk are read."""
        config = self.config
        first = self.context.seed if decided is None else decided.seed
        held = hold_out(self.rows, config.held_out, rng.derive(first, "held out"))
        with self._progress:
            if decided is not None:
                passes, verdict = decided.passes, decided.verdict
                rows = self.rows if config.refit or verdict is None else self.rows.take(~held)
                heads, _ = self.train_shared("final", rows, None, passes)
            elif config.held_out == 0 or held.sum() < LEAST_HELD_OUT or held.all():
                passes, verdict, rows = self._unjudged(), None, self.rows
                heads, _ = self.train_shared("final", rows, None, passes)
            else:
                kept, unseen = self.rows.take(~held), self.rows.take(held)
                heads, passes, verdict = self._search(kept, unseen)
                rows = self.rows if config.refit else kept
                if config.refit:
                    heads, _ = self.train_shared("final", rows, None, passes)
            return self._finish(store, rows, heads, passes, verdict)

    def _unjudged(self) -> Passes:
        """Choose passes without held-out labels: all where that is wanted, few where too little could be held out."""
        config = self.config
        shared, own = config.epochs * has_adapter(config, SHARED), config.user_epochs * has_adapter(config, OWN)
        if config.held_out == 0:
            return Passes(config.probe, shared, own)
        return Passes(config.probe, min(shared, UNSTOPPED), min(own, UNSTOPPED))

    def _search(self, kept: TokenRows, unseen: TokenRows) -> tuple[LoraHeads, Passes, Verdict]:
        heads, passes = self.train_shared("search", kept, unseen, None)
        shared = self._shared_source()
        stranger, before = self.context.predict(unseen, shared, [heads.strangers(), heads])
        own: dict[int, FloatArray] = {}
        some = [
            int(user) for user in np.intersect1d(np.unique(kept.user), np.unique(unseen.user)) if self._eligible[user]
        ]
        if self.config.user_epochs:
            total = int(np.isin(kept.user, some).sum()) * self.config.user_epochs
            self._progress.describe("users' adapters, to be judged", total)
            for user in some:
                own[user] = self.try_user(user, kept.take(kept.user == user), unseen.take(unseen.user == user), heads)
        held = HeldOut(unseen, stranger, before, own)
        most = self.config.user_epochs if own else 0
        passes = replace(passes, own=held.passes(self.context, most))
        pairwise = self.config.loss == "bradley_terry"
        abstained = held.abstained(passes.own, len(self.users), pairwise=pairwise)
        served = abstained & self.config.abstain
        return heads, passes, Verdict(1.0 if pairwise else held.noise(passes.own, served), abstained)

    def train_shared(
        self, phase: str, rows: TokenRows, unseen: TokenRows | None, passes: Passes | None
    ) -> tuple[LoraHeads, Passes]:
        """Train heads, and the adapter for everybody below them, which the backbone then has.

        Args:
            phase: names its files.
            rows: labels to learn from.
            unseen: labels that say when to stop.
            passes: how long, where that is known.
        """
        config, context = self.config, self.context
        zero = LoraHeads.zero(len(self.users), len(context.standard.centre), context.standard.centre.device)
        probe = TrainingStage(("heads",), 0.0, config.rows, max(config.probe, 1))
        run = LoraRun(rows, self._base, zero, probe, context)
        limits = self._limits(run, unseen, config.probe if passes is None else passes.probe, PATIENCE)
        self._progress.describe("heads", limits.passes * len(rows))
        probed = run_to_end(run, limits, SavePoint(None, "", 1), self._progress.advance)
        if not has_adapter(config, SHARED):
            return run.heads, Passes(probed, 0, 0)
        stage = TrainingStage((SHARED,), config.rate, config.rows, config.epochs, before=probed)
        weights = self.adapted.start(SHARED, context.seed)
        body = StateSource(self.adapted.states, weights, self.adapted.training)
        run = LoraRun(rows, body, run.heads, stage, context)
        limits = self._limits(run, unseen, config.epochs if passes is None else passes.shared, 1)
        self._progress.describe("adapter for everybody", limits.passes * len(rows))
        part = SavePoint(self.state, f"{phase}-{SHARED}", config.save_every)
        return run.heads, Passes(probed, run_to_end(run, limits, part, self._progress.advance), 0)

    def _limits(self, run: LoraRun, unseen: TokenRows | None, passes: int, patience: int) -> StoppingRule:
        if unseen is None:
            return StoppingRule(passes)
        context, config = self.context, self.config

        def held() -> float:
            (moments,) = context.predict(unseen, run.body, [run.heads])
            return stopping_value(context, unseen, moments)

        warming = config.warm_up if config.loss == "gaussian" else 0
        # an adapter with which held-out labels are predicted no better is none
        first = 0 if run.body.weights else min(warming + 1, passes)
        return StoppingRule(passes, max(patience, config.patience), first, held)

    def try_user(self, user: int, rows: TokenRows, unseen: TokenRows, heads: LoraHeads) -> FloatArray:
        """Predict held-out labels by a user's own adapter after 0, 1, ... passes, shape (passes + 1, 2, held-out)."""
        name = f"search-{file_of(self.users[user])[:24]}"
        known = self.state.get(name)
        if known is not None:
            return known[0]["held"].numpy()
        alone = replace(unseen, user=np.zeros_like(unseen.user))
        run = self.user_run(user, rows, heads)
        found = [self.context.predict(alone, run.body, [run.heads])[0]]
        for number in range(self.config.user_epochs):
            run.epoch(number, self._progress.advance)
            found.append(self.context.predict(alone, run.body, [run.heads])[0])
        held = np.stack(found)
        self.state.put(name, {"held": torch.from_numpy(held)}, {})
        return held

    def user_run(self, user: int, rows: TokenRows, heads: LoraHeads) -> LoraRun:
        """Begin the run of a user's adapter on top of what the backbone has; it depends on no other user's."""
        config, name = self.config, self.users[user]
        weights = self.adapted.start(OWN, self.context.seed, name)
        stage = TrainingStage((OWN, name), config.user_rate, config.user_rows, max(config.user_epochs, 1), alone=True)
        stage = replace(stage, before=config.warm_up)
        body = StateSource(self.adapted.states, weights, self.adapted.training)
        alone = replace(rows, user=np.zeros_like(rows.user))
        return LoraRun(alone, body, heads.of(user), stage, self.context)

    def _finish(
        self, store: AdapterStore, rows: TokenRows, heads: LoraHeads, passes: Passes, verdict: Verdict | None
    ) -> TrainedParts:
        """Write the adapters, and train those of users on what was learned for everybody."""
        shared = store.write(None, self.adapted.layers(SHARED)) if passes.shared else ""
        some = [int(user) for user in np.unique(rows.user) if self._eligible[user]] if passes.own else []
        if verdict is not None and self.config.abstain:
            some = [user for user in some if not verdict.abstained[user]]
        digests: dict[int, str] = {}
        heads = heads.leaves([])
        self._progress.describe("users' adapters", int(np.isin(rows.user, some).sum()) * passes.own)
        for user in some:
            own, digests[user] = self._train_user(store, user, rows.take(rows.user == user), heads, passes.own)
            heads.own_mean[user], heads.own_spread[user] = own.own_mean[0], own.own_spread[0]
        return TrainedParts(heads, passes, verdict, digests, shared)

    def _train_user(
        self, store: AdapterStore, user: int, rows: TokenRows, heads: LoraHeads, passes: int
    ) -> tuple[LoraHeads, str]:
        """Train or read a user's heads and adapter; returns the heads, and the hash of the adapter's file."""
        name = f"final-{file_of(self.users[user])[:24]}"
        known = self.state.get(name)
        if known is not None and known[1]["digest"] == _hash(store.folder / file_of(self.users[user])):
            digest = known[1]["digest"]
            store.expect(self.users[user], digest)
            return replace(
                heads.of(user), **{key: value.to(heads.mean.device) for key, value in known[0].items()}
            ), digest
        run = self.user_run(user, rows, heads)
        for number in range(passes):
            run.epoch(number, self._progress.advance)
        own = run.heads.leaves([])
        digest = store.write(self.users[user], self.adapted.layers(OWN))
        self.state.put(name, {"own_mean": own.own_mean, "own_spread": own.own_spread}, {"digest": digest})
        return own, digest

    def _shared_source(self) -> StateSource:
        """Read from the backbone with the adapter for everybody alone, or as it is."""
        if not has_adapter(self.config, SHARED):
            return self._base
        self.adapted.activate([SHARED])
        return StateSource(self.adapted.states)


def _hash(path: Path) -> str:
    return hash_file(path) if path.is_file() else ""


def _texts(packs: Sequence[Pack]) -> np.ndarray:
    return np.concatenate([pack.rows for pack in packs])
