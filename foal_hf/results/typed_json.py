"""JSON to dataclasses by their type hints: what is missing, unknown or of another type is named by its place."""

import math
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def from_json(kind: Any, value: Any, where: str) -> Any:
    """Make an object of a type from what `json.loads` gave.

    Args:
        kind: A dataclass, `str`, `int`, `float`, `bool`, or a list, dict (with `str` keys), tuple, `Literal` or
            optional of these; `Any` takes what is there.
        value: What the JSON holds.
        where (`str`): Its place, for errors, such as `results.training`.

    Returns:
        The object. Whole numbers become `float` where one is asked for, lists `tuple`.

    Raises:
        ValueError: If the value is not of the type, or a dataclass refuses it.
    """
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _dataclass_from_json(kind, value, where)
    if origin in (Union, types.UnionType):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else from_json(inner, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"`{where}` is {value!r}, expected one of {', '.join(map(repr, arguments))}.")
        return value
    if origin is list:
        return [from_json(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(_list(value, where))]
    if origin is tuple:
        if len(_list(value, where)) != len(arguments):
            raise ValueError(f"`{where}` is {value!r}, expected {len(arguments)} values.")
        return tuple(from_json(inner, item, where) for inner, item in zip(arguments, value, strict=True))
    if origin is dict:
        return {key: from_json(arguments[1], item, f"{where}[{key!r}]") for key, item in _dict(value, where).items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # True is an int in Python, and no number in a file.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"`{where}` is {value!r}, expected a value of the type {kind.__name__}.")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"`{where}` is {value}, which JSON has no number for; expected a finite one.")
    return value


def _dataclass_from_json(kind: Any, value: Any, where: str) -> Any:
    given, hints = _dict(value, where), get_type_hints(kind)
    known = {field.name: field.default is MISSING and field.default_factory is MISSING for field in fields(kind)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"`{where}` holds the unknown field {unknown[0]!r}; known are {', '.join(known)}.")
    missing = [name for name, needed in known.items() if needed and name not in given]
    if missing:
        raise ValueError(f"`{where}` lacks the field {missing[0]!r}.")
    arguments = {name: from_json(hints[name], item, f"{where}.{name}") for name, item in given.items()}
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ValueError(f"`{where}`: {error}") from error


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"`{where}` is {value!r}, expected a list.")
    return list(value)


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"`{where}` is {value!r}, expected an object with names as keys.")
    return value


__all__ = ["from_json"]
