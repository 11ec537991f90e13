"""A whole fit: heads on the backbone as it is, an adapter for everybody, then a small one for each user.

Heads are learned first, so that adapters start from gradients that mean something (Kumar et al. 2022). Everything is
done once without the held-out labels, which say how many passes are best, how large errors are and who does without a
part of their own; then again with all labels for as long. A user's own choice of passes would be noise: all users share
the number that is best for them together, and it may be none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bestfor import rng
from bestfor.lm.adapters import AdapterStore, file_of
from bestfor.lm.packing import Pack
from bestfor.rewards._lora_context import Body, Context
from bestfor.rewards._lora_held import Held
from bestfor.rewards._lora_progress import Shown
from bestfor.rewards._lora_state import State
from bestfor.rewards._lora_stopping import Limits, Part, descend
from bestfor.rewards.lora.attach import OWN, SHARED, Adapted, wears
from bestfor.rewards.lora.heads import Heads
from bestfor.rewards.lora.rows import Rows, hold_out
from bestfor.rewards.lora.training import Descent, Stage
from bestfor.types import BoolArray, FloatArray

LEAST_HELD_OUT = 20
UNSTOPPED = 2
"""Passes of an adapter where too few labels are held out to say when to stop."""
PATIENCE = 5
"""At least, of heads alone: their passes cost nothing."""


@dataclass(frozen=True)
class Passes:
    """How many passes each part of a fit takes: heads alone, the adapter for everybody, users' own."""

    probe: int
    shared: int
    own: int


