"""The families that a pipeline may have, likeliest first; the host's self-test decides among them.

A class that the table knows has one. Any other may be a variant of a family whose denoiser it has; if not, it is
probed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from steering.errors import NotSupported
from steering.families.description import Family
from steering.families.observe import parameters
from steering.families.probe import probed_families
from steering.families.table import FAMILIES, known_family

__all__ = ["possible_families"]


def possible_families(pipe: Any, families: Sequence[Family], *, tested: bool) -> Iterator[Family]:
    """The families to try. tested: a self-test will decide. Raises: NotSupported, BadFamily."""
    known = known_family(type(pipe), families)
    if known is not None:
        yield known
        return
    name = type(pipe).__name__
    if not tested:
        raise NotSupported(
            f"`{name}` is in no table, so only its self-test shows whether it may be steered; leave `self_test` on"
        )
    yield from (_variant(family, name) for family in (*FAMILIES, *families) if _is_like(pipe, family))
    yield from probed_families(pipe)


def _is_like(pipe: Any, family: Family) -> bool:
    """Whether a pipeline has a family's denoiser, encoders and way of encoding, and starts from what it starts from."""
    denoiser = getattr(pipe, family.denoiser, None)
    method = getattr(pipe, family.encode.method, None)
    if not isinstance(denoiser, nn.Module) or method is None:
        return False
    rule, takes = family.encode, parameters(method)
    names = {rule.prompt, rule.guidance, rule.images, *rule.cleared} - {None}
    same = type(getattr(denoiser, "_orig_mod", denoiser)).__name__ == family.denoiser_class
    counts = family.pictures is None or family.pictures in parameters(pipe.__call__)
    return same and counts and names <= set(takes) and rule.encoders[0] in pipe.components and family.image == "none"


def _variant(family: Family, name: str) -> Family:
    return replace(family, name=f"{family.name}, as {name}", pipelines=(name,))
