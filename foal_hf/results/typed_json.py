"""JSON to dataclasses, checked by pydantic: errors name the place of the unknown, missing or wrong value."""

from typing import ClassVar, TypeVar


Record = TypeVar("Record")


class JsonRecord:
    """Base of the dataclasses in a results file. Unknown fields, infinity and NaN are errors."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}


def from_json(kind: type[Record], text: str, where: str) -> Record:
    """Parse JSON into an object of a type.

    Args:
        kind: A dataclass with type hints. No value is converted, except whole numbers to `float` and lists to `tuple`.
        text (`str`): JSON.
        where (`str`): Name of the whole, for errors, such as `results`.

    Raises:
        ValueError: If a value does not match its type, or a dataclass refuses it.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = where + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    message = {
        "unexpected_keyword_argument": "unknown field.",
        "missing": "required, but missing.",
        "value_error": first["msg"].removeprefix("Value error, "),
    }.get(first["type"], f"{first['msg']}, got {first['input']!r:.80}.")
    raise ValueError(f"`{place}`: {message}")


__all__ = ["JsonRecord", "from_json"]
