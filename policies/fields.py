"""The small types of the policy format: names, words, numbers from 0 to 1, durations, and checks that models share.

Each type carries its bounds, so the JSON Schema and the loader accept the same values.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

__all__ = ["ConceptName", "Duration", "FormatModel", "Moment", "Name", "ReadName", "SignalName", "Text", "UnitFloat"]
__all__ += ["Version", "Words", "exactly_one", "just_one", "length", "moment", "numbers", "plain_schema"]

_NAME = "[a-z0-9]+(-[a-z0-9]+)*"
Name = Annotated[str, Field(pattern=f"^{_NAME}$", max_length=64)]
# `lettering`, or `kind/name`. Every kind is allowed here; the loader compares names with what detectors and packs cover
ConceptName = Annotated[str, Field(pattern=f"^(lettering|{_NAME}/{_NAME})$")]
ReadName = Annotated[str, Field(pattern=f"^(sentinel:)?(lettering|{_NAME}/{_NAME})$")]  # what `verify` may read
SignalName = Annotated[str, Field(pattern=f"^(text|toxicity|lettering|{_NAME}/{_NAME})$")]
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=1000)]
UnitFloat = Annotated[float, Field(ge=0.0, le=1.0)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[smhd]$")]
Moment = datetime | date  # a date means its first moment, in UTC

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class FormatModel(BaseModel):
    """The base class of the format's models: no unknown fields, frozen, strict about types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=False)


def exactly_one(*names: str) -> ConfigDict:
    """The configuration of a model of which exactly one of the fields `names` is set, for its JSON Schema."""
    return ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in names]})


def just_one(
    model: BaseModel, names: tuple[str, ...], what: str, *, instead: str = "combine several with `all`, `any` or `none`"
) -> None:
    """Raises `PydanticCustomError` unless exactly one of the fields `names` is set. `instead`: what to do otherwise."""
    given = [n for n in names if getattr(model, n) is not None]
    if len(given) != 1:
        got = ", ".join(f"`{n}`" for n in given) or "nothing"
        raise PydanticCustomError(
            "just_one",
            "{what} must hold exactly one of {names}, got {got}; {instead}",
            {"instead": instead, "what": what, "names": ", ".join(f"`{n}`" for n in names), "got": got},
        )


def moment(value: Moment | None) -> datetime | None:
    """`value` as a moment in UTC; a date means its first moment."""
    if value is None or isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC) if value is not None else None
    return datetime.combine(value, time(), tzinfo=UTC)


def length(duration: str) -> timedelta:
    """A duration such as `15m`, `24h`, `7d` or `30s` as a `timedelta`."""
    return timedelta(**{_UNITS[duration[-1]]: int(duration[:-1])})


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version such as `1.2.0`, to compare versions; a suffix such as `.dev1` is ignored."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in found.group().split(".")) if found else ()


def plain_schema(schema: Any) -> Any:
    """`schema` for editors: an optional field may be left out, and may not be null."""
    if isinstance(schema, list):
        return [plain_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if {"type": "null"} in schema.get("anyOf", ()):
        rest = [plain_schema(s) for s in schema["anyOf"] if s != {"type": "null"}]
        others = {k: plain_schema(v) for k, v in schema.items() if k not in ("anyOf", "default", "title")}
        return {**others, **(rest[0] if len(rest) == 1 else {"anyOf": rest})}
    return {k: plain_schema(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
