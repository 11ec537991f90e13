"""Run ``bestfor kinds``: list reward models, metrics, policies, retrievers, encoders and backends with options."""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bestfor.cli._output import print_json
from bestfor.errors import BestforError, InputError, nearest
from bestfor.registry import Registry

Family = Callable[[], list["Kind"]]


@dataclass(frozen=True)
class Option:
    """Option of a kind.

    Attributes:
        name: the key in a run's file; one in a table within has the table's name before it.
        type: what it takes, in words; choices are listed.
        default: its default as in a run's file, None where there is none or it is to be left out.
        required: whether it has to be given.
        choices: the values that it takes, empty where there are too many to list.
        description: what it does.
    """

    name: str
    type: str
    default: Any
    required: bool
    choices: tuple[Any, ...]
    description: str


@dataclass(frozen=True)
class Kind:
    """Kind of one family.

    Attributes:
        kind: its name in a run's file.
        description: one line.
        extras: optional parts of this package that it needs: ``pip install 'bestfor[EXTRA]'``.
        place: ``module:Class``, empty where it is no class.
        options: what a run's file can say.
    """

    kind: str
    description: str
    extras: tuple[str, ...] = ()
    place: str = ""
    options: tuple[Option, ...] = ()


def kinds(
    kind: Annotated[str, typer.Argument(help="One kind, shown in full.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what a run's file can name: reward models, metrics, policies, retrievers, encoders and backends.

    For example: bestfor kinds hierarchical
    """
    found = {name: list_kinds() for name, list_kinds in FAMILIES.items()}
    if kind:
        found = {name: [one for one in listed if one.kind == kind] for name, listed in found.items()}
        found = {name: listed for name, listed in found.items() if listed}
    if not found:
        known = [one.kind for list_kinds in FAMILIES.values() for one in list_kinds()]
        raise InputError("kinds", f"'{kind}'", nearest(kind, known))
    if as_json:
        print_json({name: [asdict(one) for one in listed] for name, listed in found.items()})
    elif kind:
        for name, listed in found.items():
            _print_one(name, listed[0])
    else:
        _print_all(found)


def reward_models() -> list[Kind]:
    """List the reward models; what each takes is its ``Config``."""
    from bestfor.rewards.kinds import KINDS

    def describe(kind: str, cls: type[Any]) -> Kind:
        extras = (*cls.extras, *(("models",) if cls.uses_features() and "models" not in cls.extras else ()))
        return Kind(kind, _first_line(cls), extras, _place(cls), tuple(options_of(cls.Config)))

    return _listed(KINDS, describe)


def metrics() -> list[Kind]:
    """List the metrics; what each takes stands in ``[utility]``."""
    from bestfor.metrics.kinds import METRICS
    from bestfor.runs.config import UtilityTable

    def describe(kind: str, cls: type[Any]) -> Kind:
        options = tuple(options_of(UtilityTable, getattr(cls, "keys", ())))
        return Kind(kind, _first_line(cls), getattr(cls, "extras", ()), _place(cls), options)

    return _listed(METRICS, describe)


def policies() -> list[Kind]:
    """List the policies; what each takes stands in ``[policy]``, beside what all take."""
    from bestfor.policies import POLICIES, WRITER_KEYS
    from bestfor.runs.config import PolicyTable

    others = ("endpoint", "adapters", "base", "feedback", "options")
    shared = [name for name in PolicyTable.model_fields if name not in (*WRITER_KEYS, *others, "kind")]

    def describe(kind: str, cls: type[Any]) -> Kind:
        named = inspect.signature(cls).parameters
        own = getattr(cls, "keys", [name for name in WRITER_KEYS if name in named])
        options = tuple(options_of(PolicyTable, (*own, *getattr(cls, "tables", ()), *shared), (cls,)))
        return Kind(kind, _first_line(cls), getattr(cls, "extras", ()), _place(cls), options)

    return _listed(POLICIES, describe)


def retrievers() -> list[Kind]:
    """List how the items of a prompt are chosen."""
    from bestfor.policies.retrieval import RETRIEVERS

    return [
        Kind(name, said[0].upper() + said[1:] + ".", ("models",) if name == "dense" else ())
        for name, said in RETRIEVERS.items()
    ]


def encoders() -> list[Kind]:
    """List the forms of an encoder's name."""
    from bestfor.encoders.names import FORMS

    return [Kind(name, said[0].upper() + said[1:] + ".", extras) for name, (said, extras) in FORMS.items()]


def backends() -> list[Kind]:
    """List who does the work of a run; what each takes stands in ``[backend]``."""
    from bestfor.backends import BACKENDS
    from bestfor.runs.backend import BackendTable

    def describe(kind: str, cls: type[Any]) -> Kind:
        options = tuple(options_of(BackendTable, (*inspect.signature(cls).parameters, "place"), (cls,)))
        return Kind(kind, _first_line(cls), cls.extras, _place(cls), options)

    return _listed(BACKENDS, describe)


FAMILIES: dict[str, Family] = {
    "reward models": reward_models,
    "metrics": metrics,
    "policies": policies,
    "retrievers": retrievers,
    "encoders": encoders,
    "backends": backends,
}


def _listed(registry: Registry, describe: Callable[[str, type[Any]], Kind]) -> list[Kind]:
    """Describe every kind; one that cannot be imported (a broken plug-in, say) says so itself."""
    found: list[Kind] = []
    for name in registry:
        try:
            found.append(describe(name, registry[name]))
        except BestforError as error:
            found.append(Kind(name, f"Cannot be imported: {error}"))
    return found


def options_of(
    config: type[BaseModel], names: tuple[str, ...] | None = None, others: tuple[type[Any], ...] = (), prefix: str = ""
) -> Iterator[Option]:
    """List the options of a configuration, tables within it key by key.

    Args:
        config: the configuration.
        names: which of its fields; all by default.
        others: classes whose docstrings describe the same names too.
        prefix: the tables around it.
    """
    said = described(config, *others)
    for name, field in config.model_fields.items():
        if names is not None and name not in names:
            continue
        table = _table(field.annotation)
        if table is not None and table is not config:
            yield from options_of(table, None, (), f"{prefix}{name}.")
            continue
        choices = _choices(field.annotation)
        shown = " | ".join(map(str, choices)) if choices else "table" if table else type_name(field)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        default = default.model_dump() if isinstance(default, BaseModel) else default
        yield Option(f"{prefix}{name}", shown, default, field.is_required(), choices, said.get(name, ""))


def described(*classes: type[Any]) -> dict[str, str]:
    """Read what the attributes of classes are from their docstrings' sections ``Attributes`` and ``Args``.

    A docstring that names another class of this package (keys as in ...) is read together with that one's.
    """
    found: dict[str, str] = {}
    for said in [text for cls in classes for text in _docstrings(cls)]:
        section = re.search(r"^(?:Attributes|Args):\n((?:    .*\n|\n)*)", said + "\n", re.MULTILINE)
        lines = section[1] if section else ""
        for name, text in re.findall(r"^    (\w+): ((?:.*\n(?:     .*\n)*))", lines, re.MULTILINE):
            found.setdefault(name, " ".join(text.split()))
    return found


def _docstrings(cls: type[Any]) -> Iterator[str]:
    """Docstrings of a class, of the classes that it names, and of those that it inherits."""
    for one in cls.__mro__:
        said = inspect.cleandoc(one.__doc__ or "") if one.__module__ != "pydantic.main" else ""
        yield said
        for module, name in re.findall(r":class:`~?(bestfor[\w.]*)\.(\w+)`", said):
            named = getattr(importlib.import_module(module), name, None)
            yield inspect.cleandoc(getattr(named, "__doc__", None) or "")


def type_name(field: FieldInfo) -> str:
    """Name what a field takes, bounds included."""
    bounds = [
        f"{sign} {getattr(one, word)}"
        for one in field.metadata
        for word, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if hasattr(one, word)
    ]
    return " ".join([_words(field.annotation), *([", ".join(bounds)] if bounds else [])])


def _words(annotation: Any) -> str:  # noqa: ANN401 - any annotation
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(inner[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_words(one) for one in inner if one is not type(None))
    if origin in (tuple, list):
        return f"list of {_words(inner[0])}"
    if origin is typing.Literal:
        return " | ".join(map(str, inner))
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return "table" if origin is not None else names.get(annotation, "table")


def _choices(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any annotation
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def _table(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    """Find the configuration that a field holds, where it holds one."""
    for one in (annotation, *typing.get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _first_line(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _place(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _print_all(found: dict[str, list[Kind]]) -> None:
    console = Console(highlight=False)
    for name, listed in found.items():
        table = Table(title=name, title_justify="left", box=None, pad_edge=False, title_style="bold")
        for column in ("kind", "what it is", "needs"):
            table.add_column(column, overflow="fold")
        for one in listed:
            table.add_row(Text(one.kind), Text(one.description), Text(", ".join(one.extras)))
        console.print(table)
        console.print()
    console.print("bestfor kinds NAME shows one in full; needs: pip install 'bestfor\\[NAME]'")


def _print_one(family: str, kind: Kind) -> None:
    console = Console(highlight=False)
    one = {"policies": "policy"}.get(family, family.removesuffix("s"))
    console.print(Text(f"{kind.kind} ({one}): {kind.description}"))
    if kind.place:
        console.print(Text(f"class: {kind.place}"))
    if kind.extras:
        console.print(Text(f"needs: pip install 'bestfor[{','.join(kind.extras)}]'"))
    table = Table(box=None, pad_edge=False)
    for column in ("option", "takes", "default", "what it does"):
        table.add_column(column, overflow="fold")
    for one in kind.options:
        default = "(to be given)" if one.required else "-" if one.default is None else _shown(one.default)
        table.add_row(Text(one.name), Text(one.type), Text(default), Text(one.description))
    if kind.options:
        console.print(table)
    console.print()


def _shown(value: object) -> str:
    """Show a default as a run's file would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_shown, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
