"""Which rules give a strike: a note that they acted on a request, for the predicate `strikes` of later ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policies.decide.decision import Decision
from policies.decide.snapshot import Snapshot
from policies.format.actions import Block, ReviewHold, Steer
from policies.predicates.strikes import longest

__all__ = ["struck"]


def struck(decisions: Iterable[Decision], snapshot: Snapshot) -> frozenset[str]:
    """The categories of the rules that steered, held or refused in some of these decisions on one request.

    A rule that could not be judged gives no strike, since the request did not do that. Nor does a rule that asks for
    strikes: each request that it refuses would make it refuse for longer. What shadow rules say does not count.
    """
    rules = {rule.id: rule for rule in snapshot.rules}
    acted = {name for decision in decisions for name in _acted(decision)} & rules.keys()
    return frozenset(rules[name].category for name in acted if longest([rules[name].when]) is None)


def _acted(decision: Decision) -> Iterator[str]:
    failed = {error.rule for error in decision.errors} - {reason.rule for reason in decision.reasons}
    names = [a.rule for a in (*decision.actions, *decision.held) if isinstance(a, Steer | Block | ReviewHold)]
    names += [violation.rule for violation in decision.violations]
    yield from (name for name in names if name in decision.rules and name not in failed)
