"""What a function of the user's depends on beside tensors: its Python constants, as one comparable value.

A captured function is replayed without running its Python. So numbers, strings and the like that it can reach are
compared before each replay: what it closes over, the globals that it and the functions it calls name, and what stands
in objects and containers there. Tensors count by identity, as do objects of the standard library and of other
packages; small arrays count by their contents. Iterators are refused: what a function takes from one is another thing
at each call. What it takes from elsewhere, such as a clock, is not seen.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias, cast

import numpy as np

from portkit.errors import TensorError
from portkit.tensor.common import is_tensor

Table: TypeAlias = dict[str, Any]
MOST_BYTES = 1 << 20
"""Bytes of an array that is compared by its contents; the user makes a tensor of a larger one."""
_VALUES = (bool, int, str, bytes, type(None), complex, np.generic)
_LIBRARIES = frozenset(("portkit", "numpy", "ml_dtypes", *sys.stdlib_module_names))


@dataclass(frozen=True, slots=True)
class Constants:
    """What is compared, by how it is reached; and what is kept, so that no identity is given to something else."""

    table: Table
    kept: list[Any]


def constants(function: Callable[..., Any], arguments: Any = None) -> Constants:
    """Return what a function and its arguments can reach that is no tensor.

    Raises `TensorError` for an array that is too large to be compared, and for an iterator.
    """
    table: Table = {}
    kept: dict[int, Any] = {}
    waiting: list[tuple[str, Any]] = [("", function), ("arguments", arguments)]
    while waiting:
        path, value = waiting.pop()
        token, inside = _look(path, value)
        table[path] = id(value) if token is _SAME else token
        if inside is not None and id(value) not in kept:
            kept[id(value)] = value
            waiting.extend(inside)
    return Constants(table, list(kept.values()))


def difference(before: Constants, after: Constants) -> str:
    """Return the shortest path of something that two differ in; empty if they are equal."""
    a, b = before.table, after.table
    if a == b:
        return ""
    paths = [path for path in (*a, *b) if a.get(path, _NOTHING) != b.get(path, _NOTHING)]
    return min(paths, key=len).lstrip(".:") or "the function"


def draws() -> object:
    """Return the state of the global random generators of Python and NumPy, for comparison."""
    kind, keys, *rest = cast("tuple[Any, ...]", np.random.get_state(legacy=True))  # noqa: NPY002
    return (random.getstate(), kind, keys.tobytes(), rest)


_NOTHING, _SAME = object(), object()
Inside: TypeAlias = Iterable[tuple[str, Any]] | None
"""What is inside a value; None for one that is compared by itself, and not kept."""


def _look(path: str, value: Any) -> tuple[Any, Inside]:
    """Return what is compared of a value, and what is inside it."""
    kind = cast("type[Any]", type(value))
    if kind is float or kind is np.float64:
        return (kind, float(value).hex()), None
    if isinstance(value, _VALUES):
        return (kind, value), None
    if is_tensor(value):
        return _SAME, ()
    if isinstance(value, np.ndarray):
        return _contents(path, cast("np.ndarray[Any, Any]", value)), None
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state), None
    if isinstance(value, Iterator):
        raise TensorError(
            f"a captured function can reach an iterator, {path.lstrip('.:')}, and a replay would take nothing from it: "
            "take from it outside, and give what it gives as an argument"
        )
    return _container(path, kind, value) or (_SAME, _parts(path, value))


def _container(path: str, kind: type[Any], value: Any) -> tuple[Any, Inside] | None:
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return (kind, len(items)), ((f"{path}[{n}]", item) for n, item in enumerate(items))
    if isinstance(value, dict):
        table = cast("dict[Any, Any]", value)
        return (kind, *map(_key, table)), _named(path, "[{!r}]", table)
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(map(_key, cast("set[Any]", value)))), None
    if isinstance(value, MethodType):
        return kind, [(f"{path}.self", value.__self__), (f"{path}.function", value.__func__)]
    if isinstance(value, partial):
        bound = cast("partial[Any]", value)
        return kind, [(f"{path}.function", bound.func), (path, (bound.args, bound.keywords))]
    return None


def _key(key: Any) -> Any:
    return (cast("type[Any]", type(key)), key)


def _contents(path: str, array: np.ndarray[Any, Any]) -> Any:
    if array.nbytes > MOST_BYTES:
        raise TensorError(
            f"a captured function uses {path.lstrip('.:') or 'an array'}, {array.nbytes} bytes of the host that could "
            "change between calls: make a Tensor of it outside, or give it as a Tensor argument"
        )
    return (array.shape, array.dtype.str, zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data))


def _named(path: str, form: str, table: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((path + form.format(name), item) for name, item in table.items())


def _parts(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Return what is inside a function, class or object of the user's, and nothing of what is not looked into."""
    if isinstance(value, (ModuleType, BuiltinFunctionType)):
        return ()
    if isinstance(value, FunctionType):
        return _reached(path, value) if _is_users(value.__module__) else ()
    if isinstance(value, type):
        return _named(path, ".{}", _plain(vars(value))) if _is_users(value.__module__) else ()
    owner = cast("type[Any]", type(value))
    if hasattr(value, "__wrapped__"):
        return [(path + ".function", value.__wrapped__)]
    if not _is_users(owner.__module__) and not _holds_state(owner):
        return ()
    slots = {name: getattr(value, name) for c in owner.__mro__ for name in _slots(c) if hasattr(value, name)}
    return _named(path, ".{}", {**slots, **getattr(value, "__dict__", {})})


def _is_users(module: str | None) -> bool:
    return _is_users_package((module or "").partition(".")[0])


@cache
def _is_users_package(name: str) -> bool:
    """Whether a top-level package is part of the user's program: none of Python's, ours, or installed."""
    if name in _LIBRARIES:
        return False
    return not {"site-packages", "dist-packages"} & set(
        Path(getattr(sys.modules.get(name), "__file__", None) or "").parts
    )


def _holds_state(owner: type[Any]) -> bool:
    """Whether objects of a class of portkit are part of the user's program: layers, optimizers, generators."""
    return owner.__module__.startswith("portkit.tensor.")


def _slots(owner: type[Any]) -> tuple[str, ...]:
    named = cast("str | tuple[str, ...]", vars(owner).get("__slots__", ()))
    return (named,) if isinstance(named, str) else tuple(n for n in named if not n.startswith("__"))


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constants of a class: no methods, no descriptors."""
    return {n: v for n, v in table.items() if not n.startswith("__") and not callable(v) and not hasattr(v, "__get__")}


def _reached(path: str, function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function closes over, its defaults, and the globals that it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{path}.{name}", cell.cell_contents
        except ValueError:  # not yet assigned
            yield f"{path}.{name}", None
    yield f"{path}.defaults", (function.__defaults__, function.__kwdefaults__)
    names = set(_names(function.__code__))
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            if _is_users(value.__name__):
                yield from _named(f"{path}:{name}", ".{}", {n: v for n, v in vars(value).items() if n in names})
        else:
            yield f"{path}:{name}", value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
