"""The floor of a service, and policies in several places: in force at the start and after changes, never silently gone.

| the law that goes red | when this is broken |
|---|---|
| the floor is in force with any policies | `make_loader` does not pass `floor` on |
| no floor is told by log, metric and `GET /v1/policies` | the warning, the gauge or the note is left out |
| every path is followed | the store gets the first path only |
| workers get what the command line was given | `environment` names one policy |
| with several paths nothing can be uploaded | `bundle_place` takes the first |
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.rules.bundle_upload import bundle_place
from service.rules.policy_store import served_paths
from service.settings import Settings, SettingsError, load_settings
from service.worker.launch import check, environment
from tests.running import free_port
from tests.service.serving import POLICY

FORBIDDEN = "an erotic photo of a schoolgirl"


def verdict(client: TestClient, prompt: str) -> str:
    return str(client.post("/v1/policies/evaluate", json={"prompt": prompt}).json()["verdict"])


def note(client: TestClient) -> dict[str, Any]:
    (worker,) = client.get("/v1/policies").json()["workers"]
    return dict(worker["policy"])


def missing(client: TestClient) -> float:
    return float(client.runtime.recorder.series("floor_missing")._value.get())  # type: ignore[attr-defined]


def test_the_floor_is_in_force_with_any_policies_and_without_any(
    serve: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    for options in ({}, {"policy": "none"}):
        client = serve(**options)
        assert verdict(client, FORBIDDEN) == "block"
        assert (note(client)["floor"], missing(client)) == ("added", 0.0)
    assert "no floor" not in caplog.text


def test_a_service_without_a_floor_says_so_loudly(
    serve: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        client = serve(floor=False)
    assert verdict(client, FORBIDDEN) == "allow"
    assert "no floor is in force" in caplog.text
    assert (note(client)["floor"], missing(client)) == ("none", 1.0)


def test_a_floor_of_the_policies_own_is_used(serve: Callable[..., TestClient], policy: Path) -> None:
    own = POLICY.replace("name: test-policy", "name: floor").replace("[forbidden]", "[grumpf]")
    own = own.replace("id: toxic-lettering", "id: other").replace("id: never", "id: own")
    (policy.parent / "floor.yaml").write_text(own)
    client = serve(policy=str(policy.parent))
    assert (note(client)["floor"], verdict(client, "grumpf"), verdict(client, FORBIDDEN)) == ("given", "block", "allow")


def test_every_one_of_several_paths_is_in_force_and_followed(
    serve: Callable[..., TestClient], policy: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    more = POLICY[: POLICY.index("  - id: toxic-lettering")] + POLICY[POLICY.index("  - id: never") :]
    more = more.replace("name: test-policy", "name: more").replace("id: never", "id: more")
    (second / "more.yaml").write_text(more.replace("[forbidden]", "[grumpf]"))
    client = serve(policy=(str(policy), str(second)))
    assert [verdict(client, p) for p in ("forbidden", "grumpf", "mirl")] == ["block", "block", "allow"]
    (second / "more.yaml").write_text(more.replace("[forbidden]", "[mirl]"))
    for _ in range(1000):
        if verdict(client, "mirl") == "block":
            break
        time.sleep(0.01)
    assert [verdict(client, p) for p in ("forbidden", "grumpf", "mirl")] == ["block", "allow", "block"]


def test_workers_get_every_path_and_whether_there_is_a_floor(
    settings: Callable[..., Settings], policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(policy.parent)
    chosen = settings(policy=("shipped", policy.name), floor=False)
    for name, value in environment(chosen, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    got = load_settings().settings
    assert (got.policy, got.floor) == (("shipped", str(policy)), False)


def test_none_stands_alone(settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError, match="`policy`: `none` must be the only policy, got `shipped` beside it"):
        check(settings(policy=("shipped", "none"), port=free_port()))


def test_shipped_policies_that_do_not_fit_are_left_out_beside_others_too(
    settings: Callable[..., Settings], policy: Path
) -> None:
    found = served_paths(settings(policy=("shipped", str(policy))), {"lettering"})
    assert [p.stem for p in found] == ["floor", "rendered-text", "test"]


def test_only_one_folder_or_bundle_can_be_replaced_by_an_upload(policy: Path) -> None:
    folder = str(policy.parent)
    assert bundle_place((folder,)) == policy.parent
    for several in ((folder, str(policy)), (str(policy),), ("shipped",), ("none",)):
        assert bundle_place(several) is None
