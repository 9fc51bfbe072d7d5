"""What `near: 1` costs and what it finds: false alarms on innocent signs, and recall of misspelt listed words.

Measured with `decide`, on the lists and exemptions of the shipped rule, and on texts as a reader would give them. No
picture is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detectors.text import default_detectors, read_text, sense
from detectors.text.vocabulary import load_vocabulary
from evaluation.metrics import Rate
from evaluation.prompts.signs import EDITS, edited, in_two_pieces, innocent_signs
from policies import SHIPPED, Loader, Request, Signal, Signals, Snapshot, decide
from policies.decide.compiler import compile_snapshot
from policies.format.model import PolicyModel, VerifyModel
from policies.near import looks

__all__ = ["near_rows"]

_SHOWN = 40  # examples that a row keeps
_SHORT = 4
_ROADS = {"read in a picture": "picture", "verified after a steer": "verify", "asked for": "asked"}
_PLAIN, _SPARED = "without near", "near, dictionary and near_unless"


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as a picture of it is read, and as a prompt asks for it."""

    said: str
    picture: Signals
    request: Request
    prompt: Signals

    @classmethod
    def of(cls, said: str) -> _Text:
        signal = Signal("lettering", "given", "1", "picture", text=said, views=read_text(said))
        request = Request(f'a sign that says "{said}"')
        seen = Signals((signal,), frozenset({("picture", "lettering")}))
        return cls(said, seen, request, default_detectors()(request))


Judge = Callable[[_Text], bool]


