"""A decision and its parts: errors, exemptions, violations, and what may still be tried."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from policies.format.actions import (
    RUNGS,
    Action,
    Block,
    Label,
    OnError,
    ReviewHold,
    Rung,
    Steer,
    Verdict,
    Verify,
    strictest,
)
from policies.judgement import Reason
from policies.types import Box, Stage

__all__ = ["Decision", "Disclosure", "Exemption", "Ladder", "RuleError", "Shadow", "Violation"]


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule that could not be judged, and the `on_error` that applied."""

    rule: str
    text: str
    on_error: OnError


@dataclass(frozen=True, slots=True)
class Exemption:
    """A rule that matched for `reasons`, and the exception that spared this request from it."""

    rule: str
    exception: str
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A picture that failed a rule's `verify`, with the rungs that may still repair it.

    `unasked`: the prompt had not made the rule match, so its own `steer` is the first rung.
    """

    rule: str
    verify: Verify
    reasons: tuple[Reason, ...]
    unasked: bool = False

    @property
    def rungs(self) -> tuple[Rung, ...]:
        return ("steer", *self.verify.ladder) if self.unasked else self.verify.ladder


@dataclass(frozen=True, slots=True)
class Ladder:
    """The repairs that may be tried for one picture, over all violated rules; `otherwise` applies when all have failed.

    `rungs` is the union in climbing order, `max_extra_generations` the smallest and `otherwise` the strictest of the
    rules'. `reads` must be read again after each rung. `boxes` are the offending boxes of the picture just judged, the
    smallest where one holds another (for `blur`, and for what is drawn anew in a given picture).
    """

    rules: tuple[str, ...]
    reads: frozenset[str]
    rungs: tuple[Rung, ...]
    otherwise: Literal["block", "review-hold"]
    max_extra_generations: int
    boxes: tuple[Box, ...] = ()

    def after(self, rung: Rung) -> tuple[Rung, ...]:
        """The rungs above `rung`."""
        return tuple(r for r in self.rungs if RUNGS.index(r) > RUNGS.index(rung))


@dataclass(frozen=True, slots=True)
class Shadow:
    """The decision as it would be if shadow rules, and canaries that were not drawn, were enforced."""

    verdict: Verdict
    rules: tuple[str, ...]
    reasons: tuple[Reason, ...]
    errors: tuple[RuleError, ...] = ()
    exempted: tuple[Exemption, ...] = ()


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a caller may learn about one rule that acted; a field is None if `disclose` withholds it."""

    category: str
    rule: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The policies' answer for one request, or for one of its pictures.

    `verdict` holds if nothing more is done: at stage `picture` it counts `otherwise` of every violated rule, so a
    caller that cannot repair pictures is strict by default. `reads` are the names that the picture must be read for
    before it may be returned. `exempted` are rules that matched while an exception spared the request. `stale` names
    the policies that are older than their `freshness` allows. `held` and `mendable` are set by `going_on`.
    """

    verdict: Verdict
    stage: Stage
    policy: str
    actions: tuple[Action, ...] = ()
    rules: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    errors: tuple[RuleError, ...] = ()
    violations: tuple[Violation, ...] = ()
    reads: frozenset[str] = frozenset()
    shadow: Shadow | None = None
    disclosures: tuple[Disclosure, ...] = ()
    exempted: tuple[Exemption, ...] = ()
    stale: tuple[str, ...] = ()
    held: tuple[ReviewHold, ...] = ()
    mendable: bool = False

    @property
    def steers(self) -> tuple[Steer, ...]:
        return tuple(a for a in self.actions if isinstance(a, Steer))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(a.value for a in self.actions if isinstance(a, Label))

    @property
    def messages(self) -> tuple[str, ...]:
        """What the blocking rules tell the caller, each text once."""
        return tuple(dict.fromkeys(a.message for a in self.actions if isinstance(a, Block) and a.message))

    @property
    def refused(self) -> bool:
        return self.verdict in ("block", "review-hold")

    def going_on(self, *, mended: bool = False) -> Decision:
        """The decision by which the picture of a held request is made. It names the holds in `held`.

        A rule that holds does nothing else but block: a reviewer looks at the picture that it is about. It is
        `mendable` if the rule would also have steered or repaired; if `mended`, it does. The other rules act as ever.
        """
        held = tuple(a for a in self.actions if isinstance(a, ReviewHold))
        if not held:
            return self
        holding = frozenset() if mended else frozenset(a.rule for a in held)
        actions = tuple(
            a for a in self.actions if isinstance(a, Block) or not (isinstance(a, ReviewHold) or a.rule in holding)
        )
        violations = tuple(v for v in self.violations if v.rule not in holding)
        steered = len(self.steers) > sum(isinstance(a, Steer) for a in actions)
        return replace(
            self,
            verdict=strictest(
                [*(a.do for a in actions if a.do != "verify"), *(v.verify.otherwise for v in violations)]
            ),
            actions=actions,
            violations=violations,
            held=held,
            mendable=steered or len(violations) < len(self.violations),
        )

    @property
    def ladder(self) -> Ladder | None:
        """The repairs that may be tried for this picture.

        None when no rule is violated, or when another rule refuses the picture anyway.
        """
        if not self.violations or self._refused_anyway():
            return None
        verifies = [v.verify for v in self.violations]
        found = dict.fromkeys(r.box for v in self.violations for r in v.reasons if r.box is not None)
        # pieces are also read together; where one of them is at fault alone, what stands around it is not
        boxes = [box for box in found if not any(other != box and box.holds(other) for other in found)]
        return Ladder(
            rules=tuple(v.rule for v in self.violations),
            reads=frozenset(v.read for v in verifies),
            rungs=tuple(rung for rung in RUNGS if any(rung in v.rungs for v in self.violations)),
            otherwise="block" if any(v.otherwise == "block" for v in verifies) else "review-hold",
            max_extra_generations=min(v.max_extra_generations for v in verifies),
            boxes=tuple(boxes),
        )

    def _refused_anyway(self) -> bool:
        return any(isinstance(a, Block | ReviewHold) for a in self.actions)

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain JSON values, for `policy explain` and the audit log."""
        names = ("verdict", "stage", "policy", "rules", "actions", "reasons", "errors", "violations", "reads", "shadow")
        rare = tuple(n for n in ("exempted", "stale") if getattr(self, n))
        return {name: _plain(getattr(self, name)) for name in (*names, *rare)}


def _plain(value: Any) -> Any:
    """`value` as plain JSON values: dataclasses as mappings without empty fields, sets sorted."""
    if is_dataclass(value):
        pairs = ((f.name, _plain(getattr(value, f.name))) for f in fields(value))
        return {name: v for name, v in pairs if v not in (None, "", [])}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value
