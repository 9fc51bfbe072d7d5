"""The predicate `tenant`: who asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.evidence import Evidence
from policies.fields import FormatModel, Words
from policies.judgement import FALSE, Judgement, Reason
from policies.predicates.condition import Lists, SingleCondition
from policies.predicates.predicate import Predicate, RuleScope
from policies.types import Stage

__all__ = ["PREDICATE", "TenantCheck", "TenantModel"]


class TenantModel(FormatModel):
    """Tenants by name; a trailing `*` stands for any ending."""

    any_of: Words


@dataclass(frozen=True, slots=True)
class TenantCheck(SingleCondition):
    """Whether the tenant is one of `names`, or begins with one of `prefixes`."""

    names: frozenset[str]
    prefixes: tuple[str, ...] = ()

    @staticmethod
    def of(words: Sequence[str]) -> TenantCheck:
        """The check for names as policies write them, with `*` at the end of a prefix."""
        return TenantCheck(
            frozenset(t for t in words if not t.endswith("*")), tuple(t[:-1] for t in words if t.endswith("*"))
        )

    def holds(self, tenant: str) -> bool:
        return tenant in self.names or tenant.startswith(self.prefixes)

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        tenant = evidence.request.tenant
        return Judgement(True, (Reason(rule, "tenant", f"the tenant is `{tenant}`"),)) if self.holds(tenant) else FALSE

    def triggers(self) -> None:
        return None

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset()

    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        if not isinstance(other, TenantCheck):
            return False
        return all(map(other.holds, self.names)) and all(p.startswith(other.prefixes) for p in self.prefixes)


def _compile(tenant: TenantModel, scope: RuleScope) -> TenantCheck:
    return TenantCheck.of(tenant.any_of)


PREDICATE = Predicate("tenant", TenantModel, _compile)
