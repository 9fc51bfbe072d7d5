"""Checks approvals and requirements: refuses loosening without permission, and requirements that are not met.

Tightening needs no approval. Loosening needs an approval and an end. The policy called `floor` cannot be loosened: not
by an override in another file, not by an exception or a mode of its own, and in a running service not by an edit that
keeps its version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from palimpsest_base.suggest import did_you_mean
from policies.fields import numbers
from policies.format.model import FLOOR, OverrideModel, RuleModel, SteerModel
from policies.format.strictness import loosening
from policies.problems import Problem
from policies.store.document import Document
from policies.store.environment import Environment, what_is_covered
from policies.store.review import place

__all__ = ["review_approvals"]


def review_approvals(documents: Sequence[Document], environment: Environment, *, whole: bool) -> Iterator[Problem]:
    """Every problem of `documents` with exceptions, overrides, the floor and requirements; `whole` as for `review`."""
    owners = {rule.id: (document.name, rule) for document in documents for _, rule in document.rules}
    known = sorted(id for d in documents for id in d.rule_ids)
    for document in documents:
        yield from _requirements(document, environment)
        for i, rule in document.rules:
            yield from _exceptions(document, i, rule)
            if document.name == FLOOR:
                yield from _floor(document, i, rule)
        for i, override in document.overrides:
            if override.rule not in known:
                if whole:
                    said = f"unknown rule `{override.rule}`{did_you_mean(override.rule, known)}"
                    yield place(document, ("overrides", i, "rule"), said)
            elif override.rule in owners:
                yield from _override(document, i, override, owners, environment)


def _requirements(document: Document, environment: Environment) -> Iterator[Problem]:
    needs = document.requires
    if needs.engine is not None and numbers(environment.engine) < numbers(needs.engine):
        said = f"needs version {needs.engine} of this software or a later one, and this is {environment.engine}"
        yield place(document, ("requires", "engine"), said, "unmet")
    if needs.hosts is not None and environment.host is not None and environment.host not in needs.hosts:
        said = f"is made for {_listed(needs.hosts)}, and this is `{environment.host}`"
        yield place(document, ("requires", "hosts"), said, "other-host")
    for k, concept in enumerate(needs.packs):
        why = environment.packs(concept) if environment.packs is not None else None
        if why is not None:
            yield place(document, ("requires", "packs", k), f"no pack of `{concept}` fits this model: {why}", "unmet")
    covered = (
        ("prompt", needs.detectors.prompt, environment.in_prompts),
        ("picture", needs.detectors.picture, environment.in_pictures),
    )
    for stage, names, there in covered:
        for k, name in enumerate(names):
            if there is not None and name not in there:
                said = f"no detector covers `{name}` in the {stage}{what_is_covered(name, there)}"
                yield place(document, ("requires", "detectors", stage, k), said, "unmet")


def _exceptions(document: Document, i: int, rule: RuleModel) -> Iterator[Problem]:
    seen: set[str] = set()
    for k, exception in enumerate(rule.exceptions):
        path = ("rules", i, "exceptions", k)
        if exception.id in seen:
            yield place(document, (*path, "id"), f"two exceptions of `{rule.id}` are called `{exception.id}`")
        seen.add(exception.id)
        for need in exception.when.needs() if exception.when else ():
            if need.stage == "picture":
                said = "an exception is judged before there is a picture; use predicates of the request"
                yield place(document, (*path, "when", *need.path), said)


def _floor(document: Document, i: int, rule: RuleModel) -> Iterator[Problem]:
    path = ("rules", i)
    if rule.exceptions:
        yield place(document, (*path, "exceptions"), "rules of the floor cannot have exceptions", "floor")
    if rule.rollout.mode != "enforce":
        said = f"rules of the floor are enforced, got `{rule.rollout.mode}`; try a rule in another policy first"
        yield place(document, (*path, "rollout", "mode"), said, "floor")
    if rule.on_error == "allow":
        said = "a rule of the floor must not allow a request that it cannot judge; use `block` or `apply`"
        yield place(document, (*path, "on_error"), said, "floor")


def _override(
    document: Document,
    i: int,
    override: OverrideModel,
    owners: Mapping[str, tuple[str, RuleModel]],
    environment: Environment,
) -> Iterator[Problem]:
    owner, rule = owners[override.rule]
    path = ("overrides", i)
    if owner == FLOOR:
        yield place(
            document, (*path, "rule"), f"`{rule.id}` is a rule of the floor, which cannot be overridden", "floor"
        )
        return
    if override.set.strength is not None and not any(isinstance(a, SteerModel) for a in rule.then):
        yield place(document, (*path, "set", "strength"), f"`{rule.id}` steers nothing, so it has no strength")
    if override.set.mode == "canary" and not environment.canaries:
        yield place(document, (*path, "set", "mode"), "a canary needs a secret key to draw requests; configure one")
    looser = loosening(override.set, rule)
    missing = [
        name
        for name, given in (
            ("loosens: true", override.loosens),
            ("approved_by", override.approved_by),
            ("expires", override.expires),
        )
        if not given
    ]
    if looser and missing:
        said = f"this loosens `{rule.id}` by {_listed(looser)}, which needs {_listed(missing)}"
        yield place(document, path, said)
    if override.loosens and not looser:
        yield place(document, (*path, "loosens"), f"nothing here is milder than `{rule.id}`; leave `loosens` out")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
