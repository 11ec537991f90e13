"""Keep old paths of public modules, and old public names, working for one version, with a warning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOT = "bestfor."

MODULES: dict[str, str] = {
    "data.batches": "data.read.tables",
    "data.benchmarks": "data.sources.benchmarks",
    "data.cells": "data.read.tables",
    "data.examples": "data.candidates",
    "data.fields": "data.read.objects",
    "data.grammar": "data.world.grammar",
    "data.hashing": "data.text",
    "data.histories": "data.sources.histories",
    "data.jsonarray": "data.read.arrays",
    "data.jsonl": "data.read.jsonl",
    "data.lamp": "data.sources.lamp",
    "data.longlamp": "data.sources.longlamp",
    "data.own": "data.sources.own",
    "data.phrases": "data.world.phrases",
    "data.polis": "data.sources.polis",
    "data.portions": "data.chunks",
    "data.rows": "data.read.objects",
    "data.stream": "data.read.stream",
    "data.table": "data.read.tables",
    "data.taste": "data.world.taste",
    "data.texts": "data.text",
    "data.wording": "data.sources.benchmarks",
    "diagnostics.advice": "diagnostics.words",
    "diagnostics.as_json": "diagnostics.wire",
    "diagnostics.assembly": "diagnostics.diagnose",
    "diagnostics.bootstrap": "diagnostics.intervals.clustered",
    "diagnostics.calibration_json": "diagnostics.wire",
    "diagnostics.combine": "diagnostics.folds",
    "diagnostics.cost": "diagnostics.beyond.budget",
    "diagnostics.diagnosis": "diagnostics.diagnose",
    "diagnostics.extrapolate": "diagnostics.beyond.extrapolate",
    "diagnostics.findings": "diagnostics.words",
    "diagnostics.ids": "diagnostics.table.rows",
    "diagnostics.influence": "diagnostics.intervals.influence",
    "diagnostics.jackknife": "diagnostics.intervals.jackknife",
    "diagnostics.laws": "diagnostics.quantities.laws",
    "diagnostics.mbr": "diagnostics.beyond.mbr",
    "diagnostics.mixture": "diagnostics.quantities.mixture",
    "diagnostics.named_rules": "selection",
    "diagnostics.outlook": "diagnostics.beyond.outlook",
    "diagnostics.personal": "diagnostics.beyond.budget",
    "diagnostics.pools": "diagnostics.table.pools",
    "diagnostics.precision": "diagnostics.beyond.outlook",
    "diagnostics.prospects": "diagnostics.beyond.outlook",
    "diagnostics.queries": "diagnostics.quantities.queries",
    "diagnostics.reasons": "diagnostics.words",
    "diagnostics.resampling": "diagnostics.intervals.clustered",
    "diagnostics.results": "diagnostics.result",
    "diagnostics.rows": "diagnostics.table.rows",
    "diagnostics.rule_curves": "diagnostics.curves.subsets",
    "diagnostics.rules": "diagnostics.curves.rules",
    "diagnostics.sample": "diagnostics.beyond.sample",
    "diagnostics.settings": "diagnostics.diagnose",
    "diagnostics.sharing": "diagnostics.blocks",
    "diagnostics.soft": "diagnostics.curves.rules",
    "diagnostics.stopping": "diagnostics.beyond.budget",
    "diagnostics.subsets": "diagnostics.curves.subsets",
    "diagnostics.summary": "diagnostics.words",
    "diagnostics.suspects": "diagnostics.evidence",
    "diagnostics.tally": "diagnostics.calibration",
    "diagnostics.text_effects": "diagnostics.intervals.influence",
    "diagnostics.tokens": "diagnostics.beyond.tokens",
    "diagnostics.within": "diagnostics.quantities.queries",
    "pipeline": "runs",
    "pipeline.adapters": "runs.adapters",
    "pipeline.asking": "runs.prompts",
    "pipeline.config": "runs.config",
    "pipeline.doors": "runs.stages",
    "pipeline.examples": "runs.joins",
    "pipeline.filling": "runs.sampling",
    "pipeline.generate": "runs.sampling",
    "pipeline.histories": "runs.sources",
    "pipeline.inventory": "runs.folder",
    "pipeline.measure": "runs.measuring",
    "pipeline.page": "runs.folder",
    "pipeline.qualify": "runs.sources",
    "pipeline.run": "runs.run",
    "pipeline.scores": "runs.table",
    "pipeline.scoring": "runs.joins",
    "pipeline.serving": "runs.usage",
    "pipeline.stages": "runs.stages",
    "pipeline.steps": "runs.steps",
    "pipeline.streaming": "runs.table",
    "pipeline.study": "runs.study",
    "pipeline.tables": "runs.config",
    "report.bars": "report.charts.plots",
    "report.beyond": "report.charts.plots",
    "report.cards": "report.suspects",
    "report.charts_beyond": "report.charts.draw",
    "report.charts_calibration": "report.charts.draw",
    "report.curves": "report.charts.plots",
    "report.html": "report.page",
    "report.panels": "report.page",
    "report.plots": "report.picture",
    "report.reliability": "report.charts.plots",
    "report.svg": "report.charts.svg",
    "report.tables_beyond": "report.tables",
    "report.tables_calibration": "report.tables",
    "rewards.bradley_terry": "rewards.heads.bradley_terry",
    "rewards.ensemble": "rewards.heads.ensemble",
    "rewards.gaussian": "rewards.heads.gaussian",
    "rewards.point": "rewards.heads.point",
    "rewards.pooled": "rewards.linear.pooled",
    "rewards.ridge": "rewards.linear.ridge",
    "utilities": "metrics",
    "utilities.agreement": "metrics.agreement",
    "utilities.base": "metrics.base",
    "utilities.embedding": "metrics.embedding",
    "utilities.judge": "metrics.judge",
    "utilities.meteor": "metrics.meteor",
    "utilities.ngrams": "metrics.ngrams",
    "utilities.overlap": "metrics.overlap",
    "utilities.score_tokens": "metrics.score_tokens",
    "utilities.taste": "metrics.taste",
}
"""Modules by their old paths -> the module that holds their names now, both within the package."""


class _Moved(ModuleType):
    """Module at its old path: its names come from where they are now."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (any of the new module's names)
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(ROOT + MODULES[self.__name__.removeprefix(ROOT)]), name)


