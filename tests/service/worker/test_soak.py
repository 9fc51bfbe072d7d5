"""The soak's laws see what they are for: answers that a good service never gives, made by hand.

The soak itself is `python -m tests.bench.service_soak`; it takes long.
"""

from __future__ import annotations

from typing import Any

from tests.bench.service_soak import Soak, by_two_versions, lost, staleness, versions, wrong_kind
from tests.running import Answer


def steered(number: int, *, digest: str = "", picture: int | None = None, began: float = 0.0) -> Answer:
    """A steered answer of one version, whose picture was judged by another one where `picture` says so."""
    rules = [{"category": "harassment", "why": f"version {number}"}]
    per_image = [{"rules": [{"category": "harassment", "why": f"version {picture or number}"}]}]
    steering = {"verdict": "steer", "policy": digest or f"sha256:{number}", "rules": rules, "per_image": per_image}
    return Answer("read", began, began + 1, 200, {"steering": steering})


def refused(number: int) -> Answer:
    error = {
        "code": "moderation_blocked",
        "message": f"your request was rejected as a result of the safety system (hate). version {number} decision: 1f",
        "moderation_details": {"policy": f"sha256:{number}"},
    }
    return Answer("never", 0, 1, 400, {"error": error})


def soak(*answers: Answer, **more: Any) -> Soak:
    return Soak(answers=[(a.kind, "a moon", 0, a) for a in answers], **more)


def test_good_answers_break_nothing() -> None:
    good = soak(steered(1), steered(1), refused(2), written={1: 0.0, 2: 0.5})
    assert versions(refused(12)) == {12}
    assert (by_two_versions(good), lost(good), wrong_kind(good)) == ((0, 0), {}, 0)
    assert max(staleness(good)) == 0


def test_a_picture_judged_by_another_version_than_its_prompt_is_seen() -> None:
    assert by_two_versions(soak(steered(1, picture=2))) == (1, 0)


def test_a_digest_that_stands_for_two_versions_is_seen() -> None:
    assert by_two_versions(soak(steered(1, digest="sha256:7"), steered(2, digest="sha256:7"))) == (0, 1)


def test_a_judgement_by_what_was_replaced_is_as_old_as_it_is() -> None:
    assert staleness(soak(steered(1, began=10.0), written={1: 0.0, 2: 4.0})) == [6.0]


def test_a_broken_connection_an_error_of_ours_and_a_wrong_verdict_are_seen() -> None:
    bad = soak(Answer("free", 0, 1, 0, {}), Answer("free", 0, 1, 500, {"error": {"code": "internal_error"}}))
    assert lost(bad) == {"0": 1, "500 internal_error": 1}
    assert wrong_kind(soak(Answer("never", 0, 1, 200, {"steering": {"verdict": "allow"}}))) == 1
