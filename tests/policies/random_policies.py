"""What hypothesis draws for the laws: policies with everything that the format has, requests, signals, pictures."""

from __future__ import annotations

import functools
import itertools
import random
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from detectors.text import read_text, sense
from policies import Request, Signal, Signals, Strike, Strikes, decide
from policies.decide.compiler import compile_snapshot
from policies.format.model import PolicyModel

WORDS = ("grumpf", "blorch", "snirt", "wexl")
TENANTS = ("", "acme", "beta", "edu-x")
NOW = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)  # a Saturday, late
KEY = b"a key of the tests"

STRIKES = tuple(
    Strike(kind, frozenset({category}), ago)  # type: ignore[arg-type]
    for kind in ("refused", "repaired")
    for category in ("law", "other")
    for ago in (timedelta(minutes=9), timedelta(hours=5))
)

# texts that YAML would take for something else if nobody quoted them
TEXTS = ("a law", "off", "1:20", "2026-01-01", "~", "true", "007", "1.0", "a: b", "# c", "- d", "é\n\tf", "'\"")

word = st.sampled_from(WORDS)
score = st.sampled_from((0.2, 0.5, 0.8))
moments = st.sampled_from((NOW - timedelta(days=1), NOW, NOW + timedelta(seconds=1), NOW + timedelta(days=9)))


def _words(draw_unless: bool = True):
    base = st.lists(st.sampled_from((*WORDS, "$odd")), min_size=1, max_size=2).map(lambda w: {"any_of": w})
    spared = st.sampled_from(([], ["snirt wexl"], ["$odd"]))
    return st.tuples(base, spared, st.sampled_from(("all", "plain"))).map(
        lambda t: {**t[0], **({"unless": t[1]} if t[1] and draw_unless else {}), "views": t[2]}
    )


NEAR = st.sampled_from(({}, {"near": 1}, {"near": 1, "near_unless": ["grumpa"]}, {"near": 1, "near_unless": ["$odd"]}))


def _near_words():
    return st.tuples(_words(), NEAR).map(lambda t: {**t[0], **t[1]})


LEAF = st.one_of(
    _near_words().map(lambda w: {"lettering": w}),
    _words().map(lambda w: {"prompt": w}),
    st.just({"lettering": {"asked": True}}),
    st.sampled_from((["*"], ["*"], ["*"], ["acme"], ["edu-*", "beta"])).map(lambda t: {"tenant": {"any_of": t}}),
    st.sampled_from(
        (
            {"weekdays": ["sat", "sun"]},
            {"weekdays": ["mon"]},
            {"between": ["22:00", "06:00"]},
            {"between": ["06:00", "22:00"]},
            {"from": NOW},
            {"until": NOW},
        )
    ).map(lambda t: {"time": t}),
    score.map(lambda s: {"toxicity_at_least": s}),
    score.map(lambda s: {"concept": {"name": "character/pip", "at_least": s}}),
    st.sampled_from(
        (
            {"at_least": 1, "within": "1h"},
            {"at_least": 2, "within": "1d", "of": ["refused"]},
            {"at_least": 1, "within": "1d", "category": "law"},
        )
    ).map(lambda s: {"strikes": s}),
)
PICTURE = st.one_of(
    _near_words().map(lambda w: {"picture": {"lettering": w}}),
    score.map(lambda s: {"picture": {"concept": {"name": "character/pip", "at_least": s}}}),
)


def nested(leaf):
    return st.recursive(
        leaf,
        lambda inner: st.tuples(st.sampled_from(("all", "any", "none")), st.lists(inner, min_size=2, max_size=3)).map(
            lambda pair: {pair[0]: pair[1]}
        ),
        max_leaves=5,
    )


