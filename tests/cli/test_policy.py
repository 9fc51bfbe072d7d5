"""`palimpsest policy ...`: what each command prints and how it exits, with and without `--json`."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.policies.helpers import policy, rule

RUDE, KIND = 'a sign that says "grumpf"', 'a sign that says "hello"'
TESTS = f"\ntests:\n  - {{name: a, given: {{prompt: '{RUDE}'}}, expect: {{verdict: block, rules: [r]}}}}\n"
GOOD = policy(rule()) + TESTS


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from palimpsest.cli.main import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))

    def go(line: str, **options: Any) -> Any:
        return CliRunner().invoke(app, ["policy", *line.split()], **options)

    return go


@pytest.fixture
def desk(run: Any, tmp_path: Path) -> Path:
    """A folder with a policy, a key and a bundle."""
    (tmp_path / "house.yaml").write_text(GOOD)
    (tmp_path / "live").mkdir()
    assert run("keygen key").exit_code == 0
    assert run("sign house.yaml --key key --out house.bundle --sequence 8").exit_code == 0
    return tmp_path


def test_check_gives_hints_and_its_findings_their_codes(run: Any, desk: Path) -> None:
    done = run("check house.yaml")
    assert done.exit_code == 0
    assert "hint: house.yaml:7:5: rules[0].id: no test shows rule `r` leaving a harmless prompt alone" in done.stderr
    facts = json.loads(run("check house.yaml --json").stdout)
    assert (facts["valid"], facts["rules"], facts["floor"]) == (True, ["r", "sexualised-minor"], "added")
    assert [(h["file"], h["line"], h["column"], h["path"]) for h in facts["advice"]] == [
        ("house.yaml", 7, 5, "rules[0].id")
    ]
    assert run("check house.yaml --strict").exit_code == 1
    kind = f"  - {{name: b, given: {{prompt: '{KIND}'}}, expect: {{verdict: allow}}}}\n"
    (desk / "house.yaml").write_text(GOOD + kind)
    assert run("check house.yaml --strict").exit_code == 0
    (desk / "house.yaml").write_text(GOOD.replace("verdict: block", "verdict: allow"))
    done = run("check house.yaml --json")
    assert (done.exit_code, json.loads(done.stdout)["codes"]) == (1, ["tests"])
    assert run("test house.yaml").exit_code == 1


def test_explain_takes_a_tenant_and_a_time_and_counts_canaries_as_enforced(run: Any, desk: Path) -> None:
    spared = "{id: e, tenants: [acme], reason: r, approved_by: b, expires: 2027-01-01}"
    more = f"rollout: {{mode: canary, percent: 1}}\nexceptions: [{spared}]"
    (desk / "house.yaml").write_text(policy(rule(more=more)))
    (desk / "prompts").write_text(f'{RUDE}\n{json.dumps({"prompt": RUDE, "tenant": "acme"})}\n{{"no json\n')

    def told(options: str) -> list[Any]:
        done = run(f"explain --file prompts --policy house.yaml {options}")
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    first, second, third = told("--now 2026-12-01")
    assert (first["verdict"], second["verdict"], third["verdict"]) == ("block", "allow", "allow")
    assert (second["exempted"][0]["exception"], third["prompt"]) == ("e", '{"no json')
    assert [a["verdict"] for a in told("--now 2027-12-01 --tenant acme")] == ["block", "block", "allow"]
    (desk / "prompts").write_text('{"prompt": "x", "colour": "red"}\n')
    assert run("explain --file prompts --policy house.yaml").exit_code == 2


def test_diff_exits_with_one_when_something_is_loosened(run: Any, desk: Path) -> None:
    (desk / "stricter.yaml").write_text(GOOD.replace("[grumpf, blorch]", "[grumpf, blorch, mirl]"))
    done = run("diff house.yaml stricter.yaml")
    assert (done.exit_code, "`when` matches more than before" in done.stdout) == (0, True)
    done = run("diff stricter.yaml house.yaml --json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["loosens"], report["changes"][0]["loosens"]) == (1, True, True)
    assert "LOOSENS" in run("diff stricter.yaml house.yaml").stdout
    done = run("diff house.yaml house.yaml")
    assert (done.exit_code, done.stderr) == (0, "no change in meaning\n")
    assert run("diff shipped none --json").exit_code == 1


def test_replay_prints_the_matrix_and_exits_with_one_for_milder_verdicts(run: Any, desk: Path) -> None:
    (desk / "prompts").write_text(f"{RUDE}\n{KIND}\n")
    (desk / "milder.yaml").write_text(policy(rule(then="[{do: label, value: x}]")))
    done = run("replay house.yaml milder.yaml --file prompts")
    assert done.exit_code == 1
    assert re.search(r"block +│ 0 +│ 1 +│ 0", done.stdout), done.stdout
    assert "block -> label: a sign that says" in done.stdout
    report = json.loads(run("replay milder.yaml house.yaml --file - --json", input=f"{RUDE}\n{KIND}\n").stdout)
    moves = [{"old": "allow", "new": "allow", "prompts": 1}, {"old": "label", "new": "block", "prompts": 1}]
    assert (report["prompts"], report["milder"], report["transitions"]) == (2, 0, moves)
    assert report["changed"][0]["prompt"] == RUDE
    assert run("replay house.yaml none --file nowhere").exit_code == 2


def test_sign_signs_only_what_passes_its_tests_and_verify_names_what_is_wrong(run: Any, desk: Path) -> None:
    facts = json.loads(run("verify house.bundle --key key.pub --json").stdout)
    assert (facts["valid"], facts["bundle"], facts["sequence"], facts["rules"]) == (True, "house", 8, 2)
    assert run("check house.bundle --key key.pub").exit_code == 0
    assert json.loads(run(f"explain x --policy house.bundle --key {desk / 'key.pub'}").stdout)["verdict"] == "allow"
    for arguments, code in (("verify house.bundle", "unsigned"), ("verify house.bundle --key other.pub", "signature")):
        if not (desk / "other").exists():
            run("keygen other")
        done = run(f"{arguments} --json")
        assert (done.exit_code, json.loads(done.stdout)["codes"]) == (1, [code])
    assert run("sign house.yaml --key key --out host.bundle --host a-model").exit_code == 0
    done = run("verify host.bundle --key key.pub --host b-model")
    assert (done.exit_code, "made for `a-model`, and this is `b-model`" in done.stdout) == (1, True)
    assert "warning" in run("check house.bundle --no-verify").stderr
    (desk / "house.yaml").write_text(GOOD.replace("verdict: block", "verdict: allow"))
    assert run("sign house.yaml --key key --out bad.bundle").exit_code == 1
    assert not (desk / "bad.bundle").exists()
    for wrong in ("--key nowhere --out a.bundle", "--key key --out a.zip", "--key key --out a.bundle --expires soon"):
        assert run(f"sign house.yaml {wrong}").exit_code != 0
    assert run("keygen key").exit_code == 2, "a key is never overwritten"


def test_the_settings_name_the_trusted_keys(run: Any, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_POLICY_KEYS", f"{desk / 'key.pub'}")
    assert run("verify house.bundle").exit_code == 0
    assert run("check house.yaml").exit_code == 0, "whoever writes policies need not sign them to check them"
    monkeypatch.setenv("PALIMPSEST_POLICY_KEYS", "ed25519:nonsense")
    done = run("verify house.bundle")
    assert (done.exit_code, "32 bytes in base64" in done.stderr) == (2, True)


def test_push_puts_a_newer_bundle_into_a_folder_and_nothing_else(run: Any, desk: Path) -> None:
    push = "push house.bundle live --key key.pub"
    assert run(push).exit_code == 0
    first = (desk / "live" / "house.bundle").read_bytes()
    assert json.loads(run(f"{push} --json").stdout)["changed"] is False
    assert run("status live --key key.pub").exit_code == 0
    (desk / "house.yaml").write_text(GOOD.replace("blorch", "blorch, mirl"))
    assert run("sign house.yaml --key key --out house.bundle --sequence 7").exit_code == 0
    done = run(f"{push} --json")
    assert (done.exit_code, json.loads(done.stdout)["codes"]) == (1, ["replayed"])
    assert (desk / "live" / "house.bundle").read_bytes() == first
    assert run("sign house.yaml --key key --out house.bundle").exit_code == 0, "by default, the time is the number"
    assert run(push).exit_code == 0
    assert [p.name for p in (desk / "live").iterdir()] == ["house.bundle"], "nothing half-written is left"
    assert run("sign house.yaml --key key --out other.bundle --name other").exit_code == 0
    assert run("push other.bundle live --key key.pub").exit_code == 1
    assert run("push house.yaml live").exit_code == 2
    assert run("push house.bundle nowhere --key key.pub").exit_code == 2
    (desk / "live" / "house.bundle").write_bytes(first[:100])
    assert run("status live --key key.pub").exit_code == 1
    assert run(push).exit_code == 0, "what is no bundle any more is replaced"


def test_push_names_the_model_whose_policies_they_are(run: Any, desk: Path) -> None:
    asked: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404 if "other" in self.path else 202)
            self.end_headers()
            self.wfile.write(b'{"error": {"code": "model_not_found"}}' if "other" in self.path else b"{}")

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Service) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        push = f"push house.bundle http://127.0.0.1:{service.server_port} --key key.pub --json"
        assert json.loads(run(f"{push} --model a&b").stdout)["model"] == "a&b"
        assert "model" not in json.loads(run(push).stdout)
        unknown = run(f"{push} --model other")
        assert (unknown.exit_code, "model_not_found" in unknown.stdout) == (1, True), "not that it takes no policies"
        service.shutdown()
    assert asked == ["/v1/policies?model=a%26b", "/v1/policies", "/v1/policies?model=other"]
    assert run("push house.bundle live --key key.pub --model a").exit_code == 2, "a folder belongs to one model"


def test_status_and_push_need_a_service_that_answers(run: Any, desk: Path) -> None:
    for command in ("status http://127.0.0.1:9", "push house.bundle http://127.0.0.1:9 --key key.pub"):
        done = run(command)
        assert (done.exit_code, "does not answer" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["keygen", ""], "a key needs the name of a file, got `.`"),
        (["check", ""], "got an empty name"),
        (["explain", "a moon", "--policy", ""], "got an empty name"),
        (["diff", "shipped", " "], "got an empty name"),
        (["check", "shiped"], "got `shiped`, which does not exist; did you mean `shipped`?"),
        (["check", "nope.yaml"], "got `nope.yaml`, which does not exist\n"),
        (["replay", "shipped", "none", "--file", "empty"], "`empty` holds no prompt"),
    ],
)
def test_a_name_that_says_nothing_is_one_line(run: Any, tmp_path: Path, command: list[str], said: str) -> None:
    from palimpsest.cli.main import app

    (tmp_path / "empty").write_text("\n")
    done = CliRunner().invoke(app, ["policy", *command])
    assert (done.exit_code, done.stderr.count("\n"), said in done.stderr) == (2, 1, True), done.stderr


def test_status_shows_file_and_line_of_a_problem() -> None:
    from palimpsest.cli.bundles import _rows

    there = {"file": "house.yaml", "line": 7, "column": 5, "path": "rules[0]", "message": "is wrong", "code": "invalid"}
    whole = {**there, "file": "", "line": 0, "column": 0}
    (row,) = _rows({"worker": 1, "state": "ready", "policy": {"problems": [there, whole]}})
    assert row["problems"] == "house.yaml:7:5: is wrong; is wrong"


def test_every_command_takes_json_and_help(run: Any) -> None:
    names = "check test explain diff replay schema keygen sign verify push status"
    for command in names.split(" "):
        done = run(f"{command} --help")
        assert done.exit_code == 0
        assert "--json" in done.output


def test_several_policies_are_joined_with_the_floor_unless_it_is_turned_off(run: Any, desk: Path) -> None:
    (desk / "more.yaml").write_text(policy(rule("s", when="{prompt: {any_of: [mirl]}}"), name="more"))
    forbidden = "an erotic photo of a schoolgirl"

    def told(prompt: str, *options: str) -> str:
        (desk / "prompt").write_text(f"{prompt}\n")
        done = run(" ".join(("explain --file prompt --policy house.yaml --policy more.yaml", *options)))
        return str(json.loads(done.stdout)["verdict"])

    assert [told(p) for p in (RUDE, "mirl", KIND, forbidden)] == ["block", "block", "allow", "block"]
    assert told(forbidden, "--no-floor") == "allow"
    facts = json.loads(run("check house.yaml more.yaml --json").stdout)
    assert facts["rules"] == ["r", "s", "sexualised-minor"]
    assert json.loads(run("check house.yaml --no-floor --json").stdout)["floor"] == "none"
    assert json.loads(run("test house.yaml more.yaml --json").stdout)["tests"] == 1
    (desk / "more.yaml").write_text(policy(rule("s")))
    done = run("check house.yaml more.yaml")
    assert (done.exit_code, "policy `p` is also in house.yaml" in done.stdout) == (1, True)
    assert run("check house.yaml none").exit_code == 2
