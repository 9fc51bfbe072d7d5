"""How well prompts are read: recall for each disguise and each way to ask, and false alarms on innocent prompts.

Prompts are judged as the service judges them: by the shipped policies over the embedded text detectors. Words and
templates are those of the held-out half (`evaluation.prompts.corpus`), which was looked at, or fresh ones
(`evaluation.prompts.fresh`). The trained readers are measured on pictures and
sentences that they were not trained on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from detectors.text import default_detectors, sense
from evaluation.metrics import Rate
from evaluation.prompts.corpus import Evasion, Innocent, evasions, innocents, requests_for
from evaluation.prompts.disguises import DISGUISES
from evaluation.prompts.fresh import fresh_evasions, fresh_forms, fresh_innocents, fresh_requests, fresh_words
from evaluation.training.toxicity import KINDS, kind_of_examples
from policies import SHIPPED, Decision, Loader, Request, decide

__all__ = [
    "FORMS",
    "classifier_row",
    "detector_rows",
    "engine_row",
    "evasion_row",
    "fresh_rows",
    "innocence_row",
    "listing_decider",
    "missed_targets",
    "shipped_decider",
]

FORMS = ("quotes", "unbalanced", "quoted", "bare", "languages", "lines")
_SHOWN = 12  # examples of what went wrong that a row keeps
_SURE = 0.95  # the score from which the shipped rule acts on the classifier alone

Judge = Callable[[str], Decision]


def detector_rows(
    *,
    count: int = 300,
    innocent: int = 2500,
    seed: int = 0,
    held_out: bool = True,
    progress: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """The table of the text detectors; `count` prompts a disguise and a way to ask, `innocent` innocent ones."""
    judge = shipped_decider()
    rows: dict[str, dict[str, Any]] = {}
    for disguise in DISGUISES:
        rows[f"disguise: {disguise.name}"] = evasion_row(evasions(disguise, count, held_out=held_out, seed=seed), judge)
    progress("disguises done")
    for form in FORMS:
        rows[f"asked: {form}"] = evasion_row(requests_for(form, count, held_out=held_out, seed=seed), judge)
    progress("ways to ask done")
    rows["innocent prompts"] = innocence_row(innocents(innocent, held_out=held_out, seed=seed), judge)
    homographs = innocents(300, held_out=held_out, seed=seed, homographs=True)
    rows["innocent, but with a listed word in another meaning"] = innocence_row(homographs, judge)
    rows["toxicity classifier alone"] = classifier_row()
    progress("innocent prompts done")
    return rows


def fresh_rows(
    *, count: int = 300, innocent: int = 2500, seed: int = 0, progress: Callable[[str], None] = print
) -> dict[str, dict[str, Any]]:
    """The same table on the fresh corpus: its words are those of an operator's list, beside the shipped policies for
    the innocent prompts."""
    judge, shipped = listing_decider(fresh_words()), shipped_decider()
    rows = {f"disguise: {d.name}": evasion_row(fresh_evasions(d, count, seed=seed), judge) for d in DISGUISES}
    progress("disguises done")
    rows |= {f"asked: {form}": evasion_row(fresh_requests(form, count, seed=seed), judge) for form in fresh_forms()}
    progress("ways to ask done")
    prompts = fresh_innocents(innocent, seed=seed)
    rows["innocent prompts"] = innocence_row(prompts, shipped)
    rows["innocent prompts, the fresh list"] = innocence_row(prompts, judge)
    return rows


def evasion_row(cases: Iterable[Evasion], judge: Judge) -> dict[str, Any]:
    """How many of `cases` some rule acts on, in how many the very word is named, and some that were missed."""
    caught, named, missed = [], [], []
    for case in cases:
        decision = judge(case.prompt)
        caught.append(decision.verdict != "allow")
        named.append(any(reason.word == case.word for reason in decision.reasons))
        missed += [case.prompt] * (not caught[-1])
    return {
        "recall": Rate.of(caught).to_json(),
        "the word itself is named": Rate.of(named).to_json(),
        "missed": missed[:_SHOWN],
    }


def innocence_row(cases: Iterable[Innocent], judge: Judge) -> dict[str, Any]:
    """On how many of `cases` some rule acts, by the kind of trap, and some of those."""
    alarms: list[bool] = []
    kinds: Counter[str] = Counter()
    shown: list[str] = []
    for case in cases:
        decision = judge(case.prompt)
        alarms.append(decision.verdict != "allow")
        if alarms[-1]:
            kinds[case.kind] += 1
            shown.append(case.prompt)
    return {"false alarms": Rate.of(alarms).to_json(), "by kind": dict(kinds), "alarms": shown[:_SHOWN]}


def classifier_row(count: int = 400, *, seed: int = 4) -> dict[str, Any]:
    """The embedded classifier by itself, on sentences that it was not trained on: recall and false alarms at the
    score that the shipped rule asks for and at a half, and precision at equal shares of both."""
    import random

    (model, *_) = default_detectors().scorers
    row: dict[str, Any] = {}
    for new in (False, True):
        texts = {k: list(kind_of_examples(k, random.Random(seed), count, new_words=new)) for k in KINDS}
        scores = {kind: [s["toxicity"] for s in model.scores(of)] for kind, of in texts.items()}
        words = "new words" if new else "known words"
        for least in (0.5, _SURE):
            bad = Rate.of(s >= least for kind, of in scores.items() if not kind.startswith("innocent") for s in of)
            good = Rate.of(s >= least for kind, of in scores.items() if kind.startswith("innocent") for s in of)
            row[f"recall at {least}, {words}"] = bad.to_json()
            row[f"false alarms at {least}, {words}"] = good.to_json()
            row[f"precision at {least}, {words}"] = round(bad.share / max(1e-9, bad.share + good.share), 4)
    return row


def engine_row(count: int = 200, *, progress: Callable[[str], None] = print) -> dict[str, dict[str, Any]]:
    """The trained readers, run by the real libraries, on `count` items that they were not trained on."""
    from detectors.detox import EMBEDDED, DetoxifyScorer
    from detectors.images import EasyOcr, RapidOcr
    from evaluation.training.detectors import reads_signs, tells_abuse, unseen_signs

    signs, rapid = unseen_signs(count), RapidOcr()
    rows = {
        "EasyOCR with our network, places by RapidOCR": {
            "signs read exactly": reads_signs(EasyOcr.embedded(finder=rapid), signs)
        },
        "RapidOCR": {"signs read exactly": reads_signs(rapid, signs)},
    }
    progress("readers of pictures done")
    scorer = DetoxifyScorer(EMBEDDED)
    rows["Detoxify's code with our checkpoint"] = {
        "unseen texts told right": tells_abuse(scorer, count),
        "texts of unseen sentences told right": tells_abuse(scorer, count, new_sentences=True),
    }
    return {name: {measure: rate.to_json() for measure, rate in row.items()} for name, row in rows.items()}


def missed_targets(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows that miss the targets: recall of 0.99 for each disguise, at most 0.5 % false alarms."""
    low = [name for name, row in rows.items() if name.startswith("disguise") and row["recall"]["share"] < 0.99]
    loud = [n for n, r in rows.items() if n.startswith("innocent prompts") and r["false alarms"]["share"] > 0.005]
    return low + loud


def shipped_decider() -> Judge:
    """Decides prompts as the embedded service does before it draws anything."""
    snapshot = Loader(sense=sense).load(SHIPPED)

    def judge(prompt: str) -> Decision:
        request = Request(prompt)
        return decide(request, sense(request), snapshot)

    return judge


def listing_decider(words: Iterable[str]) -> Judge:
    """Decides prompts by one rule: lettering must not say any of `words`."""
    from tempfile import TemporaryDirectory

    rule = {
        "id": "listed",
        "why": "measured",
        "category": "measured",
        "when": {"lettering": {"any_of": sorted(words)}},
        "then": [{"do": "block"}],
        "rollout": {"mode": "enforce"},
    }
    head = {"schema": "palimpsest.policy/v1", "name": "listed", "version": "1.0.0", "owner": "measured@example.com"}
    with TemporaryDirectory() as folder:
        Path(folder, "listed.yaml").write_text(json.dumps(head | {"rules": [rule]}), "utf-8")
        snapshot = Loader(sense=sense).load(Path(folder))

    def judge(prompt: str) -> Decision:
        request = Request(prompt)
        return decide(request, sense(request), snapshot)

    return judge
