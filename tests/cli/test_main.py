"""The command line: what it prints, how it exits, and that its help is quick."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
TOXIC = 'a red star with a sign that says "idiot"'


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs a command in this process."""
    from palimpsest.cli.main import app

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    # the process is shared with tests that compare pixels, which depend on the number of threads
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")

    def run(*arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(app, [str(a) for a in arguments], **options)

    return run


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "from palimpsest.__main__ import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, "--help"], env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert "serve" in done.stdout
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5


def test_it_tells_its_version(cli: Callable[..., Any]) -> None:
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = cli("--version")
    assert (done.exit_code, done.stdout) == (0, f"palimpsest {wanted}\n")


def test_every_command_has_help(cli: Callable[..., Any]) -> None:
    for command in (
        ["serve"],
        ["generate"],
        ["config"],
        ["policy", "check"],
        ["policy", "test"],
        ["policy", "explain"],
        ["policy", "schema"],
        ["pack", "show"],
        ["audit", "verify"],
    ):
        done = cli(*command, "--help")
        assert done.exit_code == 0, command
        assert "Usage" in done.output


def test_an_unknown_command_or_option_is_a_mistake_of_usage(cli: Callable[..., Any]) -> None:
    assert cli("serv").exit_code == 2
    assert cli("serve", "--prot", "1").exit_code == 2


def test_config_shows_values_with_sources_and_no_secrets(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_API_KEYS", "open-sesame")
    monkeypatch.setenv("PALIMPSEST_PORT", "3005")
    rows = {row["name"]: row for row in json.loads(cli("config", "--json").stdout)}
    assert (rows["port"]["value"], rows["port"]["source"]) == (3005, "environment")
    assert rows["host"]["source"] == "default"
    assert "sesame" not in cli("config", "--json").stdout + cli("config").stdout


def test_a_bad_setting_is_told_in_one_line(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_PORT", "many")
    done = cli("config")
    assert done.exit_code == 2
    assert "`port` (from environment)" in done.stderr
    assert "Traceback" not in done.output


def test_shipped_policies_are_valid_and_pass_their_tests(cli: Callable[..., Any]) -> None:
    assert cli("policy", "check").exit_code == 0
    done = cli("policy", "test", "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["failed"]) == (0, 0)
    assert report["tests"] > 0


def test_check_finds_what_is_wrong_and_where(cli: Callable[..., Any], policy: Path) -> None:
    policy.write_text(policy.read_text().replace("do: block", "do: blok"))
    done = cli("policy", "check", policy)
    assert done.exit_code == 1
    assert "test.yaml:" in done.stdout
    report = json.loads(cli("policy", "check", policy, "--json").stdout)
    assert report["valid"] is False
    assert report["problems"][0]["line"] > 0


def test_test_shows_which_test_failed(cli: Callable[..., Any], policy: Path) -> None:
    policy.write_text(
        policy.read_text()
        + "tests:\n  - name: stars are refused\n    given: {prompt: a star}\n    expect: {verdict: block}\n"
        + f"  - name: insults are steered\n    given: {{prompt: '{TOXIC}'}}\n    expect: {{verdict: steer}}\n"
    )
    done = cli("policy", "test", policy, "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["tests"], report["failed"]) == (1, 2, 1)
    assert [r["passed"] for r in report["results"]] == [False, True]


def test_explain_prints_one_json_line_a_prompt(cli: Callable[..., Any], policy: Path, tmp_path: Path) -> None:
    done = cli("policy", "explain", TOXIC, "--policy", policy)
    (line,) = done.stdout.splitlines()
    got = json.loads(line)
    names = {"prompt", "verdict", "rules", "actions", "reasons", "reads", "shadow", "errors", "policy"}
    assert set(got) == names
    assert (got["prompt"], got["verdict"], got["rules"]) == (TOXIC, "steer", ["toxic-lettering"])
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{TOXIC}\n\na red star\nsomething forbidden\n")
    done = cli("policy", "explain", "--file", prompts, "--policy", policy)
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["steer", "allow", "block"]
    done = cli("policy", "explain", "--file", "-", "--policy", policy, input="a red star\n")
    assert json.loads(done.stdout)["verdict"] == "allow"


def test_a_keys_file_that_is_not_there_is_told(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("keys", "list", "--file", tmp_path / "nope.json")
    assert (done.exit_code, f"no keys file `{tmp_path / 'nope.json'}`" in done.stderr) == (2, True)
    made = cli("keys", "new", "studio", "--file", tmp_path / "keys.json")
    assert (made.exit_code, made.stdout.startswith("pk_")) == (0, True)
    assert "studio" in cli("keys", "list", "--file", tmp_path / "keys.json").stdout


def test_explain_needs_a_prompt_or_a_file(cli: Callable[..., Any]) -> None:
    assert cli("policy", "explain").exit_code == 2
    assert cli("policy", "explain", "--file", "/no/such").exit_code == 2
    assert cli("policy", "explain", "x", "--policy", "/no/such").exit_code == 2


def test_schema_is_a_json_schema(cli: Callable[..., Any]) -> None:
    assert json.loads(cli("policy", "schema").stdout)["type"] == "object"


def test_generate_compares_plain_and_steered_pictures(
    cli: Callable[..., Any], model: Path, packs: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setenv("PALIMPSEST_PACKS", str(packs))
    arguments = ["generate", TOXIC, "a red star", "--model", model, "--policy", policy, "--seed", "4", "--compare"]
    done = cli(*arguments, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    steered, plain = json.loads(done.stdout)
    assert (steered["verdict"], steered["rules"], plain["verdict"]) == ("steer", ["toxic-lettering"], "allow")
    assert set(steered["files"]) == {"plain", "steered", "difference", "compare"}
    difference = Image.open(plain["files"]["difference"]).convert("L")
    assert difference.getextrema() == (0, 0), "an allowed prompt is untouched"
    assert Image.open(steered["files"]["difference"]).convert("L").getextrema()[1] > 0
    assert [(row["how"], row["sites"]) for row in (steered, plain)] == [("steered", 2), ("untouched", 0)]
    sheet, row = Image.open(tmp_path / "out" / "compare.png"), Image.open(plain["files"]["compare"])
    assert (sheet.width, sheet.height > row.height > 256) == (row.width, True)
    monkeypatch.setenv("COLUMNS", "80")
    done = cli(*arguments[:3], "something forbidden", *arguments[3:], "--out", tmp_path / "out")
    assert f"wrote {tmp_path / 'out' / 'compare.png'}" in done.stderr
    assert "001-seed4-*" in done.stdout
    assert len(done.stdout.splitlines()) < 24, "names of files once, not over many lines"
    shown = " ".join(done.stdout.split())
    assert "steered at 2" in shown
    assert "untouched" in shown
    done = cli("generate", "something forbidden", *arguments[3:], "--out", tmp_path / "out", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["refused"] == "prompt"


def test_generate_refuses_a_size_that_the_model_does_not_offer(
    cli: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("generate", "x", "--model", model, "--policy", "none", "--size", "7x7", "--out", tmp_path)
    assert done.exit_code == 2
    assert "unknown size" in done.stderr


@pytest.mark.parametrize("command", [["generate", "a red star"], ["evaluate", "curve", "--pack", "none"]])
def test_a_model_folder_that_cannot_be_loaded_is_a_mistake_of_usage_in_one_line(
    cli: Callable[..., Any], model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, command: list[str]
) -> None:
    import shutil

    folder = Path(shutil.copytree(model, tmp_path / "torn"))
    weights = next((folder / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    done = cli(*command, "--model", folder)
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"`{folder / 'transformer' / weights.name}` must have" in line
    assert "cannot start" not in caplog.text, "it was told once"
    assert "Traceback" not in done.output


def test_a_pack_can_be_shown(
    cli: Callable[..., Any], model: Path, packs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    facts = json.loads(cli("pack", "show", packs / "lettering.safetensors", "--model", model, "--json").stdout)
    assert (facts["concept"], len(facts["sites"]), facts["of"]) == ("lettering", 2, 4)
    monkeypatch.setenv("COLUMNS", "80")
    done = cli("pack", "show", packs / "lettering.safetensors", "--model", model)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert ["sites", "2", "of", "4"] in [line.split()[:4] for line in lines]
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert [row[1] for row in rows if row[2] == "1"] == facts["sites"]
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    assert "evidence" not in done.stdout
    full = cli("pack", "show", packs / "lettering.safetensors", "--model", model, "--full").stdout
    assert full.startswith(done.stdout)
    assert set(yaml.safe_load(full[len(done.stdout) :])) == set(facts)
    assert cli("pack", "show", packs / "none.safetensors", "--model", model).exit_code == 2


def test_audit_verify_tells_an_intact_log_from_a_changed_one(cli: Callable[..., Any], tmp_path: Path) -> None:
    from service.audit import AuditLog, load_keys

    state = tmp_path / "state"
    log = AuditLog(state / "audit", load_keys(state))
    log.append({"event": "decision", "verdict": "block"})
    log.close()
    assert cli("audit", "verify").exit_code == 0
    log.path.write_text(log.path.read_text().replace("block", "allow"))
    done = cli("audit", "verify", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["findings"][0]["line"] == 2
    assert cli("audit", "verify", tmp_path / "nowhere").exit_code == 2


def test_audit_commands_take_the_key_beside_the_folder_and_find_what_a_prompt_led_to(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    from service.audit import AuditLog, load_keys

    load_keys(tmp_path / "state")  # another key, of the state folder
    keys = load_keys(tmp_path / "elsewhere")
    log = AuditLog(tmp_path / "elsewhere" / "audit", keys)
    person = {"tenant": "studio", "safety_identifier": keys.identified("studio", "ada")}
    log.append({"event": "decision", "decision_id": "abc", "prompt": keys.hashed("a secret wish"), **person})
    log.close()
    assert cli("audit", "verify", log.path.parent).exit_code == 0
    for asked in (("--decision", "abc"), ("--prompt", "a secret wish"), ("--identifier", "ada")):
        done = cli("audit", "find", log.path.parent, *asked)
        assert (done.exit_code, json.loads(done.stdout)["decision_id"]) == (0, "abc")
    assert cli("audit", "find", log.path.parent, "--prompt", "another").exit_code == 1
    assert cli("audit", "find", log.path.parent, "--identifier", "a secret wish").exit_code == 1
    assert cli("audit", "find", log.path.parent, "--identifier", "ada", "--decision", "abc").exit_code == 2
    assert cli("audit", "find", log.path.parent).exit_code == 2