def near_rows(
    *,
    signs: Sequence[str] | None = None,
    count: int = 5000,
    each: int = 200,
    seed: int = 0,
    progress: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """The table of near words: `count` innocent signs, or `signs` in their place, and `each` words a kind of edit."""
    signs = innocent_signs(count, seed=seed) if signs is None else signs
    rules, rng = _Rules(Loader(sense).load(SHIPPED)), random.Random(seed)
    texts = [_Text.of(sign) for sign in signs]
    rows = {f"innocent signs, {name}": _alarm_row(texts, _judges(rules, road)) for name, road in _ROADS.items()}
    progress("innocent signs done")
    texts = [_Text.of(in_two_pieces(sign, rng)) for sign in signs]
    rows["innocent signs, each with a word in two pieces"] = _alarm_row(texts, _judges(rules, "picture"))
    progress("innocent signs in pieces done")
    judges = _judges(rules, "picture")
    for edit in EDITS:
        cases = edited(rules.words, edit, each, rules.is_innocent, seed=seed)
        rows[f"misspelt: {edit}"] = _recall_row(cases, judges[_PLAIN], judges[_SPARED])
    return rows


class _Rules:
    """The words, lists and exemptions of the shipped verifications with `near: 1`."""

    def __init__(self, shipped: Snapshot) -> None:
        found = [
            (policy, action)
            for policy in shipped.policies
            for rule in policy.rules
            for action in rule.then
            if isinstance(action, VerifyModel) and action.near
        ]
        assert found  # INVARIANT: the shipped rule on lettering verifies near words
        self.policy = found[0][0]
        of = [action for policy, action in found if policy is self.policy]
        self.any_of = sorted({item for action in of for item in action.none_of or ()})
        self.unless = sorted({item for action in of for item in action.unless or ()})
        self.near_unless = sorted({item for action in of for item in action.near_unless or ()})
        self._lists = {name: words for name, words in shipped.words.items() if "#" not in name}
        self.words = sorted({w for w in self._entries(self.any_of) if w.isalpha() and w.isascii() and len(w) >= _SHORT})
        self._spared = {look for word in self._entries(self.near_unless) for look in looks(word)}

    def is_innocent(self, word: str) -> bool:
        """Whether the dictionary knows `word`, or the list of exemptions has it."""
        return load_vocabulary().knows(word) or not self._spared.isdisjoint(looks(word))

    def _entries(self, items: Iterable[str]) -> list[str]:
        names = (f"{self.policy.name}/{item[1:]}" if item.startswith("$") else item for item in items)
        return [word for name in names for word in self._lists.get(name, (name,))]

    def snapshot(self, road: str, *, near: bool, spared: bool) -> Snapshot:
        """One rule that looks for the words on `road`: `asked`, `picture` or `verify`."""
        words: dict[str, Any] = {"any_of": self.any_of, "unless": self.unless, "near": int(near)}
        if spared:
            words["near_unless"] = self.near_unless
        whens: Mapping[str, dict[str, Any]] = {
            "asked": {"lettering": words},
            "picture": {"picture": {"lettering": words}},
            "verify": {"prompt": {"any_of": ["sign"]}},
        }
        verify = {"do": "verify", "read": "lettering", **words, "none_of": self.any_of}
        del verify["any_of"]
        rule: dict[str, Any] = {"id": "near", "why": "measured", "category": "measured", "when": whens[road]}
        rule["then"] = [verify] if road == "verify" else [{"do": "block"}]
        head = {"schema": "palimpsest.policy/v1", "name": self.policy.name, "version": "1.0.0", "owner": "measured"}
        lists = {name: entry.model_dump(exclude_none=True) for name, entry in self.policy.lists.items()}
        return compile_snapshot([PolicyModel.model_validate({**head, "lists": lists, "rules": [rule]})], self._lists)


def _judges(rules: _Rules, road: str) -> dict[str, Judge]:
    """Judges of texts that come to a rule on `road`, with more and more that spares a near word."""
    near = rules.snapshot(road, near=True, spared=False)
    return {
        _PLAIN: _judge(rules.snapshot(road, near=False, spared=False), road),
        "near, nothing spared": _judge(near, road, dictionary=False),
        "near, words of the dictionary spared": _judge(near, road),
        _SPARED: _judge(rules.snapshot(road, near=True, spared=True), road),
    }


def _judge(snapshot: Snapshot, road: str, *, dictionary: bool = True) -> Judge:
    calm = Request("a street with a sign")
    unasked = default_detectors()(calm)

    def acts(text: _Text) -> bool:
        if road == "asked":
            return decide(text.request, _known(text.prompt, dictionary), snapshot).verdict != "allow"
        before = decide(calm, unasked, snapshot)
        seen = unasked + _known(text.picture, dictionary)
        return bool(decide(calm, seen, snapshot, stage="picture", before=before).verdict != "allow")

    return acts


def _known(signals: Signals, dictionary: bool) -> Signals:
    """`signals`, without a dictionary as if nobody had asked one."""
    if dictionary:
        return signals
    bare = (replace(s, views=tuple(replace(v, odd=None) for v in s.views)) for s in signals.items)
    return Signals(tuple(bare), signals.covered)


def _alarm_row(texts: Sequence[_Text], judges: Mapping[str, Judge]) -> dict[str, Any]:
    """The share of `texts` that each judge acts on, and what `near` adds when all is spared that the rule spares."""
    alarms = {name: {t.said for t in texts if judge(t)} for name, judge in judges.items()}
    added = sorted(alarms[_SPARED] - alarms[_PLAIN])
    rates = {name: Rate(len(found), len(texts)).to_json() for name, found in alarms.items()}
    return {**rates, "what near adds": Rate(len(added), len(texts)).to_json(), "added": added[:_SHOWN]}


def _recall_row(cases: Sequence[tuple[str, str]], plain: Judge, near: Judge) -> dict[str, Any]:
    """How many misspelt words `near` finds in a picture, words of four letters apart, and how many `plain` does."""
    found = [(word, text.said, plain(text), near(text)) for word, text in ((w, _Text.of(s)) for w, s in cases)]
    return {
        "recall without near": Rate.of(without for _, _, without, _ in found).to_json(),
        "recall": Rate.of(hit for *_, hit in found).to_json(),
        "recall, words of four letters": Rate.of(hit for word, *_, hit in found if len(word) == _SHORT).to_json(),
        "recall, longer words": Rate.of(hit for word, *_, hit in found if len(word) > _SHORT).to_json(),
        "missed": [f"{said} ({word})" for word, said, _, hit in found if not hit][:_SHOWN],
    }
