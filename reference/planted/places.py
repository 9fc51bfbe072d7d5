"""Where knowledge can be planted: the linear maps that make keys and values of text, or read pooled text.

`steering` knows which modules these are; this module only names them. In FLUX's single blocks one projection reads text
and picture alike: there a plant must not change the picture's tokens (see `directions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from steering import Host, NotSupported
from steering.families.description import Family, PooledRule, SiteRule
from steering.families.discovery import Placed, find_pooled, find_sites
from steering.families.table import known_family

__all__ = ["PlantSite", "denoiser_of", "family_of", "places_of"]

# the linear map that reads pooled text, from the module of a global site
_POOLED_READERS = ("text_embedder.linear_1", "linear_1")


@dataclass(frozen=True, slots=True)
class PlantSite:
    """A site with the linear maps that read text there, by their names in the denoiser.

    `sequence`: its maps read one sequence of text and picture.
    """

    name: str
    kind: str
    placed: Placed
    readers: Mapping[str, nn.Linear]
    sequence: bool = False

    @property
    def pooled(self) -> bool:
        """True where pooled text is read."""
        return self.kind == "global"


def family_of(host: Host) -> Family:
    """The family of a host of one pipeline. Raises: NotSupported, for another host or an unknown family."""
    family = known_family(type(host.pipe))
    if family is None or len(host.pipes) != 1:
        raise NotSupported(f"plants need a host with one pipeline of a known family, got `{host!r}`")
    return family


def denoiser_of(host: Host) -> nn.Module:
    """The host's denoiser, without a compiler's wrapper."""
    component = getattr(host.pipe, family_of(host).denoiser)
    denoiser: nn.Module = getattr(component, "_orig_mod", component)
    return denoiser


def places_of(host: Host) -> dict[str, PlantSite]:
    """The places of a host by name, in execution order, the global one last.

    Raises: NotSupported, where projections are fused or no plain linear maps, or masks and rotations go with text.
    """
    family, denoiser = family_of(host), denoiser_of(host)
    names = {id(module): name for name, module in denoiser.named_modules()}
    found: dict[str, PlantSite] = {}
    for placed in find_sites(family, denoiser):
        if placed.site.kind == "text":  # what is taught there would be read at every site
            continue
        assert isinstance(placed.rule, SiteRule)
        if placed.rule.companions:
            raise NotSupported(f"nothing is planted at `{placed.name}`: masks or rotations of a row go with its text")
        maps = placed.projection("keys"), placed.projection("values")
        readers = {names[id(m)]: _linear(m, placed.name) for m in maps}
        found[placed.name] = PlantSite(placed.name, placed.site.kind, placed, readers, not placed.span.whole)
    for placed in find_pooled(family, denoiser):
        if isinstance(placed.rule, PooledRule) and placed.rule.source == "pooled":
            reader = _pooled_reader(placed.module)
            found[placed.name] = PlantSite(placed.name, "global", placed, {names[id(reader)]: reader})
    return found


def _pooled_reader(module: nn.Module) -> nn.Linear:
    for name in _POOLED_READERS:
        try:
            return _linear(module.get_submodule(name), name)
        except AttributeError:
            continue
    raise NotSupported(f"`{type(module).__name__}` reads pooled text in an unknown way")


def _linear(module: Any, name: str) -> nn.Linear:
    if not isinstance(module, nn.Linear):
        raise NotSupported(f"a reader of text at `{name}` must be `Linear`, got `{type(module).__name__}`")
    return module
