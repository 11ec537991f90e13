"""A whole fit: heads on the backbone as it is, an adapter for everybody, then a small one for each user.

Heads are learned first, so that adapters start from gradients that mean something (Kumar et al. 2022). Everything is
done once without the held-out labels, which say how many passes are best, how large errors are and who does without a
part of their own; then again with all labels for as long. A user's own choice of passes would be noise: all users share
the number that is best for them together, and it may be none.

What held-out labels say: how many passes users' adapters take, how large errors are, who does without a part.

A bar on standard error while a fit goes on, where that is a terminal: what is done, how fast, how much longer.

Fitting and serving a reward model on a language model's back: everything that needs torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from bestfor import rng
from bestfor.data.candidates import Examples
from bestfor.lm.adapter_files import AdapterStore, LazyAdapters, file_of
from bestfor.lm.packing import Pack
from bestfor.lm.passes import states_of
from bestfor.lm.states import Backbone
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.lora.attach import OWN, SHARED, Adapted, adapted, wears
from bestfor.rewards.lora.config import Config
from bestfor.rewards.lora.heads import Heads, Standard
from bestfor.rewards.lora.rows import Rows, by_code, encode_rows, hold_out, merged, texts_of
from bestfor.rewards.lora.training import Body, Context, Descent, Device, Limits, Part, Stage, State, descend
from bestfor.rewards.lora.weights import Weights, digest_row
from bestfor.rewards.model import canonical
from bestfor.types import BoolArray, FloatArray, IntArray

LEAST_NOISE = 1e-6


@dataclass(frozen=True)
class Held:
    """Predictions of held-out rows by models that did not see them, all of shape (2, n): means and log-variances.

    Attributes:
        rows: n held-out rows.
        stranger: without any part of the user's own.
        before: with users' own heads, before they have adapters.
        own: by user's code, after 0, 1, ... passes of the user's adapter, shape (passes + 1, 2, the user's rows).
    """

    rows: Rows
    stranger: FloatArray
    before: FloatArray
    own: Mapping[int, FloatArray]

    def after(self, passes: int) -> FloatArray:
        """After a number of passes of users' adapters; users without one are served as before."""
        found = self.before.copy()
        for user, values in self.own.items():
            found[:, self.rows.user == user] = values[passes]
        return found

    def passes(self, context: Context, most: int) -> int:
        """How many passes are best for all users together, perhaps none."""
        totals = [context.held_loss(self.rows, self.after(number)) for number in range(most + 1)]
        return int(np.argmin(totals))

    def noise(self, passes: int, abstained: BoolArray) -> float:
        """Mean squared error over predicted variance of what serves each user, levels of queries not known."""
        mean, log_variance = np.where(abstained[self.rows.user], self.stranger, self.after(passes))
        return max(float(np.mean((self.rows.target - mean) ** 2 / np.exp(log_variance))), LEAST_NOISE)

    def abstained(self, passes: int, users: int, *, pairwise: bool) -> BoolArray:
        """Who does without a part of their own, shape (users,)."""
        found = np.zeros(users, dtype=np.bool_)
        errors = _compared if pairwise else _missed
        personal, shared = (errors(self.rows, moments[0]) for moments in (self.after(passes), self.stranger))
        judged = abstaining(self.rows.user, personal, shared)
        found[: len(judged)] = judged
        return found


def _missed(rows: Rows, mean: FloatArray) -> FloatArray:
    """How far off means are, beside the mean error of the query's other rows where queries have levels."""
    error = rows.target - mean
    if not rows.levels:
        return error
    beside = left_out_levels(error, np.unique(rows.group, return_inverse=True)[1])
    return np.where(np.isfinite(beside), beside, error)


def _compared(rows: Rows, score: FloatArray) -> FloatArray:
    """Root of a row's mean logistic loss against what it is compared with; NaN for a row without a pair."""
    found = np.full(len(rows), np.nan)
    for these in by_code(rows.group):
        sign = np.sign(rows.target[these][:, None] - rows.target[these])
        loss = np.logaddexp(0.0, -sign * (score[these][:, None] - score[these]))
        count = np.abs(sign).sum(axis=1)
        with np.errstate(invalid="ignore"):
            found[these] = np.sqrt(np.sum(loss * np.abs(sign), axis=1) / count)
    return found


class Rate(ProgressColumn):
    """Labels a second."""

    def render(self, task: Task) -> Text:
        """What the column shows."""
        return Text("" if task.speed is None else f"{task.speed:,.0f} labels/s")


class Shown:
    """A bar, or nothing where nobody looks.

    Args:
        console: where; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, what: str, labels: int, done: int = 0) -> None:
        """Another part of the work, of so many labels over all passes at most."""
        self._bar.reset(self._task, description=what, total=labels, completed=done)

    def more(self, labels: int) -> None:
        """Labels that were done since."""
        self._bar.advance(self._task, labels)


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
    states = states_of(backbone, rows.packs, [{}] * len(rows.packs), tokens=config.tokens, note=tell)
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
    worn = LazyAdapters(store, [ids.get(owner) for owner in owners])
    states = states_of(backbone, made, worn, tokens=config.tokens, note=tell)
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
