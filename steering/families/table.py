"""The table of families: the records of this project, and how a pipeline finds its own."""

from __future__ import annotations

from collections.abc import Sequence

from steering.errors import BadFamily, NotSupported
from steering.families.description import Family
from steering.families.records import cross_attention, founding, one_sequence, several_encoders, two_streams, video

__all__ = ["FAMILIES", "check_families", "family_of", "known_family", "refuse_by_name"]

_FILES = (founding, two_streams, one_sequence, several_encoders, cross_attention, video)
FAMILIES: tuple[Family, ...] = tuple(record for file in _FILES for record in file.RECORDS)

# pipelines that are refused by name, by a part of their name, with the reason
_REFUSED = {
    "ControlNet": "its ControlNet has text inputs of its own, through which a concept would come back",
    "Adapter": "its adapter is a second model that is not watched",
    "PAG": "perturbed guidance adds rows to the batch that no plan is laid out for",
    "Onnx": "an ONNX graph has no modules to steer",
}


def known_family(pipeline_class: type, families: Sequence[Family] = ()) -> Family | None:
    """The family of a pipeline class or of the nearest class that it is derived from, or None.

    families: records of the caller beside those of this table. Raises: BadFamily, for records that cannot be used;
    NotSupported, for a pipeline that is refused by name, whatever the records say.
    """
    check_families(families)
    refuse_by_name(pipeline_class.__name__)
    for base in pipeline_class.__mro__:
        for family in (*FAMILIES, *families):
            if base.__name__ in family.pipelines:
                return family
    return None


def check_families(families: Sequence[Family]) -> None:
    """Nothing, when a caller's records describe pipeline classes that no other record describes. Raises: BadFamily."""
    owners = {pipeline: family.name for family in FAMILIES for pipeline in family.pipelines}
    for family in families:
        if not isinstance(family, Family):
            raise BadFamily(f"families must hold `Family` records, got `{type(family).__name__}`")
        for pipeline in family.pipelines:
            if pipeline in owners:
                raise BadFamily(
                    f"family `{family.name}` must not describe `{pipeline}`, which family `{owners[pipeline]}`"
                    " describes; describe a class derived from it"
                )
            owners[pipeline] = family.name


def refuse_by_name(pipeline_class: str) -> None:
    """Nothing, unless a pipeline is known not to be steerable, by the name of its class. Raises: NotSupported."""
    for part, reason in _REFUSED.items():
        if part in pipeline_class:
            raise NotSupported(f"pipeline `{pipeline_class}` cannot be steered: {reason}")


def family_of(pipeline_class: str) -> Family:
    """The family of a pipeline class, by its name. Raises: NotSupported."""
    for family in FAMILIES:
        if pipeline_class in family.pipelines:
            return family
    supported = ", ".join(f"{f.name} ({', '.join(f.pipelines)})" for f in FAMILIES)
    raise NotSupported(f"pipeline `{pipeline_class}` is of no known family; known: {supported}")