class _Loader(Loader):
    """Loader that warns and makes a module that passes names on."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        old = spec.name.removeprefix(ROOT)
        message = f"{spec.name} is now {ROOT}{MODULES[old]}; the old path goes with the next version"
        warnings.warn(message, DeprecationWarning, stacklevel=_outside())
        module = _Moved(spec.name)
        module.__path__ = []  # old subpackages are found by this finder too
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are looked up when they are asked for."""


class _Finder(MetaPathFinder):
    """Finder of modules at their old paths."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(ROOT) or fullname.removeprefix(ROOT) not in MODULES:
            return None
        return ModuleSpec(fullname, _Loader(), is_package=True)


def _outside() -> int:
    """Count stack levels up to whoever imports, beyond the import system's own frames."""
    level, frame = 2, sys._getframe(2)
    while frame is not None and ("importlib" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        level, frame = level + 1, frame.f_back
    return level


def install() -> None:
    """Add the finder of old module paths behind all others; once, however often it is called."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def renamed(module: str, names: Mapping[str, str], *, depth: int = 2) -> Callable[[str], Any]:
    """Make a module's ``__getattr__`` that still knows the old names of its classes and functions, and warns.

    Args:
        module: the module's own name.
        names: old name -> new name in the same module, or ``"module:name"`` elsewhere in the package.
        depth: frames from the warning to whoever uses an old name; 3 where the module has a ``__getattr__`` of its own.
    """

    def look_up(name: str) -> Any:  # noqa: ANN401 (whatever had the name)
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = names[name].rpartition(":")
        message = f"{module}.{name} is now {new}; the old name goes with the next version"
        warnings.warn(message, DeprecationWarning, stacklevel=depth)
        return getattr(importlib.import_module(ROOT + place if place else module), new)

    return look_up
