"""Fit and predict several reward models at once by a run's backend; what they leave comes back as bytes and arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestfor.backends import Backend, Plan, PlanTask
from bestfor.backends.parts import WorkPart
from bestfor.data.candidates import Candidates
from bestfor.data.parts import CandidateParts
from bestfor.encoders.cache import text_key
from bestfor.encoders.spreading import count_absent, encode_absent
from bestfor.files import writing_folder
from bestfor.rewards import kind_class, load_model
from bestfor.rewards.model import RewardModel
from bestfor.runs.config import RewardTable
from bestfor.runs.joins import Predicted, predict_rows

Files = Mapping[str, bytes]
"""Files of a model's folder, by their path within it."""


@dataclass(frozen=True)
class ModelTask:
    """Reward model that is fitted or asked elsewhere.

    Attributes:
        label: its name.
        kind: its kind.
        options: of the kind.
    """

    label: str
    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class _Rows:
    """Rows that every model of a plan sees, with the seed of fits and the folder of embeddings."""

    rows: Candidates
    seed: int
    cache: Path


def encode_for(
    tables: Sequence[RewardTable],
    parts: CandidateParts,
    cache: Path,
    backend: Backend,
    tell: Callable[[str], None],
    part: WorkPart | None = None,
) -> dict[str, int]:
    """Encode what reward models will read, as far as the cache lacks it.

    Candidates and what was asked are encoded, and what users wrote where a model compares with that. A text that a
    model reads beyond these is encoded when it does.

    Args:
        tables: the models.
        parts: the run's candidates.
        cache: folder of embeddings.
        backend: who encodes.
        tell: called with lines that say how far it is.
        part: takes the texts whose hash falls to it alone.

    Returns:
        How many texts were encoded, by encoder.
    """
    found: dict[str, int] = {}
    for name, texts in _wanted(tables, parts).items():
        own = sorted(text for text in texts if part is None or part.has_key(text_key(text)))
        found[name] = encode_absent(backend, name, cache, own, tell=tell)
    return found


def count_unencoded(tables: Sequence[RewardTable], parts: CandidateParts, cache: Path) -> int:
    """Count what :func:`encode_for` would encode."""
    return sum(count_absent(name, cache, sorted(texts)) for name, texts in _wanted(tables, parts).items())


def _wanted(tables: Sequence[RewardTable], parts: CandidateParts) -> dict[str, set[str]]:
    """List the texts that models read, by encoder."""
    wanted: dict[str, set[str]] = {}
    for table in tables:
        name, history = _reads(table)
        if name:
            wanted.setdefault(name, set()).update(_texts(parts, history=history))
    return wanted


def _reads(table: RewardTable) -> tuple[str, bool]:
    """Name the encoder that a model reads texts by, "" for none, and tell whether it reads what users wrote."""
    cls = kind_class(table.kind)
    if not cls.uses_encoder():
        return "", False
    config = cls(**table.options).config
    history = bool(getattr(config, "history", cls.kind == "similarity"))
    needed = history or getattr(config, "components", 1) > 0
    return (config.encoder if needed else ""), history


def _texts(parts: CandidateParts, *, history: bool) -> Iterator[str]:
    whole = parts.whole
    yield from whole.texts
    yield from (text for text in whole.inputs if text)
    if history and whole.history is not None:
        for user in whole.users:
            yield from whole.history.texts.get(user, ())


def fit_models(
    backend: Backend, models: Sequence[ModelTask], fit: Candidates, seed: int, cache: Path
) -> Iterator[tuple[str, Files]]:
    """Fit models by a backend.

    Args:
        backend: who fits.
        models: what is fitted.
        fit: the labelled rows.
        seed: of everything random.
        cache: folder of embeddings, read where a worker has it.

    Yields:
        Each model's label and its folder's files, as it is done.
    """
    tasks = [PlanTask(one.label, (one.kind, dict(one.options))) for one in models]
    plan = Plan("fit", _fitted, tasks, _Rows(fit, seed, cache), portable=True, ordered=False)
    yield from ((task.key, files) for task, files in backend.run(plan))


def predict_models(
    backend: Backend, models: Sequence[ModelTask], folders: Path, test: Candidates, cache: Path
) -> Iterator[tuple[str, Predicted]]:
    """Predict the rewards of some rows by models, by a backend; arguments as for :func:`fit_models`.

    Args:
        backend: who predicts.
        models: who is asked.
        folders: holds the models' folders, under their labels.
        test: the rows; what a model must not see is not in them.
        cache: folder of embeddings.

    Yields:
        Each model's label and its rewards.
    """

    def tasks() -> Iterator[PlanTask]:
        for one in models:
            yield PlanTask(one.label, (one.kind, read_files(folders / one.label)))

    plan = Plan("predict", _predicted, tasks(), _Rows(test, 0, cache), portable=True, ordered=False)
    yield from ((task.key, found) for task, found in backend.run(plan))


def read_files(folder: Path) -> Files:
    """Read every file of a model's folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(files: Files, folder: Path) -> None:
    """Write a model's folder in one step."""
    with writing_folder(folder) as partial:
        for name, payload in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(payload)


def _fitted(given: _Rows, kind: str, options: Mapping[str, Any]) -> Files:
    model: RewardModel = kind_class(kind)(cache=_here(given.cache), **options)
    model.fit(given.rows, rng=given.seed)
    with tempfile.TemporaryDirectory() as made:
        model.save(Path(made) / "model")
        return read_files(Path(made) / "model")


def _predicted(given: _Rows, kind: str, files: Files) -> Predicted:
    with tempfile.TemporaryDirectory() as made:
        write_files(files, Path(made) / "model")
        model = load_model(Path(made) / "model", cache=_here(given.cache), kinds=[kind_class(kind)])
        return predict_rows(given.rows, model)


def _here(cache: Path) -> Path | None:
    return cache if cache.is_dir() else None
