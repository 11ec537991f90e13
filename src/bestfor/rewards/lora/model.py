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

``members`` above 1 is the reward-LoRA ensemble of the field (Zhai et al. 2023; Coste et al. 2024), adapters and heads
of several seeds on one backbone that is loaded once:

    R = mean_k m_k - caution sd_k m_k,   std^2 = mean_k s_k^2 + var_k m_k,   std_mean^2 = var_k m_k
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from bestfor.rewards.heads.ensemble import combine
from bestfor.rewards.lora.config import Config, written
from bestfor.rewards.lora.weights import Weights, stack, unstack
from bestfor.rewards.model import RewardModel
from bestfor.types import FloatArray, RewardEstimate

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
        self._stores: list[AdapterStore] = []
        self._work: list[FitFiles] = []
        self._temporary: Path | None = None
        self._release: list[Callable[[], object]] = []

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
        from bestfor.rewards.lora.fit import fit_members

        base.shortened.clear()
        members = fit_members(candidates, self.config, base, self._root(), rng, self._fit_notes.append)
        learned = members[0]
        self._weights, self._stores = [one.weights for one in members], [one.store for one in members]
        self._work = [one.state for one in members]
        self._fit_notes = list(dict.fromkeys(self._fit_notes))  # each member says what it finds too long
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
        if not self._stores:
            raise BestforError(f"'{self.kind}' predicts after fit or load")
        codes = self._known_codes(candidates.users)[candidates.user]
        notes: list[str] = []
        with base.lock:  # what was shortened is kept with the base, which threads share
            base.shortened.clear()
            found = [
                self._moments(candidates, weights, store, notes.append)
                for weights, store in zip(self._weights, self._stores, strict=True)
            ]
            shortened = len(base.shortened)
        served = "the heads that all users share" if self.config.level == "user" else "what all users share"
        notes = [*dict.fromkeys(notes), *self._new_user_notes(candidates, codes, served)]
        if shortened:
            notes.append(_cut(shortened, base.limit))
        means, variances = (np.array(values) for values in zip(*found, strict=True))
        return replace(self._combined(means, variances), notes=tuple(notes))

    def _moments(
        self, candidates: Candidates, weights: Weights, store: AdapterStore, note: Callable[[str], None]
    ) -> tuple[FloatArray, FloatArray]:
        """Predict mean and variance of rows on the standard scale by one member, each (n,)."""
        from bestfor.rewards.lora.fit import read_states

        known = self._known_codes(candidates.users)
        adapted = {
            user: int(code)
            for user, code in zip(candidates.users, known, strict=True)
            if code >= 0 and weights.digest(int(code))
        }
        states, state = read_states(candidates, adapted, (self.config, self.backbone, store), note)
        return weights.predict(states, state, known[candidates.user])

    def _combined(self, means: FloatArray, variances: FloatArray) -> RewardEstimate:
        """Combine the members' moments, (members, n), on the utility's scale where there is one."""
        centre, unit, noise = self._values["centre"], self._values["unit"], self._values["noise"]
        if self.scale == "arbitrary":
            centre, unit = 0.0, 1.0
        known = bool(self._weights[0].spread.size)
        if len(means) == 1:
            mean = means[0] if self.scale == "arbitrary" else centre + unit * means[0]
            return RewardEstimate(mean, unit * np.sqrt(noise * variances[0]) if known else None)
        found = combine(means, noise * variances, (centre, unit))
        assert found.std_mean is not None
        mean = found.mean - self.config.caution * found.std_mean
        return RewardEstimate(mean, found.std if known else None, found.std_mean)

    def save(self, folder: Path) -> str:
        """Store the fitted model, its adapters in a folder beside the weights; returns its content hash.

        The fit's state in the cache goes: what was learned is in this folder now, and the model reads it there.
        """
        self._check_whole()
        folder, names = Path(folder), [one.folder for one in self._weights]
        for name, store, weights in zip(names, self._stores, self._weights, strict=True):
            if name:
                self._copy(store.folder, folder / name, weights)
        digest = super().save(folder)
        if any(names):
            self._open_stores([folder / (name or "adapters") for name in names])
        for stale in folder.glob("adapters-*"):
            if stale.name not in names:
                remove_unheld(stale)  # what a model that is loaded elsewhere still reads goes with a later save
        for work in self._work:
            work.remove()
        self._work = []
        return digest

    def stored(self) -> tuple[dict[str, Any], Arrays]:
        """JSON values and arrays of the fitted model; settings that came later are named where they are in use."""
        config, arrays = super().stored()
        config["config"] = written(self.config)
        return config, arrays

    def export_backbone(self, out: Path) -> None:
        """Write the backbone with the adapter for everybody in its weights: a checkpoint for ``hidden:`` encoders.

        Of an ensemble it is the first member's adapter.

        Args:
            out: the new folder.

        Raises:
            InputError: the model has no adapter for everybody, or the folder is there.
        """
        if not self._stores or not self._weights[0].digest(None):
            raise InputError(f"a '{self.kind}'", "no adapter for everybody", "one that was fitted with it")
        from bestfor.rewards.lora.merged import write_merged

        write_merged(self.backbone, self._stores[0].of(None), Path(out))

    def _copy(self, source: Path, target: Path, weights: Weights) -> None:
        """Copy the adapters to where they belong; the folder's name is that of their content."""
        from bestfor.lm.adapter_files import SHARED, file_of

        if target.is_dir() and target.samefile(source):
            return
        files = [SHARED] if weights.digest(None) else []
        files += [file_of(user) for code, user in enumerate(self._users) if weights.digest(code)]
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            try:
                content = (source / file).read_bytes()
            except OSError as error:
                raise InputError(str(source / file), f"no adapter ({error.strerror})", "the file") from error
            write_bytes(target / file, content)

    def _open_stores(self, folders: Sequence[Path]) -> None:
        """Open each member's adapters."""
        require("torch", "models")
        from bestfor.lm.adapter_files import AdapterStore

        self._hold(folders)
        most = (self.config.memory << 20) // len(folders)
        self._stores = [AdapterStore(folder, base=self._base, most=most) for folder in folders]
        for weights, store in zip(self._weights, self._stores, strict=True):
            for code, user in [(None, None), *enumerate(self._users)]:
                digest = weights.digest(code)
                if digest:
                    store.expect(user, digest)

    def _hold(self, folders: Sequence[Path]) -> None:
        """Keep writers from removing the adapters while this model reads them.

        Raises:
            ReplacedError: a writer has removed them already.
        """
        for release in self._release:
            release()
        self._release = []
        for folder in folders:
            try:
                handle = hold(folder)
            except (FileNotFoundError, NotADirectoryError):
                named = _listed(artifacts.read_config(folder.parent)["state"].get("adapters"))
                if any(named) and folder.name not in named:
                    raise artifacts.ReplacedError(str(folder), "no adapters", "those that config.json names") from None
                continue
            if handle is not None:
                self._release.append(weakref.finalize(self, os.close, handle))

    def _root(self) -> Path:
        """Find where fits keep their state; a folder that goes with the model where no cache was named."""
        if self._cache is not None:
            return Path(self._cache)
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="bestfor-"))
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        return self._temporary

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        names = [one.folder for one in self._weights]
        adapters = names[0] if len(names) == 1 else names
        state = {**self._values, "passes": self._passes, "base": self._base, "adapters": adapters}
        return state, stack(self._weights)

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._values = {name: float(state[name]) for name in ("centre", "unit", "noise")}
        self._passes = {name: int(state["passes"][name]) for name in ("heads", "shared", "own")}
        self._weights = unstack(arrays, len(self._users), self.config.members)
        self._base, names = str(state["base"]), _listed(state["adapters"])
        known = [one.folder for one in self._weights]
        if len(names) != len(known) or (self._loaded_for is None and names != known):
            raise ValueError(f"adapters in {state['adapters']}")
        if self.backbone.fingerprint != self._base:
            found = f"adapters for another base ({self._base[:12]}...)"
            where = f"backbone '{self.config.backbone}'"
            raise InputError(where, found, f"those of this checkpoint ({self.backbone.fingerprint[:12]}...)")
        if len(self._weights[0].centre) != self.backbone.hidden:
            raise ValueError(f"heads on states of {len(self._weights[0].centre)} coordinates")
        self._open_stores([(self._folder or Path()) / (Path(name).name or "adapters") for name in names])


def _listed(adapters: object) -> list[str]:
    """Names of the members' folders, as a model's config holds them: one, or a list of several."""
    names = adapters if isinstance(adapters, list) else [adapters]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"adapters in {adapters}")
    return [str(name) for name in names]


def _cut(count: int, limit: int) -> str:
    what = "1 prompt was" if count == 1 else f"{count} prompts were"
    cut = "shortened (earlier texts left out, the input cut at its end)"
    return f"{what} {cut}: prompt and text have at most {limit:,} tokens together"
