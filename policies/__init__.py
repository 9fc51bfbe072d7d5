"""Policies: written rules that decide whether a request or a picture is steered, labelled, held or refused.

How the service uses them (nothing here imports torch, the detectors or the model)::

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
    store.state                                           # digest, generation, source, last_error, origin
    diff(old, new), replay(requests, old, new, sense)     # what a change means, and what it would do
"""

from policies.decide.decide import decide
from policies.decide.decision import Decision, Disclosure, Exemption, Ladder, RuleError, Shadow, Violation
from policies.decide.donor import list_of
from policies.decide.example_tests import TestResult, run_tests
from policies.decide.explain import explain, narrate
from policies.decide.replay import Replay, parse_requests, replay
from policies.decide.rules import Rule
from policies.decide.snapshot import Origin, Snapshot
from policies.decide.strikes import struck
from policies.format.actions import (
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
from policies.format.dump import dump_policy
from policies.format.model import json_schema
from policies.judgement import Reason
from policies.matcher import Match, Matcher
from policies.predicates.strikes import MOST_STRIKES
from policies.problems import CODES, PolicyError, Problem, Remark
from policies.store.bundle import Bundle, open_bundle, sign_bundle
from policies.store.diff import Change, diff
from policies.store.hints import advice
from policies.store.keys import KeyProblem, SigningKey, TrustedKey, make_key, trusted_keys
from policies.store.loader import LoadedPolicies, Loader, Sense, no_policy
from policies.store.sources import SHIPPED, policy_paths
from policies.store.store import Store, StoreState
from policies.types import (
    NO_STRIKES,
    STRIKE_KINDS,
    Box,
    Request,
    Signal,
    Signals,
    Span,
    Stage,
    Strike,
    StrikeKind,
    Strikes,
    View,
    concept_of,
    sentinel_of,
)

__all__ = [
    "CODES",
    "MOST_STRIKES",
    "NO_STRIKES",
    "RUNGS",
    "SHIPPED",
    "STRIKE_KINDS",
    "VERDICTS",
    "Action",
    "Block",
    "Box",
    "Bundle",
    "Change",
    "Decision",
    "Disclosure",
    "Exemption",
    "KeyProblem",
    "Label",
    "Ladder",
    "LoadedPolicies",
    "Loader",
    "Match",
    "Matcher",
    "OnError",
    "Origin",
    "PolicyError",
    "Problem",
    "Reason",
    "Remark",
    "Replacement",
    "Replay",
    "Request",
    "ReviewHold",
    "Rule",
    "RuleError",
    "Rung",
    "Sense",
    "Shadow",
    "Signal",
    "Signals",
    "SigningKey",
    "Snapshot",
    "Span",
    "Stage",
    "Steer",
    "Store",
    "StoreState",
    "Strike",
    "StrikeKind",
    "Strikes",
    "TestResult",
    "TrustedKey",
    "Unfit",
    "Verdict",
    "Verify",
    "View",
    "Violation",
    "advice",
    "concept_of",
    "decide",
    "diff",
    "dump_policy",
    "explain",
    "json_schema",
    "list_of",
    "make_key",
    "narrate",
    "no_policy",
    "open_bundle",
    "parse_requests",
    "policy_paths",
    "replay",
    "run_tests",
    "sentinel_of",
    "sign_bundle",
    "strictest",
    "struck",
    "trusted_keys",
]
