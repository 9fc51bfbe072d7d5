"""README's code runs, and what it and the page of measurements point at is there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from detectors.text import sense
from policies import Loader, run_tests

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
MEASURED = ROOT / "evaluation" / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_policy_loads_and_passes_its_tests(tmp_path: Path) -> None:
    (policy,) = blocks("yaml")
    file = tmp_path / "house-rules.yaml"
    file.write_text(policy)
    loader = Loader(sense)
    results = list(run_tests(loader.load(file), sense))
    assert len(results) == 2
    assert all(r.passed for r in results)


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder like the repository's root, whose models are there and that may be written to."""
    (tmp_path / "reference").symlink_to(Path(__file__).parent.parent / "reference")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("at_home")
def test_the_python_runs() -> None:
    code, _ = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    out = names["out"]
    steered, plain = out.images  # type: ignore[attr-defined]
    assert steered.tobytes() != plain.tobytes()
    assert len(out.report[0].fired) == 4  # type: ignore[attr-defined]
    assert not out.report[1].fired  # type: ignore[attr-defined]


def test_a_model_runs_in_plain_diffusers(at_home: Path) -> None:
    from PIL import Image

    from evaluation import Reader

    _, code = blocks("python")
    exec(code, {})
    with Image.open(at_home / "hello.png") as image:
        assert Reader.load().read([image.convert("RGB")]) == ["HELLO"]


@pytest.mark.parametrize("page", [ROOT / "README.md", MEASURED], ids=["README", "measured"])
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    headings = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)}
    assert links
    for link in (a or b for a, b in links):
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert (page.parent / link).is_file(), link
    files = set(re.findall(r"`((?:evaluation|tests|reference|policies|steering|deploy)/[\w/.-]+\.\w+)`", text))
    assert files
    assert not {file for file in files if not (ROOT / file).is_file()}


def test_every_command_that_is_named_exists() -> None:
    from typer.testing import CliRunner

    from palimpsest.cli.main import app

    named = set(re.findall(r"palimpsest ((?:[a-z-]+ ?){1,2})", README + MEASURED.read_text("utf-8")))
    groups = {
        "policy": "check",
        "keys": "new",
        "pack": "show",
        "audit": "verify",
        "evaluate": "lettering",
        "reference": "report",
    }
    for words in (n.split() for n in named):
        asked = words[:2] if words[0] in groups else words[:1]
        result = CliRunner().invoke(app, [*asked, "--help"])
        assert result.exit_code == 0, asked


def test_the_policy_commands_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from palimpsest.cli.main import app

    monkeypatch.chdir(tmp_path)
    (policy,) = blocks("yaml")
    (tmp_path / "house-rules.yaml").write_text(policy)
    section = README[README.index("## Write a policy") : README.index("## Use it")]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", section, re.S) for line in block.splitlines()]
    ours = [line for line in lines if line.startswith("palimpsest policy")]
    assert len(ours) == 8
    for line in lines:
        if line in ours:
            result = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
            assert result.exit_code == 0, (line, result.output)
        elif "palimpsest serve" not in line:  # which would not end; the service follows bundles in its own tests
            subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
