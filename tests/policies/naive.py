"""A second decision engine, written to be obviously right: no automaton, no triggers, nothing compiled.

It reads the format's models and the signals and answers in sets and plain words. The real engine must agree with it on
whatever hypothesis thinks of (`test_laws`). Only the spellings of words are shared with the real one: they are the
contract with the detectors.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import Any

from policies.fields import moment
from policies.near import looks, sounds
from policies.spelling import collapse, fold, is_boundary, leet

VERDICTS = ["allow", "label", "steer", "review-hold", "block"]
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
ON_ERRORS = ["allow", "apply", "block"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def naive(policies: Any, request: Any, signals: Any, *, as_of=None, picture=False, before=None, key=b"") -> dict:
    """What the policies answer: `verdict`, `rules`, `errors`, `violations`, `exempted`, and the same `shadow`."""
    overrides = [o for p in policies for o in p.overrides]
    enforced, watched, refusing, stale = [], [], False, []
    for policy in policies:
        old = bool(policy.freshness and as_of is not None and request.now - as_of > _length(policy.freshness.max_age))
        stale += [policy.name] if old else []
        refusing |= old and policy.freshness.on_stale == "refuse"
        tight = old and policy.freshness.on_stale == "tighten"
        for rule in policy.rules:
            force = _force(rule, [o for o in overrides if o.rule == rule.id], request, tight, key)
            if force is None:
                continue
            acts, on_error = force
            seen = picture if acts else "unsteered" if picture else False
            judged = _judge(rule, policy, request, signals, seen, before, on_error, not tight, key)
            (enforced if acts else watched).append((rule.id, judged))
    answer = _answer(enforced, refusing)
    answer["stale"] = sorted(stale)
    seen = _answer(watched, False)
    answer["shadow"] = {**seen, "verdict": max(answer["verdict"], seen["verdict"], key=VERDICTS.index)}
    del answer["shadow"]["violations"]  # shadow rules are judged once and never climb
    return answer


def _answer(judged: list, refusing: bool) -> dict:
    verdicts = [v for _, j in judged for v in j["verdicts"]] + (["block"] if refusing else [])
    return {
        "verdict": max(verdicts, key=VERDICTS.index, default="allow"),
        "rules": sorted(r for r, j in judged if j["matched"]),
        "errors": sorted(r for r, j in judged if j["errors"]),
        "violations": sorted(r for r, j in judged for _ in range(j["violations"])),
        "exempted": sorted(r for r, j in judged if j["exempted"]),
    }


def _length(text: str) -> timedelta:
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


def _tenant(names: list[str], tenant: str) -> bool:
    return any(tenant.startswith(n[:-1]) if n.endswith("*") else tenant == n for n in names)


def _rank(mode: str, percent: float | None) -> float:
    return {"disabled": -1.0, "shadow": 0.0, "canary": (percent or 0) / 100, "enforce": 1.0}[mode]


def _force(rule, overrides, request, tight, key):
    """(acts, on_error), or None when the rule is not there for this request."""
    since, until = (moment(rule.active.since), moment(rule.active.until)) if rule.active else (None, None)
    if (since and request.now < since) or (until and request.now >= until):
        return None
    mode, percent, on_error = rule.rollout.mode, rule.rollout.percent, rule.on_error
    modes, errors = [], []
    for o in overrides:
        if o.expires is not None and request.now >= moment(o.expires):
            continue
        if o.tenants is not None and not _tenant(o.tenants, request.tenant):
            continue
        steers = [a.strength for a in rule.then if a.do == "steer"]
        level = [0.999 if s == "auto" else s for s in steers]
        given = 0.999 if o.set.strength == "auto" else o.set.strength
        loosens = (
            (o.set.mode is not None and _rank(o.set.mode, o.set.percent) < _rank(mode, percent))
            or (o.set.on_error is not None and ON_ERRORS.index(o.set.on_error) < ON_ERRORS.index(rule.on_error))
            or (given is not None and any(given < s for s in level))
        )
        if tight and loosens:
            continue
        modes += [(o.set.mode, o.set.percent)] if o.set.mode else []
        errors += [o.set.on_error] if o.set.on_error else []
    if modes:
        mode, percent = max(modes, key=lambda m: _rank(*m))
    if errors:
        on_error = max(errors, key=ON_ERRORS.index)
    if mode == "disabled":
        return None
    acts = mode == "enforce" or (mode == "canary" and (tight or _drawn(rule, request, percent, key)))
    return acts, "block" if tight else on_error


def _drawn(rule, request, percent, key) -> bool:
    by = rule.rollout.by
    whom = {"request": [request.tenant, request.id], "tenant": [request.tenant], "prompt": [request.prompt]}[by]
    return _share([rule.id, by, *whom], key) < percent / 100


def _share(parts, key) -> float:
    text = "".join(f"{len(t)}:{t}" for t in parts).encode()
    return int(hmac.new(key, text, hashlib.sha256).hexdigest()[:16], 16) / 2**64


def _judge(rule, policy, request, signals, picture, before, on_error, spares, key):
    blank = {"matched": False, "errors": 0, "violations": 0, "verdicts": [], "exempted": False}
    judged = _unspared(rule, policy, request, signals, picture, before, on_error, blank, key)
    if (judged["matched"] or judged["errors"]) and spares:
        for e in rule.exceptions:
            tenants = e.tenants is None or _tenant(e.tenants, request.tenant)
            holds = e.when is None or _truth(e.when, policy, request, signals, picture) == "true"
            if request.now < moment(e.expires) and tenants and holds:
                return {**blank, "exempted": True}
    return judged


def _unspared(rule, policy, request, signals, picture, before, on_error, blank, key):
    if before is not None and on_error == "block" and rule.id in before["all_errors"]:
        return {**blank, "errors": 1, "verdicts": ["block"]}
    truth = _truth(rule.when, policy, request, signals, picture)
    earlier = before is not None and rule.id in before["all_rules"]
    blind = False
    errors = 0
    if truth in ("false", "pending") and not earlier:
        truth = _watched(rule, policy, request, signals, picture, key)
    if truth != "true" and not earlier:
        if truth != "error":
            return blank
        if on_error == "block":
            return {**blank, "errors": 1, "verdicts": ["block"]}
        if on_error == "allow":
            return {**blank, "errors": 1}
        blind, errors = True, 1
    verdicts = [a.do for a in rule.then if a.do != "verify"]
    violations = 0
    # a shadow rule steered nothing: the picture says nothing about the one that it would have made
    if picture and not (picture == "unsteered" and earlier and "steer" in verdicts):
        looks = _looks(rule.when)
        late = not earlier and bool(looks) and not blind
        for v in (a for a in rule.then if a.do == "verify"):
            failed = _fails(v, policy, request, signals)
            if failed == "error":
                errors += 1
                if on_error != "allow":
                    verdicts.append("review-hold" if on_error == "apply" and v.otherwise == "review-hold" else "block")
            elif failed == "true" or (late and v.read in looks):
                violations += 1
                verdicts.append(v.otherwise)
    return {"matched": True, "errors": errors, "violations": violations, "verdicts": verdicts, "exempted": False}


def _watched(rule, policy, request, signals, picture, key) -> str:
    """What a rule that watches sees in a picture whose prompt did not ask for it."""
    if (
        not picture
        or not _drawn_to_watch(rule, request, key)
        or not _might(rule.when, policy, request, signals, picture)
    ):
        return "false"
    failed = [_fails(a, policy, request, signals) for a in rule.then if a.do == "verify"]
    return "true" if "true" in failed else "error" if "error" in failed else "false"


def _drawn_to_watch(rule, request, key) -> bool:
    if isinstance(rule.watch, str):
        return rule.watch == "every-picture"
    return _share([rule.id, "watch", request.tenant, request.id], key) < rule.watch.share


def _might(when, policy, request, signals, picture) -> bool:
    """Whether the condition might hold had the prompt other words: all that is said of the request itself holds."""
    if when.all is not None:
        return all(_might(p, policy, request, signals, picture) for p in when.all)
    if when.any is not None:
        return any(_might(p, policy, request, signals, picture) for p in when.any)
    if when.tenant is None and when.time is None and when.strikes is None and when.none is None:
        return True
    return _truth(when, policy, request, signals, picture) != "false"


def _looks(when) -> set[str]:
    """What a condition looks at in pictures."""
    if when.picture is not None:
        return {when.picture.concept.name if when.picture.concept else "lettering"}
    return {n for parts in (when.all, when.any, when.none) for p in parts or () for n in _looks(p)}


def _truth(when, policy, request, signals, picture) -> str:
    """`true`, `false`, `error` or `pending`."""
    for kind in ("all", "any", "none"):
        parts = getattr(when, kind)
        if parts is not None:
            found = [_truth(p, policy, request, signals, picture) for p in parts]
            decisive = "false" if kind == "all" else "true"
            if decisive in found:
                truth = decisive
            elif "error" in found:
                truth = "error"
            elif "pending" in found:
                truth = "pending"
            else:
                truth = "true" if kind == "all" else "false"
            return {"true": "false", "false": "true"}.get(truth, truth) if kind == "none" else truth
    if when.tenant is not None:
        return _said(_tenant(when.tenant.any_of, request.tenant))
    if when.time is not None:
        return _said(_time(when.time, request.now))
    if when.strikes is not None:
        found = [s for s in request.strikes.items if _counts(s, when.strikes)]
        enough = len(found) >= when.strikes.at_least
        return "error" if request.strikes.error and not enough else _said(enough)
    if when.picture is not None:
        if not picture:
            return "pending"
        if when.picture.concept is not None:
            c = when.picture.concept
            return _score(signals, "picture", c.name, c.at_least)
        return _words(signals, "picture", "lettering", when.picture.lettering, policy)
    if when.concept is not None:
        return _score(signals, "prompt", when.concept.name, when.concept.at_least)
    if when.toxicity_at_least is not None:
        return _score(signals, "prompt", "toxicity", when.toxicity_at_least)
    if when.prompt is not None:
        return _words(signals, "prompt", "text", when.prompt, policy)
    if when.lettering.any_of is not None:
        return _words(signals, "prompt", "lettering", when.lettering, policy)
    assert when.lettering.asked
    return _score(signals, "prompt", "lettering", 0.0)


def _said(value: bool) -> str:
    return "true" if value else "false"


def _time(t, now) -> bool:
    clock = f"{now:%H:%M}"
    if t.between is None:
        inside = True
    elif t.between[0] < t.between[1]:
        inside = t.between[0] <= clock < t.between[1]
    else:
        inside = clock >= t.between[0] or clock < t.between[1]
    return (
        inside
        and (t.since is None or now >= moment(t.since))
        and (t.until is None or now < moment(t.until))
        and (t.weekdays is None or DAYS[now.weekday()] in t.weekdays)
    )


def _counts(strike, asked) -> bool:
    if strike.ago > _length(asked.within) or (asked.category and asked.category not in strike.categories):
        return False
    return strike.kind in asked.of


def _heard(signals, stage, name):
    """The findings, or None when nobody could look."""
    of = [s for s in signals.items if s.stage == stage and s.name == name]
    if any(s.error for s in of) or (stage, name) not in signals.covered:
        return None
    return of


def _score(signals, stage, name, least) -> str:
    found = _heard(signals, stage, name)
    return "error" if found is None else _said(any(s.score >= least for s in found))


def _words(signals, stage, name, words, policy) -> str:
    found = _heard(signals, stage, name)
    if found is None:
        return "error"
    for signal in found:
        hits = _hits(signal, _entries(words.any_of, policy), plain=getattr(words, "views", "all") == "plain")
        spared = _hits(signal, _entries(words.unless or (), policy), plain=False)
        if any(not any(a <= start and end <= b for a, b in spared) for start, end in hits):
            return "true"
        if getattr(words, "near", 0) and _near(signal, words, policy, spared):
            return "true"
    return "false"


def _near(signal, words, policy, spared) -> bool:
    """Whether a word that no dictionary knows is near, and neither innocent nor inside something spared."""
    plain = getattr(words, "views", "all") == "plain"
    innocent = _entries(words.near_unless or (), policy)
    looking = {look for word in innocent for look in looks(word)}
    for view in signal.views:
        if plain and view.name != "folded":
            continue
        here = {view.origin(a, b) for word in innocent for a, b in _places(view, word, sum(map(str.isalpha, word)))}
        for bounds in view.odd or ():
            said, (start, end) = view.text[slice(*bounds)], view.origin(*bounds)
            free = not any(a <= start and end <= b for a, b in spared | here) and looking.isdisjoint(looks(said))
            if free and any(_one_edit(said, w) for w in _entries(words.any_of, policy) if " " not in w):
                return True
    return False


def _one_edit(said: str, word: str) -> bool:
    """Whether `said` is at most one edit from `word` in one of the spellings, by making every edit."""
    if len(said) < 3 or len(word) < 4:
        return False
    pairs = [*zip(looks(said), looks(word), strict=True)]
    if any(a == b for a, b in pairs):
        return True
    short = len(word) == 4
    edits = any(a in _edits(b, keep_consonants=short) for a, b in pairs)
    heard, spoken = sounds(said), sounds(word)
    return edits or (not short and (heard == spoken or heard in _edits(spoken, keep_consonants=True)))


def _edits(word: str, *, keep_consonants: bool) -> set[str]:
    found = set()
    for i in range(len(word) + 1):
        here, rest, letter = word[:i], word[i + 1 :], word[i : i + 1]
        found |= {here + c + word[i:] for c in LETTERS}
        if len(rest) and letter:
            found.add(here + rest[0] + letter + rest[1:])
        if letter and (not keep_consonants or letter in "aeiouy"):
            found |= {here + c + rest for c in ("", *LETTERS)}
        for alike in ("ck", "kc", "sz", "zs"):
            found |= {here + alike[1] + rest} if letter == alike[0] else set()
    return found


def _entries(items, policy) -> set[str]:
    named = [w for i in items if i.startswith("$") for w in policy.lists[i[1:]].values]
    return {fold(w) for w in [*named, *(i for i in items if not i.startswith("$"))]}


def _hits(signal, entries, *, plain) -> set[tuple[int, int]]:
    """Where in the original any entry stands, by trying every entry at every place of every view."""
    found = set()
    for view in signal.views:
        if plain and view.name != "folded":
            continue
        for entry in entries:
            letters = sum(not c.isspace() for c in entry)
            if letters >= view.least:
                found |= {view.origin(a, b) for a, b in _places(view, entry, letters)}
    return found


def _places(view, entry, letters):
    if view.form == "repeats":
        spellings = [collapse(entry), collapse(leet(entry))]
    else:
        spellings = [(entry if view.form == "plain" else leet(entry), ())]
    for text, runs in spellings:
        for start in range(len(view.text) - len(text) + 1):
            end = start + len(text)
            before, after = view.text[start - 1 : start], view.text[end : end + 1]
            good = view.text[start:end] == text and not (view.whole and (before or after))
            if not good or not is_boundary(text[0], before) or not is_boundary(text[-1], after):
                continue
            if view.form == "repeats":
                have = view.runs[start:end]
                more = [h for h, n in zip(have, runs, strict=True) if h > n]
                if any(h < n for h, n in zip(have, runs, strict=True)) or not more:
                    continue
                if max(more) < 3 and letters < 5:
                    continue
            yield start, end


def _fails(verify, policy, request, signals) -> str:
    if verify.below is not None:
        return _score(signals, "picture", verify.read, verify.below)
    fields = {"near": verify.near, "near_unless": verify.near_unless, "unless": verify.unless}
    words = type("Words", (), {"any_of": verify.none_of, **fields})
    return _words(signals, "picture", "lettering", words, policy)
