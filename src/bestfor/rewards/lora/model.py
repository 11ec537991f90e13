"""Reward by a language model with an adapter (LoRA) and heads for each user: the model of Zhang & He 2026.

    h = last state of (prompt, text) under W + dW + dW_u,   m = x(h)'(v + v_u),   log s^2 = x(h)'(a + a_u)
    minimise  sum_i l(y_i, m_i + c_q, s_i) + priors

W is the backbone, which never changes; dW = B A (Hu et al. 2022) is learned from everybody's labels and dW_u, of a
smaller rank, from the user's alone, on top of it. l is the Gaussian likelihood (``gaussian``), squared error
(``point``) or that of Bradley & Terry (1952) (``bradley_terry``): the variants differ in nothing else. c_q is the level
of a query, which moves no pick (:mod:`bestfor.rewards.lora.heads`). The paper publishes no hyperparameters: what it
leaves open is set to what the field would expect.

Strangers, and users who abstain, are served by the adapter and the heads for everybody; with ``level = "user"``, where
there is no such adapter, by the shared heads on the backbone as it is. ``std`` is predictive, on the scale of held-out
errors; only the mean selects. The backbone is not stored: a model names it and refuses another by its hash.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from bestfor import artifacts
from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.errors import BestforError, InputError
from bestfor.extras import require
from bestfor.files import hold, remove_unheld, write_bytes
from bestfor.rewards.lora.config import Config
from bestfor.rewards.lora.weights import Weights
from bestfor.rewards.model import RewardModel
from bestfor.types import RewardEstimate

if TYPE_CHECKING:
    from bestfor.lm.adapter_files import AdapterStore
    from bestfor.lm.states import Backbone
    from bestfor.rewards.lora.resume import FitFiles

__all__ = ["Config", "Lora"]


class Lora(RewardModel):
    """Language model with adapters and heads for everybody and for each user.

    Args:
        config: the settings.
        encoder: none is used.
        cache: folder where a fit's state is kept, so that one that was killed goes on; a temporary one by default.
        **options: fields of the configuration.
    """

    kind = "lora"
    extras = ("models",)
    sliced = True
    Config = Config

    def __init__(
        self,
        config: BaseModel | None = None,
        *,
        encoder: Encoder | str | None = None,
        cache: Path | None = None,
        **options: object,
    ) -> None:
        super().__init__(config, encoder=encoder, cache=cache, **options)
        if self.config.loss == "bradley_terry":
            self.scale = "arbitrary"
        self._store: AdapterStore | None = None
        self._work: FitFiles | None = None
        self._temporary: Path | None = None
        self._release: Callable[[], object] = lambda: None

    @cached_property
    def backbone(self) -> Backbone:
        """The base, loaded when it is first needed.

        Raises:
            InputError: there is no such checkpoint, or a limit beyond the model's.
            MissingExtraError: torch, transformers or peft are not installed.
        """
        for module in ("torch", "transformers", "peft"):
            require(module, "models")
        from bestfor.rewards.lora.fit import open_backbone

        return open_backbone(self.config)

    @property
    def has_std(self) -> bool:
        """True where rewards are means with a learned variance."""
        return self.config.loss == "gaussian"

    def ready(self) -> None:
        """Check that the backbone and what it is to run on are there."""
        _ = self.backbone

    def _fit(self, candidates: Candidates, rng: int) -> None:
        base = self.backbone
        from bestfor.rewards.lora.fit import fit

        base.shortened.clear()
        learned = fit(candidates, self.config, base, self._root(), rng, self._fit_notes.append)
        self._weights, self._store, self._work = learned.weights, learned.store, learned.state
        self._abstained = learned.abstained
        passes = learned.passes
        self._values = {"centre": learned.centre, "unit": learned.unit, "noise": learned.noise}
        self._passes = {"heads": passes.probe, "shared": passes.shared, "own": passes.own}
        self._base = base.fingerprint
        if base.shortened:
            self._fit_notes.append(_cut(len(base.shortened), base.limit))
        if self.config.level != "user" and not passes.shared:
            self._fit_notes.append("there is no adapter for everybody: held-out labels are told no better with one")
        if self.config.level != "global" and self.config.user_epochs and not passes.own:
            self._fit_notes.append("users have no adapters of their own: held-out labels are told no better with them")

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        base = self.backbone
        from bestfor.rewards.lora.fit import read_states

        if self._store is None:
            raise BestforError(f"'{self.kind}' predicts after fit or load")
        known = self._known_codes(candidates.users)
        codes = known[candidates.user]
        adapted = {
            user: int(code)
            for user, code in zip(candidates.users, known, strict=True)
            if code >= 0 and self._weights.digest(int(code))
        }
        model = (self.config, base, self._store)
        notes: list[str] = []
        with base.lock:  # what was shortened is kept with the base, which threads share
            base.shortened.clear()
            states, state = read_states(candidates, adapted, model, notes.append)
            shortened = len(base.shortened)
        mean, variance = self._weights.predict(states, state, codes)
        served = "the heads that all users share" if self.config.level == "user" else "what all users share"
        notes += self._new_user_notes(candidates, codes, served)
        if shortened:
            notes.append(_cut(shortened, base.limit))
        if self.scale == "arbitrary":
            return RewardEstimate(mean, notes=tuple(notes))
        unit, noise = self._values["unit"], self._values["noise"]
        std = unit * np.sqrt(noise * variance) if self._weights.spread.size else None
        return RewardEstimate(self._values["centre"] + unit * mean, std, notes=tuple(notes))

    def save(self, folder: Path) -> str:
        """Store the fitted model, its adapters in a folder beside the weights; returns its content hash.

        The fit's state in the cache goes: what was learned is in this folder now, and the model reads it there.
        """
        self._check_whole()
        folder, name = Path(folder), self._weights.folder
        if name and self._store is not None:
            self._copy(self._store.folder, folder / name)
        digest = super().save(folder)
        if name:
            self._open_store(folder / name)
        for stale in folder.glob("adapters-*"):
            if stale.name != name:
                remove_unheld(stale)  # what a model that is loaded elsewhere still reads goes with a later save
        if self._work is not None:
            self._work.remove()
            self._work = None
        return digest

    def _copy(self, source: Path, target: Path) -> None:
        """Copy the adapters to where they belong; the folder's name is that of their content."""
        from bestfor.lm.adapter_files import SHARED, file_of

        if target.is_dir() and target.samefile(source):
            return
        files = [SHARED] if self._weights.digest(None) else []
        files += [file_of(user) for code, user in enumerate(self._users) if self._weights.digest(code)]
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            try:
                content = (source / file).read_bytes()
            except OSError as error:
                raise InputError(str(source / file), f"no adapter ({error.strerror})", "the file") from error
            write_bytes(target / file, content)

    def _open_store(self, folder: Path) -> None:
        require("torch", "models")
        from bestfor.lm.adapter_files import AdapterStore

        self._store = AdapterStore(folder, base=self._base, most=self.config.memory << 20)
        self._hold(folder)
        for code, user in [(None, None), *enumerate(self._users)]:
            digest = self._weights.digest(code)
            if digest:
                self._store.expect(user, digest)

    def _hold(self, folder: Path) -> None:
        """Keep writers from removing the adapters while this model reads them.

        Raises:
            ReplacedError: a writer has removed them already.
        """
        self._release()
        try:
            handle = hold(folder)
        except (FileNotFoundError, NotADirectoryError):
            named = artifacts.read_config(folder.parent)["state"].get("adapters")
            if named and named != folder.name:
                raise artifacts.ReplacedError(str(folder), "no adapters", "those that config.json names") from None
            return
        if handle is not None:
            self._release = weakref.finalize(self, os.close, handle)

    def _root(self) -> Path:
        """Find where fits keep their state; a folder that goes with the model where no cache was named."""
        if self._cache is not None:
            return Path(self._cache)
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="bestfor-"))
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        return self._temporary

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        state = {**self._values, "passes": self._passes, "base": self._base, "adapters": self._weights.folder}
        return state, self._weights.arrays()

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._values = {name: float(state[name]) for name in ("centre", "unit", "noise")}
        self._passes = {name: int(state["passes"][name]) for name in ("heads", "shared", "own")}
        self._weights = Weights.restore(arrays, len(self._users))
        self._base, name = str(state["base"]), state["adapters"]
        if not isinstance(name, str) or (self._loaded_for is None and name != self._weights.folder):
            raise ValueError(f"adapters in {name}")
        if self.backbone.fingerprint != self._base:
            found = f"adapters for another base ({self._base[:12]}...)"
            where = f"backbone '{self.config.backbone}'"
            raise InputError(where, found, f"those of this checkpoint ({self.backbone.fingerprint[:12]}...)")
        if len(self._weights.centre) != self.backbone.hidden:
            raise ValueError(f"heads on states of {len(self._weights.centre)} coordinates")
        self._open_store((self._folder or Path()) / (Path(name).name or "adapters"))


def _cut(count: int, limit: int) -> str:
    what = "1 prompt was" if count == 1 else f"{count} prompts were"
    cut = "shortened (earlier texts left out, the input cut at its end)"
    return f"{what} {cut}: prompt and text have at most {limit:,} tokens together"
