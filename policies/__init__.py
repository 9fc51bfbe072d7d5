"""Decides whether, and by which written rules, a request or a picture is steered, labelled, held or refused.

How the service composes it (nothing here imports torch or another room)::

    loader = Loader(sense=detectors.text.sense)           # sense: Request -> Signals
    store = Store(loader, policy_paths("shipped"), interval=0.5)  # loads now, then polls; raises PolicyError
    snapshot = store.snapshot                             # take it once a request, and pin it
    request = Request(prompt, negative_prompt, id=decision_id, now=datetime.now(UTC))
    signals = detectors.text.sense(request)
    decision = decide(request, signals, snapshot)         # .refused, .steers (their .donor(request) is a prompt)
    seen = detectors.images.look(picture, readers, reads=decision.reads)  # the signals of one picture
    judged = decide(request, signals + seen, snapshot, stage="picture", before=decision)
    judged.ladder                                         # what may still repair the picture, or None
    judged.verdict                                        # strict already: counts the ladder's `otherwise`
    store.state                                           # digest, generation, source, last_error
"""

from policies.actions import (
    RUNGS,
    VERDICTS,
    Action,
    Block,
    Label,
    OnError,
    Replacement,
    ReviewHold,
    Rung,
    Steer,
    Unfit,
    Verdict,
    Verify,
    strictest,
)
from policies.decide import decide
from policies.decision import Decision, Disclosure, Ladder, Reason, RuleError, Shadow, Violation
from policies.explain import explain, narrate
from policies.loader import SHIPPED, Loader, Sense, no_policy, policy_paths
from policies.matcher import Match, Matcher
from policies.model import json_schema
from policies.problems import PolicyError, Problem
from policies.snapshot import Rule, Snapshot
from policies.store import Store, StoreState
from policies.testing import TestResult, run_tests
from policies.types import Box, Request, Signal, Signals, Span, Stage, View

__all__ = [
    "RUNGS",
    "SHIPPED",
    "VERDICTS",
    "Action",
    "Block",
    "Box",
    "Decision",
    "Disclosure",
    "Label",
    "Ladder",
    "Loader",
    "Match",
    "Matcher",
    "OnError",
    "PolicyError",
    "Problem",
    "Reason",
    "Replacement",
    "Request",
    "ReviewHold",
    "Rule",
    "RuleError",
    "Rung",
    "Sense",
    "Shadow",
    "Signal",
    "Signals",
    "Snapshot",
    "Span",
    "Stage",
    "Steer",
    "Store",
    "StoreState",
    "TestResult",
    "Unfit",
    "Verdict",
    "Verify",
    "View",
    "Violation",
    "decide",
    "explain",
    "json_schema",
    "narrate",
    "no_policy",
    "policy_paths",
    "run_tests",
    "strictest",
]
