"""Links lead somewhere, files and commands that pages name exist, and the site's index has every page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT, blocks_of, page_id


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    return {re.sub(r"[^a-z0-9 _-]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_and_named_files_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for link in (a or b for a, b in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target), link
    rooms = "evaluation|tests|reference|policies|steering|deploy|docs|examples|localization|service|detectors"
    named = set(re.findall(rf"`((?:{rooms})/[\w/.-]+\.\w+)`", text))
    if page.name != "moved.md":
        assert not {file for file in named if not (ROOT / file).exists()}


def test_every_command_that_is_named_exists() -> None:
    from click.testing import CliRunner
    from typer.main import get_command

    from palimpsest.cli.main import app

    command = get_command(app)  # typer's own runner builds all commands for each call
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page.name not in ("CHANGES.md", "moved.md"))
    named = {tuple(n.split()) for n in re.findall(r"[`\n]palimpsest ((?:[a-z-]+ ?){1,2})", text)}
    groups = {"policy", "keys", "pack", "audit", "evaluate", "reference"}
    asked = {n[:2] if n[0] in groups else n[:1] for n in named}
    assert len(asked) > 20
    for words in sorted(asked):
        result = CliRunner().invoke(command, [*words, "--help"])
        assert result.exit_code == 0, words


def test_every_target_of_make_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M))
    assert {"serve", "test", "docs"} <= named
    assert named <= targets, sorted(named - targets)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [(["3.11"], "3.11"), (["3.12"], "3.12"), (["3.11", "3.13", "3.14"], "3.13"), (["broken 3.13", "3.12"], "3.12")],
)
def test_make_takes_the_newest_python_that_fits_and_runs(there: list[str], chosen: str, tmp_path: Path) -> None:
    for name in there:
        command = tmp_path / f"python{name.removeprefix('broken ')}"
        says = "exit 127" if name.startswith("broken") else f"echo python{name}"
        command.write_text(f"#!/bin/sh\n{says}\n")
        command.chmod(0o755)
    (tmp_path / "sh").symlink_to("/bin/sh")
    make = shutil.which("make")
    assert make is not None
    asked = [make, "-n", "-f", str(ROOT / "Makefile"), "install", f"VENV={tmp_path / 'new'}"]
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    said = subprocess.run(asked, cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert f"python{chosen} -m venv" in said.stdout


def test_the_site_has_every_page() -> None:
    listed = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8").split("nav:")[1])
    assert len(listed) == len(set(listed))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= set(listed)
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert settings["theme"]["font"] is False, "fonts would be loaded from elsewhere"


def test_readme_stays_a_page() -> None:
    readme = ROOT / "README.md"
    assert readme.read_text("utf-8").count("\n") <= 150
    assert [b.language for b in blocks_of(readme)] == ["sh", "sh", "json"]
