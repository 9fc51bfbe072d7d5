"""The block map: the sites of the host in the order in which they run, and where packs steer them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from service.console.asking import ready_of, whole
from service.console.charts import Chart, chart
from service.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steering import Host, HostFacts, Pack

__all__ = ["Map", "map_of", "page"]

_SHADES = 10


@dataclass(frozen=True, slots=True)
class Cell:
    """One site on the map. `heat`: by part of the trajectory, the effect of the site alone and its shade in 0 to 10."""

    name: str
    number: int
    chosen: bool
    wider: bool
    heat: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Map:
    """A pack on the host: its cells in order, the parts of the trajectory, its share, and the pictures that were
    counted for it.
    """

    concept: str
    kind: str
    evidence: str
    cells: tuple[Cell, ...]
    parts: tuple[str, ...]
    share: str
    joint: Chart | None
    pictures: tuple[dict[str, Any], ...]
    curve: tuple[Any, ...]


async def page(request: Request) -> Response:
    """`GET /console/blocks`: one pack, or two to compare, by the fields `pack` and `with`."""
    ready = ready_of(request)
    known = await run_in_threadpool(ready.packs.concepts)
    chosen = [name for field in ("pack", "with") if (name := request.query_params.get(field, ""))]
    if not chosen and known:
        chosen = known[:1]
    for name in chosen:
        if name not in known:
            raise NotFound(f"no pack of `{name[:64]}` for this model")
    maps = [map_of(ready.facts, ready.packs[name]) for name in chosen]
    both = set.intersection(*({c.name for c in m.cells if c.chosen} for m in maps)) if len(maps) == 2 else set()
    return whole(request, "blocks", host=ready.facts, known=known, maps=maps, both=both, chosen=[*chosen, "", ""][:2])


def map_of(host: Host | HostFacts, pack: Pack) -> Map:
    """The map of one pack."""
    from steering import block_map  # with torch, which the API's process does without

    evidence, sites = pack.evidence, block_map(host, pack)
    top = max((v for site in sites for v in site.effects), default=0.0) or 1.0
    cells = tuple(
        Cell(
            site.name,
            number,
            site.chosen,
            site.wider,
            tuple((round(v, 3) + 0.0, round(_SHADES * max(0.0, v / top))) for v in site.effects),
        )
        for number, site in enumerate(sites)
    )
    return Map(
        pack.concept,
        pack.kind,
        str(evidence.get("kind", "none")),
        cells,
        tuple(f"{100 * b.start:.0f} to {100 * b.end:.0f} %" for b in pack.bins),
        _share(pack),
        _joint(evidence.get("path", ()), pack),
        tuple({"name": name, **row} for name, row in evidence.get("pictures", {}).items()),
        pack.calibration,
    )


def _share(pack: Pack) -> str:
    if pack.choice is None:
        return "not measured"
    found = pack.choice
    return f"{found.share:.3f} (95 % interval {found.low:.3f} to {found.high:.3f}, target {found.target:g})"


def _joint(path: Sequence[dict[str, Any]], pack: Pack) -> Chart | None:
    """The joint share of the best K sites against K, as the search found it."""
    if not path:
        return None
    last = max(2, *(p["k"] for p in path))
    return chart(
        "Joint share against K",
        "share of all sites' effect",
        {"best K sites": [(float(p["k"]), float(p["share"])) for p in path]},
        x=(1.0, float(last)),
        x_ticks={float(k): f"K = {k}" for k in sorted({p["k"] for p in path})},
        level=pack.choice.target if pack.choice else None,
    )
