"""`palimpsest localize` and `pack` from the shell: a pack and its page, a run from what was kept, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.tiny import save_pixart

GROUNDS = ("red", "green", "blue", "pink", "gray", "black")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pixart(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    lines = [{"prompt": f"a zebra on {g}", "donor": f"an animal on {g}"} for g in GROUNDS]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs a command in this process."""
    from palimpsest.cli.main import app

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")

    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run


def test_a_pack_a_page_and_a_second_run_from_what_was_kept(
    cli: Callable[..., Any], model: Path, prompts: Path, tmp_path: Path
) -> None:
    """`animal/zebra` is no concept of the town, so nobody looks at pictures and the file says what is asked."""
    out = tmp_path / "one.safetensors"
    asked = ["localize", "--concept", "animal/zebra", "--phrase", "zebra", "--neutral", "an animal", "--model", model]
    asked += ["--prompts", prompts, "--count", 2, "--check", 2, "--json"]
    done = cli(*asked, "--out", out)
    assert done.exit_code in (0, 1), done.stderr
    told = json.loads(done.stdout)
    assert told["answer"] in ("set", "alternatives", "no compact set")
    assert done.exit_code == (1 if told["answer"] == "no compact set" else 0)
    assert out.with_suffix(".html").read_text("utf-8").startswith("<!doctype html>")
    again = cli(*asked, "--out", tmp_path / "two.safetensors")
    assert "measurements reused from an earlier run, 0 are new" in again.stderr
    assert (tmp_path / "two.safetensors").read_bytes() == out.read_bytes()
    same = cli("pack", "diff", out, tmp_path / "two.safetensors")
    assert (same.exit_code, "do not differ" in same.stderr) == (0, True)
    other = cli(*asked, "--out", tmp_path / "three.safetensors", "--method", "patching", "--target", 0.5)
    assert other.exit_code in (0, 1)
    differ = cli("pack", "diff", out, tmp_path / "three.safetensors", "--json")
    assert differ.exit_code == 1
    assert "evidence: method" in [row["what"] for row in json.loads(differ.stdout)]
    checked = cli("pack", "verify", out, "--model", model, "--prompts", prompts, "--count", 2, "--json")
    assert checked.exit_code in (0, 1)
    assert json.loads(checked.stdout)["n"] == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--concept", "animal/zebra"], "needs --neutral"),
        (["--concept", "animal/zebra", "--neutral", "x", "--prompts", "{none}"], "No such file"),
        (["--concept", "animal/cow", "--phrase", "cow", "--prompts", "{prompts}"], "must name `cow`"),
        (
            ["--concept", "animal/zebra", "--phrase", "zebra", "--prompts", "{prompts}", "--confirm", "sd3-x"],
            "those that",
        ),
    ],
)
def test_mistakes_are_said_in_one_line(
    cli: Callable[..., Any], model: Path, prompts: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    given = [a.format(none=tmp_path / "none.jsonl", prompts=prompts) for a in more]
    done = cli("localize", *given, "--model", model, "--out", tmp_path / "x.safetensors", "--count", 2, "--check", 2)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.safetensors").exists()


def test_the_town_brings_prompts_of_two_kinds() -> None:
    """Those to search with and those to check on share no prompt; phrases and stand-ins are its own."""
    from palimpsest.cli.shared.contrasts import contrast_sets, held_out_contrasts

    for concept in ("animal/cat", "place/beach", "style/venka", "person/ada-brook", "harm/gun", "lettering"):
        sets = contrast_sets(concept, town=True, count=4, check=4)
        assert (len(sets.search), len(sets.check), len(sets.controls)) == (4, 4, 4)
        assert not {c.prompt for c in sets.search} & {c.prompt for c in sets.check}
        assert not {c.prompt for c in (*sets.search, *sets.check)} & {
            c.prompt for c in held_out_contrasts(concept, 4, town=True)
        }
        for c in (*sets.search, *sets.check):
            assert any(p in c.prompt for p in sets.aim.phrases) or concept == "lettering"
            assert not any(p in c.donor for p in sets.aim.phrases)
    assert contrast_sets("style/venka", town=True).aim.neutral == ""
    assert contrast_sets("animal/cat", town=True).aim.neutral == "an animal"
    own = contrast_sets("animal/cat", town=True, neutral="a rabbit")
    again = held_out_contrasts("animal/cat", 4, town=True, neutral="a rabbit")
    assert all(c.donor == c.prompt.replace("a cat", "a rabbit") != c.prompt for c in (*own.search, *own.check, *again))
    with pytest.raises(ValueError, match="--neutral must be left out for `lettering`"):
        contrast_sets("lettering", town=True, neutral="a word")
    assert contrast_sets("character/pip", town=False, neutral="a gray circle").aim.phrases == ("pip",)