CONDITION = st.one_of(LEAF, PICTURE, nested(LEAF | PICTURE), nested(LEAF | PICTURE))
VERIFY = st.sampled_from(
    (
        {"do": "verify", "read": "lettering", "none_of": ["grumpf", "$odd"], "ladder": ["wider", "blur"]},
        {"do": "verify", "read": "lettering", "none_of": ["grumpf"], "near": 1, "near_unless": ["grumpa"]},
        {"do": "verify", "read": "lettering", "none_of": ["snirt"], "otherwise": "review-hold", "ladder": ["blur"]},
        {"do": "verify", "read": "character/pip", "below": 0.5},
    )
)
THEN = st.one_of(
    st.sampled_from(([{"do": "block"}], [{"do": "review-hold"}], [{"do": "label", "value": "seen"}])),
    st.tuples(st.sampled_from(("auto", 0.4, 1.0)), st.lists(VERIFY, max_size=2)).map(
        lambda t: [{"do": "steer", "concept": "lettering", "strength": t[0]}, *t[1]]
    ),
    VERIFY.filter(lambda v: "wider" not in v.get("ladder", ())).map(lambda v: [v]),
)
ROLLOUT = st.one_of(
    st.just({"mode": "enforce"}),
    st.just({"mode": "enforce"}),
    st.just({"mode": "enforce"}),
    st.sampled_from(("disabled", "shadow")).map(lambda m: {"mode": m}),
    st.tuples(st.sampled_from((10, 50, 90)), st.sampled_from(("request", "tenant", "prompt"))).map(
        lambda t: {"mode": "canary", "percent": t[0], "by": t[1]}
    ),
)
SETTING = st.one_of(
    ROLLOUT.map(lambda r: {k: v for k, v in r.items() if k != "by"}),
    st.sampled_from(("allow", "apply", "block")).map(lambda e: {"on_error": e}),
    st.sampled_from(({"strength": 0.1}, {"strength": 1.0}, {"strength": "auto"})),
)


@st.composite
def exceptions(draw):
    holds = draw(st.sampled_from(({"tenants": ["acme"]}, {"tenants": ["edu-*", "beta"]}, {}, {})))
    when = {"when": draw(LEAF)} if not holds or draw(st.booleans()) else {}
    plain = {"reason": "a law", "approved_by": "me", "expires": draw(moments)}
    return {"id": f"e{draw(st.integers(0, 9))}", **holds, **when, **plain}


@st.composite
def rules(draw, *, rollout=ROLLOUT, sparing=True, prefix="r", most=4):
    return [
        {
            "id": f"{prefix}{i}",
            "why": draw(st.sampled_from(TEXTS)),
            "category": "law",
            "when": draw(CONDITION),
            "then": draw(THEN),
            "on_error": draw(st.sampled_from(("block", "apply", "allow"))),
            "rollout": draw(rollout),
            "watch": draw(st.sampled_from(("every-picture", "every-picture", "matched-prompts", {"share": 0.5}))),
            **({"active": draw(st.sampled_from(({"from": NOW}, {"until": NOW}, {"until": NOW + timedelta(9)})))}
               if draw(st.integers(0, 5)) == 0 else {}),
            **({"exceptions": draw(st.lists(exceptions(), min_size=1, max_size=2))}
               if sparing and draw(st.integers(0, 1)) == 0 else {}),
        }
        for i in range(draw(st.integers(min(2, most), most)))
    ]  # fmt: skip


@st.composite
def policies(draw, **options):
    """One or two policies as plain values, overrides and freshness included."""
    made = []
    for name in ("p", "q")[: draw(st.integers(1, 2))]:
        own = draw(rules(prefix=name, **options))
        made.append({"name": name, "rules": own})
    ids = [r["id"] for p in made for r in p["rules"]]
    for policy in made:
        if draw(st.booleans()):
            policy["overrides"] = draw(st.lists(overrides(ids), min_size=1, max_size=4))
        if draw(st.booleans()):
            policy["freshness"] = {
                "max_age": draw(st.sampled_from(("1h", "1h", "30d"))),
                "on_stale": draw(st.sampled_from(("tighten", "tighten", "serve", "refuse"))),
            }
    return made


@st.composite
def overrides(draw, ids):
    tenants = draw(st.sampled_from((None, None, ["acme"], ["edu-*", "beta"])))
    end = draw(st.none() | st.none() | moments)
    return {
        "rule": draw(st.sampled_from(ids[:2])),  # few, so that several meet
        "set": draw(SETTING),
        "approved_by": "me",
        **({"tenants": tenants} if tenants else {}),
        **({"expires": end} if end else {}),
    }


def models(items) -> list[PolicyModel]:
    """The models of policies as `policies` draws them, each with a list `odd`."""
    head = {"schema": "palimpsest.policy/v1", "version": "1.0.0", "owner": "o"}
    lists = {"odd": {"values": ["blorch", "wexl snirt"]}}
    return [PolicyModel.model_validate({**head, "lists": lists, **item}) for item in items]


