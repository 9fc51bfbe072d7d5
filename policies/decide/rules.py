"""Compiled rules: what `decide` looks at, with every list, date and duration already resolved.

Frozen values only. `snapshot` makes them of the format's models, `evidence` answers their conditions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from policies.decide.decision import Disclosure
from policies.decide.matcher import Near
from policies.format.actions import Action, Unfit
from policies.format.model import RuleModel, SettingModel, SteerModel, VerifyModel
from policies.types import Stage

__all__ = ["Compound", "Condition", "ExceptionRule", "Finding", "Freshness", "OverrideRule", "Rule", "TenantCheck"]
__all__ += ["TimeCheck", "Trigger", "VerifyRule", "WordCheck"]

# What may wake a rule: (stage, name, what) with `what` a list's name, "*" for any finding, or "?" for no answer (yet)
Trigger = tuple[Stage, str, str]


@dataclass(frozen=True, slots=True)
class WordCheck:
    """Whether a word of `lists` stands in the texts called `name`; a match inside one of `unless` does not count."""

    stage: Stage
    name: Literal["text", "lettering"]
    lists: frozenset[str]
    unless: frozenset[str] = frozenset()
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a signal called `name` reaches `at_least`; `lettering` looks at the toxicity of lettering only."""

    stage: Stage
    name: str
    at_least: float
    lettering: bool = False


@dataclass(frozen=True, slots=True)
class TenantCheck:
    """Whether the tenant is one of `names`, or begins with one of `prefixes`."""

    names: frozenset[str]
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: list[str]) -> TenantCheck:
        return cls(frozenset(t for t in words if not t.endswith("*")), tuple(t[:-1] for t in words if t.endswith("*")))

    def holds(self, tenant: str) -> bool:
        return tenant in self.names or tenant.startswith(self.prefixes)


@dataclass(frozen=True, slots=True)
class TimeCheck:
    """Whether the request comes at some time, in UTC: `weekdays` count from Monday, `between` is minutes of the day."""

    since: datetime | None = None
    until: datetime | None = None
    weekdays: frozenset[int] | None = None
    between: tuple[int, int] | None = None

    def holds(self, now: datetime) -> bool:
        if (self.since is not None and now < self.since) or (self.until is not None and now >= self.until):
            return False
        if self.weekdays is not None and now.weekday() not in self.weekdays:
            return False
        if self.between is None:
            return True
        start, end = self.between
        minute = now.hour * 60 + now.minute
        return start <= minute < end if start < end else minute >= start or minute < end


@dataclass(frozen=True, slots=True)
class Compound:
    """Several conditions under `all`, `any` or `none`."""

    kind: Literal["all", "any", "none"]
    parts: tuple[Condition, ...]


Condition = WordCheck | Finding | TenantCheck | TimeCheck | Compound


@dataclass(frozen=True, slots=True)
class VerifyRule:
    """A `verify` action with its lists resolved; `near` holds the entries that count within one edit."""

    model: VerifyModel
    check: WordCheck | Finding
    near: Near | None = None


@dataclass(frozen=True, slots=True)
class ExceptionRule:
    """Whom a rule spares, until when."""

    id: str
    when: Condition
    expires: datetime


@dataclass(frozen=True, slots=True)
class OverrideRule:
    """Another setting of a rule, for some tenants (None: for all), until it expires (None: never)."""

    set: SettingModel
    tenants: TenantCheck | None
    loosens: bool
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old a policy may grow, and what it does then."""

    policy: str
    max_age: timedelta
    on_stale: Literal["serve", "tighten", "refuse"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule; `triggers` is None when it must be judged for every request."""

    id: str
    policy: str
    model: RuleModel
    when: Condition
    verifies: tuple[VerifyRule, ...]
    triggers: frozenset[Trigger] | None
    reads: frozenset[str]  # what `when` looks at in the picture
    since: datetime | None
    until: datetime | None
    exceptions: tuple[ExceptionRule, ...] = ()
    overrides: tuple[OverrideRule, ...] = ()
    actions: tuple[Action | SteerModel, ...] = ()  # what depends on no request is made already
    verified: frozenset[str] = frozenset()  # what pictures of this rule are read for
    disclosure: Disclosure | None = None
    always: bool = False  # enforced for everybody at any time: nothing of a request bears on that

    @property
    def mode(self) -> str:
        """`disabled`, `shadow`, `canary` or `enforce`, as the rule itself says."""
        return self.model.rollout.mode

    @property
    def sleeps(self) -> bool:
        """Whether the rule is disabled for everybody."""
        return self.mode == "disabled" and all(o.set.mode in (None, "disabled") for o in self.overrides)

    @property
    def category(self) -> str:
        return self.model.category

    @property
    def unfit(self) -> Unfit:
        """What to do when no pack fits the host: `swap-prompt`, `block` or `refuse-load`."""
        return self.model.unfit

    @property
    def steers(self) -> tuple[SteerModel, ...]:
        """The rule's `steer` actions: `concept`, `toward`, `strength`."""
        return tuple(a for a in self.model.then if isinstance(a, SteerModel))

    def active(self, now: datetime) -> bool:
        return (self.since is None or self.since <= now) and (self.until is None or now < self.until)
