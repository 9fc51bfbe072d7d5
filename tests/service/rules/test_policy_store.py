"""A worker that follows a signed bundle: live within a second, refusals counted by reason, and restarts beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from policies import PolicyError, SigningKey, make_key, sign_bundle
from service.metrics.recorder import Recorder
from service.settings import SettingsError

RUDE = "something forbidden"


class Follower:
    """A runtime on a folder with a bundle, and its metrics."""

    def __init__(self, settings: Callable[..., Any], folder: Path, key: SigningKey, **options: Any) -> None:
        from service.worker.runtime import Runtime

        self.registry = CollectorRegistry()
        recorder = Recorder(self.registry)
        recorder.start()
        # the files of the process outlive registries
        self.before = {(s.name, tuple(s.labels.items())): s.value for m in self.registry.collect() for s in m.samples}
        self.runtime = Runtime(settings(policy=str(folder), policy_keys=(str(key.public),), **options), recorder)
        self.runtime.start()
        self.runtime.wait()

    def gauge(self, name: str) -> float:
        return self.registry.get_sample_value(f"palimpsest_{name}") or 0.0

    def counted(self, name: str, **labels: str) -> float:
        """By how much a counter grew since this worker was made."""
        now = self.registry.get_sample_value(f"palimpsest_{name}", labels) or 0.0
        return now - self.before.get((f"palimpsest_{name}", tuple(labels.items())), 0.0)

    @property
    def note(self) -> dict[str, Any]:
        note: dict[str, Any] = self.runtime.policies()["workers"][0]["policy"]
        return note

    def until(self, holds: Callable[[], bool], seconds: float) -> float:
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < seconds
            time.sleep(0.005)
        return time.monotonic() - began


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return make_key(tmp_path / "key")


@pytest.fixture
def put(policy: Path, key: SigningKey, tmp_path: Path) -> Callable[..., Path]:
    """Puts the test policy, edited, as a bundle into a folder."""
    folder = tmp_path / "live"
    folder.mkdir()
    text = policy.read_text()

    def put(sequence: int, *, edit: tuple[str, str] = ("", ""), cut: int | None = None, **more: Any) -> Path:
        now = datetime.now(UTC)
        options = {"name": "house", "created": now, "not_after": now + timedelta(days=1), **more}
        content = sign_bundle({"p.yaml": text.replace(*edit).encode()}, key, sequence=sequence, **options)
        (folder / ".fresh").write_bytes(content[:cut])
        (folder / ".fresh").replace(folder / "house.bundle")
        return folder

    return put


@pytest.fixture
def follow(settings: Callable[..., Any], key: SigningKey) -> Iterator[Callable[..., Follower]]:
    running: list[Follower] = []

    def start(folder: Path, **options: Any) -> Follower:
        running.append(Follower(settings, folder, key, **options))
        return running[-1]

    yield start
    for follower in running:
        follower.runtime.stop()


def test_a_new_bundle_is_in_use_within_a_second(follow: Any, put: Any) -> None:
    follower = follow(put(8))
    assert (follower.note["source"], follower.note["bundle"]["sequence"]) == ("live", 8)
    for sequence in (9, 10, 11):
        put(sequence, edit=("[forbidden]", f"[forbidden, word{sequence}]"))
        took = follower.until(lambda s=sequence: follower.note["bundle"]["sequence"] == s, 5)
        assert took < 1.0
    assert follower.note["generation"] == 4
    assert follower.counted("policy_reloads_total", result="ok") == 3


def test_an_ended_bundle_starts_where_that_is_allowed_and_its_end_and_each_look_are_metrics(
    follow: Any, put: Any
) -> None:
    ended = datetime.now(UTC) - timedelta(hours=1)
    folder = put(8, created=ended - timedelta(days=1), not_after=ended)
    with pytest.raises(PolicyError, match="it expired"):
        follow(folder)
    follower = follow(folder, start_expired=True)
    assert follower.note["bundle"]["sequence"] == 8
    assert abs(follower.gauge("policy_expires_timestamp_seconds") - ended.timestamp()) < 1.0
    looked = follower.gauge("policy_poll_timestamp_seconds")
    follower.until(lambda: follower.gauge("policy_poll_timestamp_seconds") > looked, 10)


def test_the_log_says_which_rules_changed_and_who_signed_and_no_word_of_a_list(
    follow: Any, put: Any, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="bentoml.palimpsest")
    follower = follow(put(8))
    put(9, edit=("[idiot, moron]", "[idiot, moron, secretword]"))
    follower.until(lambda: follower.note["bundle"]["sequence"] == 9, 5)
    put(10, edit=("[forbidden]", "[other]"))
    follower.until(lambda: follower.note["bundle"]["sequence"] == 10, 5)
    follower.until(lambda: sum("changed:" in m for m in caplog.messages) == 2, 5)
    first, second = (m for m in caplog.messages if "changed:" in m)
    assert f"signed with {key.public.id}" in first
    assert "list `test-policy/toxic`" in first
    assert "secretword" not in caplog.text
    assert "rule `never` (may be milder)" in second, "it no longer refuses the old word"


@pytest.mark.parametrize(
    ("sequence", "options", "code"),
    [
        (7, {}, "replayed"),
        (9, {"cut": -50}, "damaged"),
        (9, {"hosts": ["another-model"]}, "other-host"),
        (9, {"not_after": datetime(2026, 1, 1, tzinfo=UTC)}, "expired"),
        (9, {"edit": ("rules:", "tests: [{name: t, given: {prompt: x}, expect: {verdict: block}}]\nrules:")}, "tests"),
        (9, {"edit": ("do: block", "do: blok")}, "invalid"),
        (9, {"edit": ("schema:", "a: &a [x]\nb: [*a, *a]\nschema:")}, "syntax"),
    ],
)
def test_a_bad_bundle_is_counted_by_its_reason_and_never_used(
    follow: Any, put: Any, sequence: int, options: dict[str, Any], code: str
) -> None:
    follower = follow(put(8))
    before = follower.note["digest"]
    put(sequence, **options)
    follower.until(lambda: follower.note["source"] == "last-good", 5)
    assert follower.counted("policy_refusals_total", reason=code) == 1
    assert follower.counted("policy_reloads_total", result="failed") == 1
    assert follower.gauge("policy_last_reload_failed") == 1
    assert [p["code"] for p in follower.note["problems"]] == [code]
    assert (follower.note["digest"], follower.note["bundle"]["sequence"]) == (before, 8)
    follower.runtime.stop()
    again = follow(Path(*follower.runtime.settings.policy))
    assert (again.note["digest"], again.note["source"]) == (before, "last-good")
    assert again.counted("policy_refusals_total", reason=code) == 1
    assert again.gauge("policy_last_reload_failed") == 1


def test_a_restart_beside_a_broken_bundle_is_allowed_and_beside_a_broken_file_is_told(
    settings: Callable[..., Any], follow: Any, put: Any, policy: Path, key: SigningKey
) -> None:
    from service.worker.launch import check

    folder = put(8)
    follow(folder).runtime.stop()
    put(9, cut=-50)
    chosen = settings(policy=str(folder), policy_keys=(str(key.public),), port=_free())
    check(chosen)
    policy.write_text(policy.read_text().replace("do: block", "do: blok"))
    with pytest.raises(PolicyError):
        check(settings(port=_free()))
    with pytest.raises(SettingsError, match="policy_keys"):
        check(settings(policy=str(folder), policy_keys=("nowhere.pub",), port=_free()))


def test_a_model_whose_pictures_nobody_judges_is_served_without_the_policy_that_needs_a_judge(
    settings: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from policies import SHIPPED
    from service.rules.policy_store import served_paths
    from service.worker.launch import check

    foreign = settings(policy="shipped", port=_free())
    with caplog.at_level("WARNING"):
        check(foreign)
    assert "erased-concepts" in caplog.text
    assert {p.stem for p in served_paths(foreign, {"lettering"})} == {"floor", "rendered-text"}
    ours = settings(model="signpost-pixart", policy="shipped", port=_free())
    check(ours)
    known = {"lettering", "character/pip", "style/marlo", "harm/gun"}
    assert served_paths(ours, known) == (SHIPPED,)


def _free() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
