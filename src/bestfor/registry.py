"""Find kinds by name: in a package's own files, among installed plug-ins, or by a dotted path ``package.module:Class``.

A package's own kinds are found by reading its files, without importing any of them: a class at the top of a file that
says ``kind = "mine"`` is the kind ``mine``. What is imported is the one file whose kind is asked for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from bestfor.errors import BestforError, InputError, nearest

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Registry(Mapping[str, type[Any]]):
    """Classes of one family by the names of their kinds, imported when they are asked for.

    A package's own kinds come before installed ones of the same name.

    Args:
        package: the family's package, ``bestfor.rewards`` say; plug-ins name it as their entry points' group.
        what: what one of its classes is, in words of the field, for errors.
        attributes: class attributes that hold a kind's name, or the names of several in a tuple.
    """

    def __init__(self, package: str, what: str, attributes: tuple[str, ...] = ("kind",)) -> None:
        self.package, self.what, self._attributes = package, what, attributes

    @cached_property
    def builtin(self) -> dict[str, str]:
        """Kinds of the package itself: name -> ``module:Class``, sorted by name.

        Raises:
            BestforError: two classes have the same kind.
        """
        spec = importlib.util.find_spec(self.package)
        found: dict[str, str] = {}
        for folder in (spec.submodule_search_locations if spec else None) or ():
            for path in sorted(Path(folder).rglob("*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                module = ".".join([self.package, *(part for part in parts if part != "__init__")])
                for kind, name in declared(path.read_text(encoding="utf-8"), self._attributes):
                    if kind in found:
                        raise BestforError(f"kind '{kind}' stands twice: in {found[kind]} and in {module}:{name}")
                    found[kind] = f"{module}:{name}"
        return dict(sorted(found.items()))

    @cached_property
    def installed(self) -> dict[str, metadata.EntryPoint]:
        """Entry points of other distributions in the package's group, by name."""
        points = sorted(metadata.entry_points(group=self.package), key=lambda point: point.name)
        return {point.name: point for point in points if point.name not in self.builtin}

    def __getitem__(self, kind: str) -> type[Any]:
        if kind in self.builtin:
            module, _, name = self.builtin[kind].partition(":")
            return getattr(importlib.import_module(module), name)
        return imported(self.installed[kind].value, f"entry point '{kind}' of '{self.package}'")

    def __iter__(self) -> Iterator[str]:
        return iter([*self.builtin, *self.installed])

    def __len__(self) -> int:
        return len(self.builtin) + len(self.installed)

    def __contains__(self, kind: object) -> bool:
        return kind in self.builtin or kind in self.installed

    def resolve(self, kind: str, where: str, found: str = "kind") -> type[Any]:
        """Import the class of a kind, or the one at ``package.module:Class``; the current directory is searched too.

        Args:
            kind: a name, or a dotted path that the user wrote; never one that a stranger's file holds.
            where: names the place in errors.
            found: what stands before the kind there.

        Raises:
            InputError: no such kind (the message names the nearest), module or class.
        """
        if kind in self:
            return self[kind]
        if ":" in kind:
            return imported(kind, where, found)
        raise InputError(where, f"{found} '{kind}'".strip(), nearest(kind, self))

    def name_of(self, cls: type[Any]) -> str:
        """Give the name by which a class is found again: its kind where that is known here, else its dotted path."""
        kind = getattr(cls, self._attributes[0], None)
        if isinstance(kind, str) and kind in self and self[kind] is cls:
            return kind
        return f"{cls.__module__}:{cls.__qualname__}"

    def at(self, path: str) -> type[Any] | None:
        """Import the class that an installed entry point has at a dotted path; None where none has."""
        for point in self.installed.values():
            if point.value == path:
                return self[point.name]
        return None


def declared(source: str, attributes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """List the kinds that classes at the top of a file declare, each with its class.

    Args:
        source: the file's text; it is read, never run.
        attributes: which class attributes hold them, as plain strings or tuples of strings.
    """
    if not re.search(rf"^    ({'|'.join(attributes)})\b.*=", source, re.MULTILINE):
        return
    for node in ast.parse(source).body:
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
            value = getattr(line, "value", None)
            if not (isinstance(target, ast.Name) and target.id in attributes):
                continue
            parts = value.elts if isinstance(value, ast.Tuple) else [value]
            for part in parts:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value, getattr(node, "name", "")


def imported(path: str, where: str, found: str = "kind") -> type[Any]:
    """Import the class at ``package.module:Class``, from what is installed or lies in the current directory.

    Raises:
        InputError: no such path, module or class, or a module that cannot be imported.
    """
    said = f"{found} '{path}'".strip()
    if not _DOTTED.fullmatch(path):
        raise InputError(where, said, "a path such as 'package.module:Class'")
    module, _, name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that nothing here hides what is installed
    try:
        holder = importlib.import_module(module)
    except Exception as error:  # whatever somebody's file does, one line says it
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            expected = f"a module that can be imported in {here}"
            raise InputError(where, f"{said}: no module '{error.name}'", expected) from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(where, said, f"a module that can be imported ({reason})") from error
    cls = getattr(holder, name, None)
    if not isinstance(cls, type):
        own = [key for key, value in vars(holder).items() if isinstance(value, type) and value.__module__ == module]
        raise InputError(where, f"{said}: no class '{name}' in '{module}'", nearest(name, own))
    return cls


def make(cls: type[Any], options: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401 - an object of the class
    """Make an object of a class from options by name.

    Args:
        cls: its class.
        options: what its constructor takes.
        where: names the place in errors.

    Raises:
        InputError: an option that the constructor does not take (the message names the nearest), or one that it needs.
    """
    parameters = inspect.signature(cls).parameters.values()
    named = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if not any(one.kind == one.VAR_KEYWORD for one in parameters):
        for name in options:
            if name not in named:
                raise InputError(where, f"unknown key '{name}' for '{cls.__qualname__}'", nearest(name, named))
    for one in parameters:
        if one.default is one.empty and one.name in named and one.name not in options:
            raise InputError(where, f"no '{one.name}'", f"it to be given: '{cls.__qualname__}' needs it")
    return cls(**options)
