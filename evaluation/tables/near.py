"""What `near: 1` costs and what it finds: false alarms on innocent signs, and recall of misspelt listed words.

Measured with `decide`, on the lists and exemptions of the shipped rule, and on texts as a reader would give them. No
picture is drawn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
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

Judge = Callable[[str], bool]


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
    rules = _rules()
    rows = {f"innocent signs, {name}": _alarm_row(signs, judges) for name, judges in _roads(rules).items()}
    progress("innocent signs done")
    rng = random.Random(seed)
    cut = [in_two_pieces(sign, rng) for sign in signs]
    rows["innocent signs, a word in two pieces, read in a picture"] = _alarm_row(cut, _roads(rules)["read in a picture"])
    progress("innocent signs in pieces done")
    misses = {edit: edited(rules.words, edit, each, rules.is_innocent, seed=seed) for edit in EDITS}
    rows |= {f"misspelt: {edit}": _recall_row(cases, rules) for edit, cases in misses.items()}
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
        rule = {"id": "near", "why": "measured", "category": "measured", "when": whens[road]}
        rule["then"] = [verify] if road == "verify" else [{"do": "block"}]
        head = {"schema": "palimpsest.policy/v1", "name": self.policy.name, "version": "1.0.0", "owner": "measured"}
        lists = {name: entry.model_dump(exclude_none=True) for name, entry in self.policy.lists.items()}
        return compile_snapshot([PolicyModel.model_validate({**head, "lists": lists, "rules": [rule]})], self._lists)


def _rules() -> _Rules:
    return _Rules(Loader(sense).load(SHIPPED))


def _roads(rules: _Rules) -> dict[str, dict[str, Judge]]:
    """For each way in which a text reaches a rule: judges with more and more of what spares a near word."""
    return {
        name: {
            "without near": _judge(rules.snapshot(road, near=False, spared=False), road),
            "near, nothing spared": _judge(rules.snapshot(road, near=True, spared=False), road, dictionary=False),
            "near, words of the dictionary spared": _judge(rules.snapshot(road, near=True, spared=False), road),
            "near, dictionary and near_unless": _judge(rules.snapshot(road, near=True, spared=True), road),
        }
        for name, road in (("read in a picture", "picture"), ("verified", "verify"), ("asked for", "asked"))
    }


def _judge(snapshot: Snapshot, road: str, *, dictionary: bool = True) -> Judge:
    def acts(text: str) -> bool:
        request = Request(f'a sign that says "{text}"' if road == "asked" else "a street with a sign")
        prompt = _known(default_detectors()(request), dictionary)
        before = decide(request, prompt, snapshot)
        if road == "asked":
            return before.verdict != "allow"
        seen = prompt + _known(_read(text), dictionary)
        after = decide(request, seen, snapshot, stage="picture", before=before)
        return bool(after.violations) if road == "verify" else after.verdict != "allow"

    return acts


def _read(text: str) -> Signals:
    """The signals of a picture in which a reader read `text`."""
    signal = Signal("lettering", "given", "1", "picture", text=text, views=read_text(text))
    return Signals((signal,), frozenset({("picture", "lettering")}))


def _known(signals: Signals, dictionary: bool) -> Signals:
    """`signals`, without a dictionary as if nobody had asked one."""
    if dictionary:
        return signals
    bare = (replace(s, views=tuple(replace(v, odd=None) for v in s.views)) for s in signals.items)
    return Signals(tuple(bare), signals.covered)


def _alarm_row(signs: Sequence[str], judges: Mapping[str, Judge]) -> dict[str, Any]:
    alarms = {name: [sign for sign in signs if judge(sign)] for name, judge in judges.items()}
    rates = {name: Rate(len(found), len(signs)).to_json() for name, found in alarms.items()}
    return {**rates, "alarms": list(alarms.values())[-1][:_SHOWN]}


def _recall_row(cases: Sequence[tuple[str, str]], rules: _Rules) -> dict[str, Any]:
    """How many misspelt words the picture's rule finds, without near words and with them, short entries apart."""
    judges = _roads(rules)["read in a picture"]
    plain, near = judges["without near"], judges["near, dictionary and near_unless"]
    found = [(word, said, near(said)) for word, said in cases]
    return {
        "recall": Rate.of(hit for _, _, hit in found).to_json(),
        "recall without near": Rate.of(plain(said) for _, said in cases).to_json(),
        **dict(_by_length(found)),
        "missed": [f"{said} ({word})" for word, said, hit in found if not hit][:_SHOWN],
    }


def _by_length(found: Iterable[tuple[str, str, bool]]) -> Iterator[tuple[str, Any]]:
    hits: Counter[tuple[bool, bool]] = Counter((len(word) == _SHORT, hit) for word, _, hit in found)
    for short, name in ((True, "recall, words of four letters"), (False, "recall, longer words")):
        yield name, Rate(hits[short, True], hits[short, True] + hits[short, False]).to_json()
