"""Compiled rules: what `decide` judges, with every list, date and duration resolved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from policies.decide.decision import Disclosure
from policies.decide.verify import VerifyRule
from policies.evidence import Trigger
from policies.format.actions import Action, Unfit
from policies.format.model import RuleModel, SettingModel, SteerModel
from policies.predicates.condition import Condition
from policies.predicates.tenant import TenantCheck

__all__ = ["ExceptionRule", "Freshness", "OverrideRule", "Rule"]


@dataclass(frozen=True, slots=True)
class ExceptionRule:
    """The requests that a rule spares, and until when."""

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
    """The greatest age of a policy, and its effect beyond that age."""

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
    reads: frozenset[str]  # the names that `when` needs of the picture
    since: datetime | None
    until: datetime | None
    exceptions: tuple[ExceptionRule, ...] = ()
    overrides: tuple[OverrideRule, ...] = ()
    actions: tuple[Action | SteerModel, ...] = ()  # those that do not depend on the request are made at load time
    verified: frozenset[str] = frozenset()  # the names that its `verify` actions read
    disclosure: Disclosure | None = None
    always: bool = False  # enforced for every request at any time
    watches: float = 0.0  # the share of pictures that `verify` looks at although the prompt did not match, 0 to 1

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

    @property
    def watch(self) -> str:
        """Which pictures the rule looks at, in words."""
        if not self.verifies:
            return "pictures as its condition asks" if self.reads else "no picture"
        if 0 < self.watches < 1:
            return f"{100 * self.watches:g} % of pictures"
        return "every picture" if self.watches else "matching prompts"

    @property
    def trusts_the_prompt(self) -> bool:
        """Whether some picture may leave without this rule having looked at it, because of what its prompt said."""
        sees = bool(self.reads) and all(stage == "picture" for stage, _ in self.when.looks_at())
        return self.watches < 1 and not sees

    def active(self, now: datetime) -> bool:
        return (self.since is None or self.since <= now) and (self.until is None or now < self.until)