def snapshot_of(made, as_of=None):
    """The snapshot of models."""
    from dataclasses import replace

    words = {f"{m.name}/{name}": entry.values for m in made for name, entry in m.lists.items()}
    return replace(compile_snapshot(made, words, canary_key=KEY), as_of=as_of)


@st.composite
def worlds(draw, *, failing=True):
    """A request, its signals (if `failing` some of them errors or missing), and those of a picture."""
    odd = ("hello", "GRUMPF", "gr u m p f", "6rumpf", "grumpfy", "unwexl", "snirt wexl", "sn1rt")
    odd += ("grumpa", "grmupf", "GRVMPF", "blorhc", "wexi", "welx", "grumpq snirt")
    said = draw(st.lists(st.sampled_from((*WORDS, *odd)), min_size=1, max_size=3))
    loose = draw(st.lists(st.sampled_from((*WORDS, *odd)), min_size=1, max_size=3))
    prompt = " ".join([*loose, f'a sign that says "{" ".join(said)}"' if draw(st.integers(0, 3)) else "a hill"])
    lost = draw(st.sampled_from((None, None, "it is away"))) if failing else None
    strikes = Strikes(tuple(draw(st.lists(st.sampled_from(STRIKES), max_size=3))), lost)
    tenant, id = draw(st.sampled_from(TENANTS)), draw(st.sampled_from("abcdefgh"))
    request = Request(prompt, tenant=tenant, id=id, now=NOW, strikes=strikes)
    sensed = sense(request)
    level = draw(st.sampled_from((0.0, 0.5, 0.9)))
    scored = tuple(Signal(n, "test", "1", score=level) for n in ("toxicity", "character/pip"))
    prompt_signals = Signals(
        tuple(s for s in sensed.items if s.name in ("text", "lettering")) + scored,
        frozenset(("prompt", n) for n in ("text", "lettering", "toxicity", "character/pip")),
    )
    names = ("lettering", "toxicity", "text", "character/pip")
    for name in draw(st.sets(st.sampled_from(names), max_size=2)) if failing else ():
        prompt_signals = Signals(
            (*prompt_signals.items, Signal(name, "test", "1", error="timeout")), prompt_signals.covered
        )
    read = draw(st.sampled_from((*WORDS, "hello", "", "snirt wexl", "grumpa", "GRVMPF", "snrit", "b1orhc")))
    seen = (Signal("lettering", "test", "1", "picture", text=read, views=read_text(read)),) if read else ()
    seen += (Signal("character/pip", "test", "1", "picture", draw(st.sampled_from((0.1, 0.5, 0.9)))),)
    covered = frozenset(("picture", n) for n in ("lettering", "character/pip"))
    if failing:
        covered -= frozenset(("picture", n) for n in draw(st.sets(st.sampled_from(("lettering", "character/pip")))))
    return request, prompt_signals, Signals(seen, covered)


@functools.cache
def sound_worlds(n=60):
    """`n` of all worlds made of a few parts each, with detectors that all answer: the same ones every time."""
    said = ("hello", "grumpf", "BLORCH", "6rumpf", "snirt wexl", "wexl snirt", "grumpa", "grmupf", "sn1trx")
    prompts = [*(f'a sign that says "{w}"' for w in said), "a hill", *(f"a {w} on a hill" for w in said)]
    parts = itertools.product(prompts, TENANTS, (0.0, 0.5, 0.9), ("", *said), (0.1, 0.5, 0.9))
    return [_world(*p) for p in random.Random(1).sample(list(parts), n)]


def _world(prompt, tenant, level, read, pip):
    request = Request(prompt, tenant=tenant, id="a", now=NOW)
    texts = tuple(s for s in sense(request).items if s.name in ("text", "lettering"))
    scored = tuple(Signal(n, "test", "1", score=level) for n in ("toxicity", "character/pip"))
    heard = frozenset(("prompt", n) for n in ("text", "lettering", "toxicity", "character/pip"))
    seen = (Signal("lettering", "test", "1", "picture", text=read, views=read_text(read)),) if read else ()
    seen += (Signal("character/pip", "test", "1", "picture", pip),)
    covered = frozenset(("picture", n) for n in ("lettering", "character/pip"))
    return request, Signals(texts + scored, heard), Signals(seen, covered)


def both_stages(world, snapshot):
    """The decisions on the prompt and on the picture."""
    request, prompt, picture = world
    first = decide(request, prompt, snapshot)
    return first, decide(request, prompt + picture, snapshot, stage="picture", before=first)
