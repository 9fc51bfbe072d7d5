"""The snapshot: all rules that are in force together, compiled, with one matcher and one digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from policies.decide.rules import Freshness, Rule
from policies.evidence import Trigger
from policies.format.model import FLOOR, PolicyModel
from policies.inflections import Forms
from policies.matcher import Matcher
from policies.types import Stage, concept_of

__all__ = ["Origin", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The signed bundle that a snapshot came from; `name` is the set it belongs to, `key` the key that signed it."""

    name: str
    sequence: int
    digest: str
    created: datetime
    not_after: datetime
    key: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All rules that are in force together, pinned to a request for its whole life.

    `digest` names the content: the same rules and words give the same digest, whatever the names and the layout of the
    files. `words` has the folded entries of every list under `policy/list`, with their inflected forms where the list
    asks for these; `forms` tells for such a list which entry each form belongs to. `as_of` is the time when the
    content was last known to be current; None means now. With `floor_added`, the policy `floor` is the one of this
    package, which the loader added because the policies have none of their own. `strikes` is how long strikes are
    remembered; None: no rule asks for them.
    """

    digest: str
    policies: tuple[PolicyModel, ...]
    rules: tuple[Rule, ...]
    words: Mapping[str, tuple[str, ...]]
    matcher: Matcher
    forms: Mapping[str, Forms] = field(default_factory=dict)
    canary_key: bytes | None = None
    draw_canaries: bool = True  # False in tests of files: there a canary counts as enforced
    by_trigger: Mapping[Trigger, tuple[int, ...]] = field(default_factory=dict)
    always: tuple[int, ...] = ()
    watching: Mapping[Trigger, tuple[int, ...]] = field(default_factory=dict)  # which rules a picture may violate
    watched: frozenset[str] = frozenset()  # what some rule reads in every picture of every request
    watchers: tuple[int, ...] = ()  # the rules whose watching depends on the request
    names: frozenset[tuple[Stage, str]] = frozenset()  # every (stage, name) that some rule needs
    freshness: tuple[Freshness, ...] = ()
    as_of: datetime | None = None
    origin: Origin | None = None
    floor_added: bool = False
    strikes: timedelta | None = None

    @property
    def floor(self) -> Literal["given", "added", "none"]:
        """Where the policy `floor` comes from: it is one of the policies given, or was added, or there is none."""
        if self.floor_added:
            return "added"
        return "given" if any(p.name == FLOOR for p in self.policies) else "none"

    @property
    def concepts(self) -> frozenset[str]:
        """The concepts that some rule steers, in force, canary or shadow; a host should have packs for them."""
        return frozenset(s.concept for r in self.rules if not r.sleeps for s in r.steers)

    @property
    def reads(self) -> frozenset[str]:
        """The names that pictures may have to be read for: `lettering` and concepts."""
        awake = [r for r in self.rules if not r.sleeps]
        verified = frozenset(v.model.read for r in awake for v in r.verifies)
        return verified | frozenset(name for r in awake for name in r.reads)

    @property
    def sentinels(self) -> frozenset[str]:
        """The concepts whose sentinels some rule asks; the packs of a host must have them."""
        return frozenset(concept for name in self.reads if (concept := concept_of(name)) is not None)

    def stale(self, now: datetime) -> tuple[Freshness, ...]:
        """The policies that are older at `now` than they allow. All are, once their bundle has expired."""
        if not self.freshness or self.as_of is None:
            return ()
        ended = self.origin is not None and now >= self.origin.not_after
        return tuple(f for f in self.freshness if ended or now - self.as_of > f.max_age)
