"""The table of predicates, and `when`: one predicate, or several under `all`, `any` or `none`.

There is no expression language. Completion in editors, the difference of two policies in meaning, explanations and
bounds on cost all need predicates that are typed to their leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import ConfigDict, Field, create_model, model_validator

from policies.fields import FormatModel, just_one
from policies.predicates.compound import Compound, CompoundKind
from policies.predicates.condition import Condition
from policies.predicates.predicate import Need, Predicate, RuleScope

__all__ = ["PREDICATES", "WhenModel"]

# One line a predicate: the module of this folder that holds it as `PREDICATE`. The order is that of the JSON Schema.
_MODULES = (
    "lettering",
    "toxicity",
    "words",
    "concept",
    "tenant",
    "time",
    "picture",
    "sentinel",
    "strikes",
)


def _predicate(module: str) -> Predicate[Any]:
    found = import_module(f"policies.predicates.{module}").PREDICATE
    if not isinstance(found, Predicate):
        raise TypeError(f"`PREDICATE` of policies/predicates/{module}.py must be a `Predicate`, got `{found!r}`")
    return found


PREDICATES = {predicate.field: predicate for predicate in map(_predicate, _MODULES)}
assert len(PREDICATES) == len(_MODULES)  # INVARIANT: no two predicates have the same field

if TYPE_CHECKING:  # mypy cannot read fields that come from a table; nothing but this module reads them by name
    _Fields = FormatModel
else:
    _fields = {name: (predicate.value | None, None) for name, predicate in PREDICATES.items()}
    _Fields = create_model("_Fields", __base__=FormatModel, **_fields)


class WhenModel(_Fields):
    """One predicate, or several under `all`, `any` or `none`."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    all: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None
    any: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None
    none: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _check(self) -> WhenModel:
        just_one(self, tuple(type(self).model_fields), "a condition")
        return self

    def compile(self, scope: RuleScope) -> Condition:
        """The condition with every list, date and duration resolved."""
        compound = self._compound()
        if compound is not None:
            kind, parts = compound
            return Compound(kind, tuple(part.compile(scope) for part in parts))
        predicate, value = self._single()
        return predicate.compile(value, scope)

    def needs(self) -> Iterator[Need]:
        """The signals that the predicates of this condition need from detectors."""
        compound = self._compound()
        if compound is not None:
            kind, parts = compound
            for i, part in enumerate(parts):
                yield from (need._replace(path=(kind, i, *need.path)) for need in part.needs())
            return
        predicate, value = self._single()
        yield from predicate.needs(value)

    def _compound(self) -> tuple[CompoundKind, list[WhenModel]] | None:
        found: list[tuple[CompoundKind, list[WhenModel]]] = [
            (kind, getattr(self, kind)) for kind in get_args(CompoundKind) if getattr(self, kind) is not None
        ]
        return found[0] if found else None

    def _single(self) -> tuple[Predicate[Any], Any]:
        values = ((predicate, getattr(self, name)) for name, predicate in PREDICATES.items())
        return next((predicate, value) for predicate, value in values if value is not None)
