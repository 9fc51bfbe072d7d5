"""What pictures show against K, the number of swapped sites: a pack's order, its reverse, and random sites.

Two papers choose K by looking at this curve: Staniszewski et al. (arXiv 2502.09935) and Zarei et al. (arXiv
2505.18832). `localize` chooses K without it. Here pictures that `localize` never saw show what another K would have
done. Random sites are drawn anew for each picture, so the row is about random sets and not about one of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from PIL import Image

from evaluation.draw import draw
from evaluation.metrics import Rate, mean_interval, similarity_outside
from evaluation.prompts.cases import sign_cases
from evaluation.prompts.erasure_cases import ErasureCase, cases_of, name_of
from evaluation.readers.judges import Judges
from reference.planted.places import denoiser_of, places_of
from reference.town.captions import plain_caption
from reference.town.layout import sign_box
from reference.town.letters import held_out_words
from steering import Host, Pack, Plan, Swap

__all__ = ["ORDERS", "CurveJob", "character_f1", "curve_rows", "parameter_share", "ranked", "sizes_of", "word_pairs"]

SiteOrder = Literal["most first", "least first", "random"]
ORDERS: tuple[SiteOrder, ...] = ("most first", "least first", "random")


@dataclass(frozen=True, slots=True)
class CurveJob:
    """What to draw: `count` pictures a row, at each of `sizes`; `call`: more arguments of the pipeline."""

    sizes: tuple[int, ...]
    count: int = 20
    seed: int = 0
    call: Mapping[str, Any] = field(default_factory=dict)


def ranked(pack: Pack) -> tuple[str, ...]:
    """All sites: the chosen ones in the order in which the search took them, then the others by their effect alone."""
    alone = {} if pack.scores is None else dict(zip(pack.site_names, pack.scores.sum(1).tolist(), strict=True))
    path = [tuple(step["sites"]) for step in pack.evidence.get("path", ())]
    taken = next((sites for sites in reversed(path) if set(sites) == set(pack.sites)), ())
    chosen = taken or sorted(pack.sites, key=lambda s: -alone.get(s, 0.0))
    rest = sorted((s for s in pack.site_names if s not in pack.sites), key=lambda s: -alone.get(s, 0.0))
    return (*chosen, *rest)


def sizes_of(chosen: int, of: int) -> tuple[int, ...]:
    """The K to draw when nobody says: every one up to twice the chosen, and then some up to all."""
    near = range(1, min(2 * chosen, of) + 1)
    return tuple(sorted({*near, min((2 * chosen + of) // 2, of), of}))


def word_pairs(count: int, *, seed: int = 0) -> list[ErasureCase]:
    """`count` prompts with a held-out word on a sign; the donor has another one of the same length there."""
    words, rng = held_out_words(), random.Random(f"curve/{seed}")
    order = rng.sample(words, len(words))
    found = []
    for case in sign_cases(order, count, plain=True, first_seed=70_000 + 100_000 * seed):
        own = case.scene.lettering
        other = rng.choice([w for w in words if len(w) == len(own) and w != own])
        donor = plain_caption(replace(case.scene, lines=(other,)))
        found.append(ErasureCase("lettering", case.prompt, donor, case.scene, case.seed))
    return found


def curve_rows(
    host: Host, pack: Pack, judges: Judges, job: CurveJob, *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, Any]]:
    """A row for each order and K, one for no place, and one for all; pooled text goes as the pack says, at every K.

    Raises: ValueError, for a concept that nobody here can see, a pack that edits, or sizes that the host does not have.
    """
    if pack.edits:
        raise ValueError(
            f"pack `{pack.concept}` must swap text, got one that edits; its operators are for its own sites"
        )
    order = ranked(pack)
    if wrong := [k for k in job.sizes if not 1 <= k <= len(order)]:
        raise ValueError(f"sizes must be 1 to {len(order)} for host `{host.name}`, got {wrong[0]}")
    lettering = pack.concept == "lettering"
    cases = (
        word_pairs(job.count, seed=job.seed)
        if lettering
        else cases_of(pack.concept, "evaluation", job.count, seed=job.seed)
    )
    donors = [c.donor if lettering else pack.donor_for(c.prompt) or c.donor for c in cases]
    plain, _ = draw(host, cases, [None] * len(cases), job.call)

    def row(sets: Sequence[Sequence[str]]) -> dict[str, Any]:
        plans = [_plan(pack, donor, sites) if sites else None for donor, sites in zip(donors, sets, strict=True)]
        images = plain if not any(sets) else draw(host, cases, plans, job.call)[0]
        seen = _words(judges, cases, images) if lettering else _concept(judges, pack.concept, images)
        return {"sites": len(sets[0]), **seen, **_likeness(cases, plain, images)}

    rows = {"none": row([()] * len(cases))}
    for name in ORDERS:
        for k in (k for k in job.sizes if k < len(order)):
            progress(f"{name}: {k} of {len(order)} sites")
            rows[f"{name}, {k}"] = row(list(_sets(name, order, k, cases)))
    progress("all sites")
    return rows | {"all": row([order] * len(cases))}


def parameter_share(host: Host, sites: Sequence[str]) -> float:
    """The share of the denoiser's parameters that the attention modules at `sites` have.

    Raises: NotSupported, for a host of several pipelines or of an unknown family.
    """
    places = places_of(host)
    held = sum(p.numel() for name in sites for p in places[name].placed.module.parameters())
    return held / sum(p.numel() for p in denoiser_of(host).parameters())


def character_f1(read: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of the mean precision and the mean recall of characters, as multisets (*Precise Parameter Localization*).

    Anagrams count as right and unrelated words share letters, so it never stands alone: see the exact words beside it.
    """
    if not wanted:
        return 0.0
    common = [sum((Counter(a) & Counter(b)).values()) for a, b in zip(read, wanted, strict=True)]
    precision = sum(c / len(a) if a else 0.0 for c, a in zip(common, read, strict=True)) / len(read)
    recall = sum(c / len(b) for c, b in zip(common, wanted, strict=True)) / len(wanted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _sets(name: SiteOrder, order: Sequence[str], k: int, cases: Sequence[ErasureCase]) -> Iterator[tuple[str, ...]]:
    for case in cases:
        if name == "random":
            yield tuple(random.Random(f"curve/{k}/{case.seed}").sample(order, k))
        else:
            yield tuple(order[:k] if name == "most first" else order[-k:])


def _plan(pack: Pack, donor: str, sites: Sequence[str]) -> Plan:
    return Plan(
        Swap(donor, sites=tuple(sites), pooled=pack.pooled, source=pack.source, mode=pack.mode, window=pack.window)
    )


def _words(judges: Judges, cases: Sequence[ErasureCase], images: Sequence[Image.Image]) -> dict[str, Any]:
    read = judges.reader.read(images)
    own = [c.scene.lettering for c in cases]
    other = [c.donor.rpartition('"')[0].rpartition('"')[2] for c in cases]
    return {
        "own word read": Rate.of(a == b for a, b in zip(read, own, strict=True)).to_json(),
        "donor's word read": Rate.of(a == b for a, b in zip(read, other, strict=True)).to_json(),
        "own characters, F1": round(character_f1(read, own), 4),
        "donor's characters, F1": round(character_f1(read, other), 4),
    }


def _concept(judges: Judges, concept: str, images: Sequence[Image.Image]) -> dict[str, Any]:
    name = name_of(concept)
    return {
        "concept seen": Rate.of(s[name] >= 0.5 for s in judges.judge.scores(images)).to_json(),
        "by the second judge": Rate.of(s[name] >= 0.5 for s in judges.second.scores(images)).to_json(),
    }


def _likeness(
    cases: Sequence[ErasureCase], plain: Sequence[Image.Image], images: Sequence[Image.Image]
) -> dict[str, Any]:
    """SSIM with the plain pictures, outside the sign where there is one."""
    told = []
    for case, a, b in zip(cases, plain, images, strict=True):
        box = sign_box(case.scene, a.width)
        told.append(similarity_outside(a, b, [box] if box else [])[0])
    return {"SSIM outside the sign": mean_interval(told)}
