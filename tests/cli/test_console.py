"""Nothing that a prompt, a policy or a file name holds steers the terminal of whoever looks at it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import palimpsest
from palimpsest.cli.main import app
from palimpsest.cli.shared.console import emit, keep, plain, say, table

BAD = "a red\x1b[31m star\x9b2J \x07\r\u202e\udc9b\U000e0041"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff\U000e0041]")


def test_what_steers_a_terminal_is_written_out_and_all_else_stays() -> None:
    assert not RAW.search(plain(BAD))
    assert plain("\x1b[0m") == "\\u001b[0m"
    for text in ("Łukasz, 漢字, ✓ 🎈", "two\nlines\tand a tab"):
        assert plain(text) == text


def test_no_way_of_telling_something_is_raw(capsys: pytest.CaptureFixture[str]) -> None:
    say(BAD)
    emit(BAD)
    table(BAD, [{"prompt": BAD}])
    told = capsys.readouterr()
    shown = re.sub("\x1b\\[[0-9;]*m", "", told.out)  # of rich
    assert not RAW.search(told.err)
    assert not RAW.search(shown)


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    keep({"prompt": BAD, "name": "Łukasz"}, None, json_=True)
    out = capsys.readouterr().out
    assert not RAW.search(out)
    assert (json.loads(out)["prompt"], json.loads(out)["name"]) == (BAD, "Łukasz")


def test_commands_say_things_by_these_functions_only() -> None:
    """`print` is for JSON, whose default has ASCII only, and for a new key."""
    folder = Path(palimpsest.__file__).parent / "cli"
    for file in folder.rglob("*.py"):
        for call in re.findall(r"\bprint\((.*)|\btyper\.echo\((.*)", file.read_text("utf-8")):
            said = "".join(call).strip()
            allowed = said.startswith(("json.dumps(", "drawn, ", "key)", "plain(", 'f"error: {plain(')) or said == ""
            assert allowed, f"{file.name}: {said}"
            assert "ensure_ascii=False" not in said


def test_a_policy_and_a_prompt_with_escapes_are_shown_without(tmp_path: Path) -> None:
    def cli(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    file = tmp_path / "x\x1b[31m.yaml"
    file.write_text("schema: nothing\n")
    for done in (cli("policy", "check", file), cli("policy", "explain", BAD.replace("\udc9b", ""))):
        assert not RAW.search(re.sub("\x1b\\[[0-9;]*m(?!\\.yaml)", "", done.output)), done.output
