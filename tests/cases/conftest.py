"""What the reported cases are run on, each loaded once, and the line that says how many of them pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cases.cases import CASES
from tests.running import Server, serving
from tests.tiny import save_pixart


@pytest.fixture(scope="session")
def explained() -> Callable[..., Any]:
    """The decision of the shipped policies on a prompt, as `palimpsest policy explain` makes it."""
    from policies import SHIPPED, Loader, Request, decide
    from service.reading.detectors import build_detection
    from service.settings import Settings

    detection = build_detection(Settings())
    snapshot = Loader(detection.sense, reads=detection.reads, canary_key=b"tests").load(SHIPPED)

    def decided(prompt: str, negative: str = "") -> Any:
        request = Request(prompt, negative)
        return decide(request, detection.sense(request), snapshot)

    return decided


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What the embedded model under the shipped policies answers to the cases that are about pictures, by their id."""
    from palimpsest.cli.shared.in_process import local_service
    from service.settings import load_settings

    asked = [case for case in CASES if case["kind"] in ("picture", "sign")]
    options = {"state": str(tmp_path_factory.mktemp("state")), "threads": 1}
    with local_service(load_settings(options).settings) as service:
        found = service.answer([case["prompt"] for case in asked], [3] * len(asked), together=8)
    return {case["id"]: answer for case, answer in zip(asked, found, strict=True)}


@pytest.fixture(scope="session")
def judges() -> Any:
    from evaluation import Judges

    return Judges.load()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with a tiny model and no policy."""
    folder = tmp_path_factory.mktemp("cases")
    with serving(folder / "server", model=str(save_pixart(folder / "tiny")), policy="none") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder of one's own, to be damaged."""
    return save_pixart(tmp_path / "tiny")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    ours = "test_reports.py::test_a_reported_case["
    counts = {
        outcome: sum(ours in report.nodeid for report in terminalreporter.stats.get(outcome, ()))
        for outcome in ("passed", "failed")
    }
    if total := sum(counts.values()):
        terminalreporter.write_line(f"reported cases: {counts['passed']} of {total} pass")
