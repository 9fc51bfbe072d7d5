"""The block map: the sites of a host in the order in which they run, and what a pack does at each."""

from __future__ import annotations

from dataclasses import dataclass

from steering.families.fingerprint import HostFacts
from steering.host import Host
from steering.packs.pack import Pack

__all__ = ["MappedSite", "block_map"]


@dataclass(frozen=True, slots=True)
class MappedSite:
    """One site on the map.

    * `chosen`: the pack steers here; `wider`: it does so only in its wider set.
    * `effects`: the effect of this site alone, by part of the trajectory; empty where it was not measured.
    """

    name: str
    chosen: bool
    wider: bool
    effects: tuple[float, ...]

    @property
    def effect(self) -> float:
        """The effect over the whole trajectory."""
        return sum(self.effects)


def block_map(host: Host | HostFacts, pack: Pack) -> tuple[MappedSite, ...]:
    """The sites of `host`, then those of pooled text."""
    effects = {} if pack.scores is None else dict(zip(pack.site_names, pack.scores.tolist(), strict=True))
    pooled = {s.name for s in host.global_sites if pack.pooled == "donor" or s.name in pack.operators}
    chosen = {*pack.sites, *pooled}
    wider = set(pack.wider) - chosen
    every = (s.name for s in (*host.sites, *host.global_sites))
    return tuple(MappedSite(name, name in chosen, name in wider, tuple(effects.get(name, ()))) for name in every)
