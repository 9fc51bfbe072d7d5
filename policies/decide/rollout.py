"""Whether and how a rule is in force for one request: rollout, dates, overrides and staleness combined.

The server, the command line, tests in files and replay all use this module, so an expired override stops everywhere
at the same moment.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from policies.decide.rules import Rule
from policies.decide.snapshot import Snapshot
from policies.format.actions import OnError
from policies.format.strictness import ON_ERRORS, strictest_of
from policies.types import Request

__all__ = ["Force", "force_of", "tightened", "watches"]


@dataclass(frozen=True, slots=True)
class Force:
    """How a rule is in force: enforced or in shadow, what an error means, and the strength of its steering.

    With `strength` None each action keeps its own. `spares` is False when exceptions do not count.
    """

    enforced: bool
    on_error: OnError
    strength: float | str | None = None
    spares: bool = True


_ENFORCED: Mapping[OnError, Force] = {name: Force(True, name) for name in ON_ERRORS}


def tightened(snapshot: Snapshot, request: Request) -> frozenset[str]:
    """The policies that are stale for `request` and have `on_stale: tighten`."""
    return frozenset(f.policy for f in snapshot.stale(request.now) if f.on_stale == "tighten")


def force_of(rule: Rule, request: Request, snapshot: Snapshot, tight: Collection[str] = ()) -> Force | None:
    """How `rule` is in force for `request`; None when it is not. `tight` is the result of `tightened`."""
    if rule.always and rule.policy not in tight:
        return _ENFORCED[rule.model.on_error]
    if not rule.active(request.now):
        return None
    stern = rule.policy in tight
    own = rule.model.rollout
    mode, percent, on_error, strength = own.mode, own.percent, rule.model.on_error, None
    if rule.overrides:
        setting = strictest_of(
            o.set
            for o in rule.overrides
            if (o.expires is None or request.now < o.expires)
            and (o.tenants is None or o.tenants.holds(request.tenant))
            and not (stern and o.loosens)
        )
        if setting is not None:
            mode, percent = (setting.mode, setting.percent) if setting.mode is not None else (mode, percent)
            on_error, strength = setting.on_error or on_error, setting.strength
    if mode == "disabled":
        return None
    drawn = mode == "enforce" or (mode == "canary" and (stern or _drawn(rule, request, snapshot, percent or 0.0)))
    return Force(drawn, "block" if stern else on_error, strength, not stern)


def _drawn(rule: Rule, request: Request, snapshot: Snapshot, percent: float) -> bool:
    """Whether a canary acts on `request`: whether a keyed hash, which callers cannot predict, is below `percent`.

    A request that is drawn at some percent is drawn at every higher percent.
    """
    if not snapshot.draw_canaries:
        return True
    assert snapshot.canary_key is not None  # INVARIANT: the loader refuses canaries without a key
    by = rule.model.rollout.by
    whom = {"request": (request.tenant, request.id), "tenant": (request.tenant,), "prompt": (request.prompt,)}[by]
    return _draw(snapshot.canary_key, rule.id, by, *whom) < percent / 100


def watches(rule: Rule, request: Request, snapshot: Snapshot) -> bool:
    """Whether the rule is drawn to look at the pictures of `request`; the same answer at both stages. What a prompt
    says of a given picture proves nothing, so each rule that can looks at it.

    Without a key the draw depends on the request's id alone, which callers do not choose.
    """
    if request.given:
        return bool(rule.verifies)
    if rule.watches in (0.0, 1.0) or not snapshot.draw_canaries:
        return rule.watches > 0
    return _draw(snapshot.canary_key or b"watch", rule.id, "watch", request.tenant, request.id) < rule.watches


def _draw(key: bytes, *parts: str) -> float:
    """A number in [0, 1) by a keyed hash of `parts`; each has its length, so no two lists give the same text."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    drawn = hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64
