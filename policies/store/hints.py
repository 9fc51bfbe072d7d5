"""Hints about valid policies that are probably not as intended. A hint never refuses a policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from policies.decide.donor import list_of
from policies.decide.rules import Rule
from policies.decide.snapshot import Snapshot
from policies.fields import Moment, moment
from policies.format.model import BlockModel, ExceptionModel, OverrideModel, RuleModel, SteerModel, VerifyModel
from policies.predicates.compound import Compound
from policies.predicates.condition import Condition
from policies.predicates.tenant import TenantCheck, TenantModel
from policies.predicates.time import TimeCheck
from policies.predicates.words import WordCheck
from policies.problems import Remark
from policies.store.document import Document
from policies.store.entries import Entry, about_entries, about_tenants, entries_of_list
from policies.store.loader import LoadedPolicies
from policies.store.possible import can_be
from policies.store.review import where, words_in

__all__ = ["advice"]

_SOON = timedelta(days=14)
_Path = tuple[str | int, ...]
_Said = Iterator[tuple[_Path, str]]  # where in the rule, or in the document, and what


def advice(loaded: LoadedPolicies, now: datetime, *, longest: int = 2000) -> Iterator[Remark]:
    """The hints about policies, those of one file together. `longest` is the most characters that a prompt may have."""
    snapshot = loaded.snapshot
    untested = _untested(snapshot)
    compiled = {rule.id: rule for rule in snapshot.rules}
    for document in loaded.documents:
        for i, model in document.rules:
            rule = compiled[model.id]
            said = [*untested[model.id], *_ends(model, now), *_unseen(model), *_conditions(rule, snapshot, now)]
            yield from (Remark(*where(document, ("rules", i, *path)), message) for path, message in said)
        for i, override in document.overrides:
            said = list(_override(override, now))
            yield from (Remark(*where(document, ("overrides", i, *path)), message) for path, message in said)
        yield from _entries(document, longest)
    origin = snapshot.origin
    if origin is not None:
        yield from (Remark(loaded.documents[0].file, 0, 0, "", m) for m in _end("the bundle", origin.not_after, now))


def _untested(snapshot: Snapshot) -> defaultdict[str, list[tuple[_Path, str]]]:
    """For each rule, whether a test shows it in action, and whether one shows it at rest."""
    seen = [t.expect for p in snapshot.policies for t in p.tests]
    named = [(e, {*(e.matched or ()), *(e.rules or ()), *(e.shadow or ()), *(e.exempted or ())}) for e in seen]
    acting = {id for _, ids in named for id in ids}
    resting = [ids for e, ids in named if e.matched is not None or e.rules is not None or e.verdict == "allow"]
    found: defaultdict[str, list[tuple[_Path, str]]] = defaultdict(list)
    for id in (rule.id for policy in snapshot.policies for rule in policy.rules):
        if id not in acting:
            found[id].append((("id",), f"no test shows rule `{id}` in action (`expect: {{matched: [{id}]}}`)"))
        if all(id in ids for ids in resting):
            found[id].append((("id",), f"no test shows rule `{id}` leaving a harmless prompt alone"))
    return found


def _ends(rule: RuleModel, now: datetime) -> _Said:
    for k, exception in enumerate(rule.exceptions):
        said = _end(f"exception `{exception.id}` of `{rule.id}`", exception.expires, now)
        yield from ((("exceptions", k, "expires"), message) for message in said)
    if rule.active is not None:
        said = _end(f"rule `{rule.id}`", rule.active.until, now)
        yield from ((("active", "until"), message) for message in said)


def _end(what: str, value: Moment | None, now: datetime) -> Iterator[str]:
    end = moment(value)
    if end is not None and end <= now:
        yield f"{what} ended on {end:%Y-%m-%d} and does nothing any more"
    elif end is not None and end - now <= _SOON:
        yield f"{what} ends on {end:%Y-%m-%d}"


def _unseen(rule: RuleModel) -> _Said:
    """Steers whose picture nobody looks at."""
    read = {a.read for a in rule.then if isinstance(a, VerifyModel)}
    if rule.rollout.mode == "disabled" or any(isinstance(a, BlockModel) for a in rule.then):
        return
    for k, action in enumerate(rule.then):
        if isinstance(action, SteerModel) and action.concept not in read:
            looked = (
                f"`verify` reads {', '.join(f'`{r}`' for r in sorted(read))} only" if read else "there is no `verify`"
            )
            said = f"`{rule.id}` steers `{action.concept}`, and {looked}, so nobody sees whether it worked"
            yield ("then", k), f"{said}; add `do: verify` with `read: {action.concept}`"


def _conditions(rule: Rule, snapshot: Snapshot, now: datetime) -> _Said:
    """Conditions that never hold or always do, and entries of theirs that `unless` takes out."""
    lists, when = snapshot.words, rule.when
    yield from _spared(rule, snapshot)
    if rule.until is not None and rule.until <= now:
        return
    in_force = Compound("all", (TimeCheck(rule.since, rule.until), when))
    if not can_be(True, in_force, lists, now):
        yield ("when",), f"`{rule.id}` can never match: no request fulfils this condition"
        return
    if not can_be(False, when, lists, now):
        yield ("when",), f"`{rule.id}` matches every request"
    for path, part in _parts(when, ("when",)):
        if not can_be(True, part, lists, now):
            yield path, "this part of the condition can never hold, so it does nothing"
    for k, action in enumerate(rule.model.then):
        checks = [v.check for v in rule.verifies if v.model is action]
        if any(not can_be(True, check, lists, now) for check in checks):
            yield ("then", k), "no picture can fail this `verify`"
    yield from _exceptions(rule, in_force, snapshot, now)


def _parts(when: Condition, path: _Path) -> Iterator[tuple[_Path, Condition]]:
    """The parts of a condition, each with its path in the rule."""
    if isinstance(when, Compound):
        for i, part in enumerate(when.parts):
            yield (*path, when.kind, i), part
            yield from _parts(part, (*path, when.kind, i))


def _exceptions(rule: Rule, in_force: Condition, snapshot: Snapshot, now: datetime) -> _Said:
    alive = {e.id: e.when for e in rule.exceptions if e.expires > now}
    left = Compound("all", (in_force, Compound("none", tuple(alive.values()))))
    if alive and not can_be(True, left, snapshot.words, now):
        yield ("exceptions",), f"the exceptions spare every request that `{rule.id}` matches, so the rule does nothing"
    for k, exception in enumerate(rule.model.exceptions):
        if exception.id in alive and not can_be(True, alive[exception.id], snapshot.words, now):
            yield ("exceptions", k), f"exception `{exception.id}` spares nobody: no request fulfils its condition"


def _spared(rule: Rule, snapshot: Snapshot) -> _Said:
    """Entries that are looked for and also in `unless`."""
    checks = [(path, part) for path, part in ((("when",), rule.when), *_parts(rule.when, ("when",)))]
    places: list[tuple[_Path, Condition]] = [
        *checks,
        *((("then", k), v.check) for k, a in enumerate(rule.model.then) for v in rule.verifies if v.model is a),
    ]
    for path, check in places:
        if isinstance(check, WordCheck):
            entries = {w for name in check.lists for w in snapshot.words.get(name, ()) if w}
            out = sorted(entries - check.findable(snapshot.words))
            if out:
                named = ", ".join(f"`{w}`" for w in out[:5]) + (f" and {len(out) - 5} more" if len(out) > 5 else "")
                yield path, f"{named}: looked for, and also in `unless`, so never found"


def _override(override: OverrideModel, now: datetime) -> _Said:
    said = _end(f"the override of `{override.rule}`", override.expires, now)
    yield from ((("expires",), message) for message in said)
    everybody = override.tenants is None or not can_be(False, TenantCheck.of(override.tenants), {}, now)
    if everybody and override.set.mode == "disabled":
        yield ("set",), f"this turns `{override.rule}` off for everybody"


def _entries(document: Document, longest: int) -> Iterator[Remark]:
    """Hints about the lists of a document, and about the words and tenants that stand in its rules."""
    words = [(path, text) for i, rule in document.rules for path, text in words_in(rule, ("rules", i))]
    sought = {text[1:] for path, text in words if text.startswith("$") and path[-2] not in ("unless", "near_unless")}
    used = sought | {text[1:] for _, text in words if text.startswith("$")} | _donors(document)
    names = frozenset(document.list_names)
    for name in document.lists:
        if name not in used:
            yield Remark(*where(document, ("lists", name)), f"nothing uses the list `{name}`")
        entries = entries_of_list(document, name)
        yield from about_entries(entries, lists=names, sought=name in sought, in_list=True, longest=longest)
    together: defaultdict[_Path, list[Entry]] = defaultdict(list)
    for path, text in words:
        if not text.startswith("$"):
            together[path[:-1]].append(Entry(text, *where(document, path)))
    for path, written in together.items():
        acts = path[-1] not in ("unless", "near_unless")
        yield from about_entries(written, lists=names, sought=acts, in_list=False, longest=longest)
    for i, rule in document.rules:
        for k, action in enumerate(rule.then):
            if isinstance(action, SteerModel) and action.toward in names:
                said = f"`{action.toward}` is also the name of a list; write `${action.toward}` if the list is meant"
                yield Remark(*where(document, ("rules", i, "then", k, "toward")), said)
    tenants = (*_tenants(document.rules, ("rules",)), *_tenants(document.overrides, ("overrides",)))
    yield from about_tenants(Entry(text, *where(document, path)) for path, text in tenants)


def _donors(document: Document) -> set[str]:
    named = (list_of(a.toward) for _, r in document.rules for a in r.then if isinstance(a, SteerModel))
    return {name for name in named if name is not None}


def _tenants(value: Any, path: _Path) -> Iterator[tuple[_Path, str]]:
    """Every name of a tenant below `value`, which holds models, or pairs of a number and a model."""
    if isinstance(value, tuple):
        for i, item in value:
            yield from _tenants(item, (*path, i))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _tenants(item, (*path, i))
    elif isinstance(value, BaseModel):
        names = value.any_of if isinstance(value, TenantModel) else None
        names = value.tenants if isinstance(value, ExceptionModel | OverrideModel) else names
        field = "any_of" if isinstance(value, TenantModel) else "tenants"
        yield from (((*path, field, i), name) for i, name in enumerate(names or ()))
        for name, info in type(value).model_fields.items():
            yield from _tenants(getattr(value, name), (*path, info.alias or name))
