"""`palimpsest review` against the app in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from palimpsest.cli.main import app
from tests.service.reviews.test_reviews import BOTH, HELD, held


@pytest.fixture
def client(holding: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The service, which also answers what the command line asks."""
    client = holding()

    def request(method: str, url: str, *, timeout: float, **more: Any) -> Any:
        assert url.startswith("http://there:1/v1/")
        return client.request(method, url.removeprefix("http://there:1"), **more)

    monkeypatch.setattr(httpx, "request", request)
    return client


@pytest.fixture
def cli(client: Any) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["review", *arguments, "--at", "http://there:1/"])

    return run


def test_a_case_is_listed_shown_and_decided(cli: Callable[..., Result], client: Any, tmp_path: Path) -> None:
    assert "no case" in cli("list").stderr
    case_id, other = held(client, BOTH), held(client, HELD)
    listed = json.loads(cli("list", "--json").stdout)
    assert [row["id"] for row in listed["data"]] == [case_id, other]
    assert [row["id"] for row in json.loads(cli("list", "--json", "--queue", "news-desk").stdout)["data"]] == [other]
    page = cli("list", "--limit", "1")
    assert f"--after {case_id}" in page.stderr
    assert "news-desk" in cli("list", "--after", case_id).stdout

    shown = json.loads(cli("show", case_id, "--out", str(tmp_path / "out"), "--json").stdout)
    assert shown["prompt"] == BOTH
    assert [Path(file).name for file in shown["files"]] == [
        f"{case_id}-0-blurred.png",
        f"{case_id}-0-repaired-blurred.png",
    ]
    clear = json.loads(cli("show", case_id, "--out", str(tmp_path / "out"), "--clear", "--json").stdout)
    assert Path(clear["files"][0]).read_bytes() != Path(shown["files"][0]).read_bytes()
    assert "moron" in cli("show", case_id, "--out", str(tmp_path / "out")).stdout

    done = cli("decide", case_id, "release-repaired", "--reason", "it is repaired", "--tell")
    assert (done.exit_code, "released" in done.stderr) == (0, True)
    assert client.get(f"/v1/reviews/{case_id}").json()["reason"] == "it is repaired"
    late = cli("decide", case_id, "reject")
    assert (late.exit_code, "released already" in late.stderr) == (1, True)


def test_mistakes_are_one_line(cli: Callable[..., Result], client: Any) -> None:
    for arguments, said in (
        (("show", "review_0"), "there is no such case"),
        (("decide", held(client), "burn"), "decision"),
        (("list", "--state", "odd"), "must be one of"),
    ):
        done = cli(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