@dataclass(frozen=True)
class Verdict:
    """What held-out labels said.

    Attributes:
        noise: factor of the variance.
        abstained: shape (users,), who does without a part of their own.
    """

    noise: float
    abstained: BoolArray


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves; adapters are in the state's folder.

    Attributes:
        heads: trained heads.
        passes: how many it took.
        verdict: what held-out labels said, None where nobody asked them.
        digests: SHA-256 of the users' adapters, by user's code.
        shared: that of the adapter for everybody, empty where there is none.
    """

    heads: Heads
    passes: Passes
    verdict: Verdict | None
    digests: dict[int, str]
    shared: str


class Course:
    """A fit from its first weights, or from where it was stopped.

    Args:
        rows: all labels.
        users: ids by code.
        adapted: the backbone in its adapters.
        context: what all runs share.
        state: where it is kept.
        base: states of the texts on the backbone as it is, shape (texts, hidden).
    """

    def __init__(
        self, rows: Rows, users: tuple[str, ...], adapted: Adapted, context: Context, state: State, base: torch.Tensor
    ) -> None:
        self.rows, self.users, self.adapted = rows, users, adapted
        self.context, self.state, self.config = context, state, context.config
        self._base = Body(lambda packs: base[torch.from_numpy(_texts(packs)).to(base.device)])
        self._shown = Shown()
        counts = np.bincount(rows.user, minlength=len(users))
        self._wear = (counts >= self.config.min_rows) & wears(self.config, OWN)

    def run(self, store: AdapterStore) -> Fitted:
        """Do all of it; finished parts that are on disk are read."""
        config = self.config
        held = hold_out(self.rows, config.held_out, rng.derive(self.context.seed, "held out"))
        with self._shown:
            if config.held_out == 0 or held.sum() < LEAST_HELD_OUT or held.all():
                passes, verdict, rows = self._unjudged(), None, self.rows
                heads, _ = self.together("final", rows, None, passes)
            else:
                kept, unseen = self.rows.take(~held), self.rows.take(held)
                heads, passes, verdict = self._search(kept, unseen)
                rows = self.rows if config.refit else kept
                if config.refit:
                    heads, _ = self.together("final", rows, None, passes)
            return self._finish(store, rows, heads, passes, verdict)

    def _unjudged(self) -> Passes:
        """All passes where that is wanted; few where there is too little to hold out."""
        config = self.config
        shared, own = config.epochs * wears(config, SHARED), config.user_epochs * wears(config, OWN)
        if config.held_out == 0:
            return Passes(config.probe, shared, own)
        return Passes(config.probe, min(shared, UNSTOPPED), min(own, UNSTOPPED))

    def _search(self, kept: Rows, unseen: Rows) -> tuple[Heads, Passes, Verdict]:
        heads, passes = self.together("search", kept, unseen, None)
        shared = self._body()
        stranger, before = self.context.predict(unseen, shared, [heads.strangers(), heads])
        own: dict[int, FloatArray] = {}
        some = [int(user) for user in np.intersect1d(np.unique(kept.user), np.unique(unseen.user)) if self._wear[user]]
        if self.config.user_epochs:
            total = int(np.isin(kept.user, some).sum()) * self.config.user_epochs
            self._shown.begin("users' adapters, to be judged", total)
            for user in some:
                own[user] = self.tried(user, kept.take(kept.user == user), unseen.take(unseen.user == user), heads)
        held = Held(unseen, stranger, before, own)
        most = self.config.user_epochs if own else 0
        passes = replace(passes, own=held.passes(self.context, most))
        pairwise = self.config.loss == "bradley_terry"
        abstained = held.abstained(passes.own, len(self.users), pairwise=pairwise)
        served = abstained & self.config.abstain
        return heads, passes, Verdict(1.0 if pairwise else held.noise(passes.own, served), abstained)

    def together(self, phase: str, rows: Rows, unseen: Rows | None, passes: Passes | None) -> tuple[Heads, Passes]:
        """Heads, and the adapter for everybody below them, which the backbone then has.

        Args:
            phase: names its files.
            rows: labels to learn from.
            unseen: labels that say when to stop.
            passes: how long, where that is known.
        """
        config, context = self.config, self.context
        zero = Heads.zero(len(self.users), len(context.standard.centre), context.standard.centre.device)
        probe = Stage(("heads",), 0.0, config.rows, max(config.probe, 1))
        run = Descent(rows, self._base, zero, probe, context)
        limits = self._limits(run, unseen, config.probe if passes is None else passes.probe, PATIENCE)
        self._shown.begin("heads", limits.passes * len(rows))
        probed = descend(run, limits, Part(None, "", 1), self._shown.more)
        if not wears(config, SHARED):
            return run.heads, Passes(probed, 0, 0)
        stage = Stage((SHARED,), config.rate, config.rows, config.epochs, before=probed)
        weights = self.adapted.start(SHARED, context.seed)
        body = Body(self.adapted.states, weights, self.adapted.training)
        run = Descent(rows, body, run.heads, stage, context)
        limits = self._limits(run, unseen, config.epochs if passes is None else passes.shared, 1)
        self._shown.begin("adapter for everybody", limits.passes * len(rows))
        part = Part(self.state, f"{phase}-{SHARED}", config.save_every)
        return run.heads, Passes(probed, descend(run, limits, part, self._shown.more), 0)

    def _limits(self, run: Descent, unseen: Rows | None, passes: int, patience: int) -> Limits:
        if unseen is None:
            return Limits(passes)
        context, config = self.context, self.config

        def held() -> float:
            (moments,) = context.predict(unseen, run.body, [run.heads])
            return context.held_loss(unseen, moments) / len(unseen)

        warming = config.warm_up if config.loss == "gaussian" else 0
        # an adapter that tells held-out labels no better is none
        first = 0 if run.body.weights else min(warming + 1, passes)
        return Limits(passes, max(patience, config.patience), first, held)

    def tried(self, user: int, rows: Rows, unseen: Rows, heads: Heads) -> FloatArray:
        """Held-out predictions of a user's own adapter after 0, 1, ... passes, shape (passes + 1, 2, held-out)."""
        name = f"search-{file_of(self.users[user])[:24]}"
        known = self.state.get(name)
        if known is not None:
            return known[0]["held"].numpy()
        alone = replace(unseen, user=np.zeros_like(unseen.user))
        run = self.begin(user, rows, heads)
        found = [self.context.predict(alone, run.body, [run.heads])[0]]
        for number in range(self.config.user_epochs):
            run.epoch(number, self._shown.more)
            found.append(self.context.predict(alone, run.body, [run.heads])[0])
        held = np.stack(found)
        self.state.put(name, {"held": torch.from_numpy(held)}, {})
        return held

    def begin(self, user: int, rows: Rows, heads: Heads) -> Descent:
        """The run of a user's adapter on top of what the backbone has; it depends on no other user's."""
        config, name = self.config, self.users[user]
        weights = self.adapted.start(OWN, self.context.seed, name)
        stage = Stage((OWN, name), config.user_rate, config.user_rows, max(config.user_epochs, 1), alone=True)
        stage = replace(stage, before=config.warm_up)
        body = Body(self.adapted.states, weights, self.adapted.training)
        alone = replace(rows, user=np.zeros_like(rows.user))
        return Descent(alone, body, heads.of(user), stage, self.context)

    def _finish(self, store: AdapterStore, rows: Rows, heads: Heads, passes: Passes, verdict: Verdict | None) -> Fitted:
        """Write the adapters, and train those of users on what was learned for everybody."""
        shared = store.write(None, self.adapted.layers(SHARED)) if passes.shared else ""
        some = [int(user) for user in np.unique(rows.user) if self._wear[user]] if passes.own else []
        if verdict is not None and self.config.abstain:
            some = [user for user in some if not verdict.abstained[user]]
        digests: dict[int, str] = {}
        heads = heads.leaves([])
        self._shown.begin("users' adapters", int(np.isin(rows.user, some).sum()) * passes.own)
        for user in some:
            own, digests[user] = self._own(store, user, rows.take(rows.user == user), heads, passes.own)
            heads.own_mean[user], heads.own_spread[user] = own.own_mean[0], own.own_spread[0]
        return Fitted(heads, passes, verdict, digests, shared)

    def _own(self, store: AdapterStore, user: int, rows: Rows, heads: Heads, passes: int) -> tuple[Heads, str]:
        """A user's heads, and the hash of their adapter's file."""
        name = f"final-{file_of(self.users[user])[:24]}"
        known = self.state.get(name)
        if known is not None and known[1]["digest"] == _hash(store.folder / file_of(self.users[user])):
            digest = known[1]["digest"]
            store.expect(self.users[user], digest)
            return replace(
                heads.of(user), **{key: value.to(heads.mean.device) for key, value in known[0].items()}
            ), digest
        run = self.begin(user, rows, heads)
        for number in range(passes):
            run.epoch(number, self._shown.more)
        own = run.heads.leaves([])
        digest = store.write(self.users[user], self.adapted.layers(OWN))
        self.state.put(name, {"own_mean": own.own_mean, "own_spread": own.own_spread}, {"digest": digest})
        return own, digest

    def _body(self) -> Body:
        """The backbone with the adapter for everybody alone, or as it is."""
        if not wears(self.config, SHARED):
            return self._base
        self.adapted.wear([SHARED])
        return Body(self.adapted.states)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _texts(packs: Sequence[Pack]) -> np.ndarray:
    return np.concatenate([pack.rows for pack in packs])
