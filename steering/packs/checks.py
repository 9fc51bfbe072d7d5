"""Checks of a pack: its name, its sets of sites, its numbers, what a published one may not claim and a tuned one must
say."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import torch

from steering.errors import BadPack
from steering.families.fingerprint import Fingerprint, Likeness
from steering.sentinel import Sentinel
from steering.values import Operator

if TYPE_CHECKING:
    from steering.packs.pack import Pack

__all__ = ["check_concept", "check_pack"]

_CONCEPT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?")
_CATEGORY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*/\*")


def check_pack(pack: Pack) -> None:
    """Nothing, when the parts of a pack fit each other. Raises: BadPack."""
    _check_name(pack)
    _check_sets(pack)
    top = math.inf if pack.edits else 1.0
    if pack.strength is not None and not 0.0 < pack.strength <= top:
        raise BadPack(f"strength must be in (0, {top:g}] or None, got `{pack.strength}`")
    if empty := next((w for w in (pack.window, *pack.bins) if w.start == w.end), None):
        raise BadPack(f"a window of a pack must hold a part of the trajectory, got [{empty.start:g}, {empty.end:g}]")
    if pack.edits:
        _check_operators(pack)
    if pack.published:
        _check_published(pack)
    else:
        _check_measured(pack)
    if pack.tuned:
        _check_tuned(pack)
    if pack.sentinel is not None:
        _check_sentinel(pack, pack.sentinel)


def check_concept(name: str) -> None:
    """Nothing, when a pack that was measured may be for this concept. Raises: BadPack."""
    if _CATEGORY.fullmatch(name):
        raise BadPack(f"only a published pack may be for a category, got `{name}`; name one concept of it")
    if not _CONCEPT.fullmatch(name):
        raise BadPack(
            "concept must be `lettering` or `kind/name` in lower-case words joined by dashes, for example `animal/cat`"
            f" or `logo/acme-cola`; got `{name}`"
        )


def _check_name(pack: Pack) -> None:
    if not (pack.published and _CATEGORY.fullmatch(pack.concept)):
        check_concept(pack.concept)


def _check_sets(pack: Pack) -> None:
    for name in ("sites", "wider"):
        chosen = getattr(pack, name)
        if not chosen or len(set(chosen)) != len(chosen):
            raise BadPack(f"{name} of pack `{pack.concept}` must be different names, at least one, got `{chosen}`")
        strange = [s for s in chosen if s not in pack.site_names]
        if strange:
            raise BadPack(f"{name} of pack `{pack.concept}` must be among its site_names, got `{strange[0]}`")


def _check_operators(pack: Pack) -> None:
    missing = [s for s in (*pack.sites, *pack.wider) if s not in pack.operators]
    if missing:
        raise BadPack(f"a pack that edits has an operator for each of its sites, got none for `{missing[0]}`")
    for name, own in pack.operators.items():
        if not (isinstance(own, tuple) and own and all(isinstance(o, Operator) for o in own)):
            raise BadPack(f"operators must map a site to a tuple of `Operator`, got `{type(own).__name__}` at `{name}`")
        places = [o.where for o in own]
        if len(set(places)) < len(places):
            raise BadPack(f"a site has one operator a place, got {', '.join(f'`{p}`' for p in places)} at `{name}`")
        for place in places:
            if (name in pack.site_names) == (place == "pooled"):
                raise BadPack(f"operator for `{place}` cannot stand at site `{name}` of pack `{pack.concept}`")


def _check_tuned(pack: Pack) -> None:
    if pack.kind != "adapter":
        raise BadPack(f"a tuned pack holds an adapter, operators at projections of its sites, got one of {pack.kind}s")
    if not pack.evidence.get("data"):
        raise BadPack("a tuned pack names the `data` that it was trained on in `evidence`")


def _check_measured(pack: Pack) -> None:
    if not isinstance(pack.host, Fingerprint):
        raise BadPack("a pack names the weights that it was made for; only a published one may leave them out")
    if pack.tuned and pack.scores is None and pack.choice is None and not pack.bins:
        return
    if pack.scores is None or pack.choice is None:
        raise BadPack("a pack has scores and a choice; only a published or tuned one may leave both out, and the bins")
    want = (len(pack.site_names), len(pack.bins))
    if tuple(pack.scores.shape) != want:
        raise BadPack(f"scores must be [sites, bins] = {list(want)}, got {list(pack.scores.shape)}")
    if not pack.bins:
        raise BadPack("bins must hold at least one window of the trajectory")
    if not bool(torch.isfinite(pack.scores).all()):
        raise BadPack("scores must be finite, got nan or inf")
    if pack.choice.k != len(pack.sites):
        raise BadPack(f"choice.k must be the number of sites, {len(pack.sites)}, got {pack.choice.k}")


def _check_sentinel(pack: Pack, sentinel: Sentinel) -> None:
    if not isinstance(pack.host, Fingerprint) or sentinel.made_for != pack.host.digest:
        raise BadPack(f"sentinel of pack `{pack.concept}` must be made for the pack's own host, it is for another")
    if sentinel.concept != pack.concept:
        raise BadPack(f"sentinel must be of the pack's concept `{pack.concept}`, got `{sentinel.concept}`")
    strange = [s for s in sentinel.sites if s not in pack.site_names]
    if strange:
        raise BadPack(f"sentinel of pack `{pack.concept}` must read sites of its site_names, got `{strange[0]}`")


def _check_published(pack: Pack) -> None:
    if not isinstance(pack.host, Likeness):
        raise BadPack("a published pack must be bound to a `Likeness`, because it was measured on no weights")
    if pack.edits:
        raise BadPack("a published pack swaps only; an operator needs evidence of our own")
    if pack.scores is not None or pack.choice is not None or pack.bins or pack.calibration:
        raise BadPack("a published pack has no scores, bins, choice or calibration; its figures are in `evidence`")
    if not pack.evidence.get("source"):
        raise BadPack("a published pack names its `source` in `evidence`")
