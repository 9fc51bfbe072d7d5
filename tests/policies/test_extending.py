"""A predicate is added with one new file and one new line, and everything that policies offer knows it.

The test writes `prompt_longer_than` into a copy of the package and asks the copy, in a process of its own.
Mutations seen red: the line left out of the table; an `implies` that always answers False; a `Compound.judge` that
judges only the predicates that it knows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import policies

ROOM = Path(policies.__file__).parent

NEW_FILE = '''"""The predicate `prompt_longer_than`: the length of the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from policies.evidence import Evidence
from policies.judgement import FALSE, Judgement, Reason
from policies.predicates.condition import Lists, SingleCondition
from policies.predicates.predicate import Predicate, RuleScope
from policies.types import Stage


@dataclass(frozen=True, slots=True)
class LengthCheck(SingleCondition):
    """Whether the prompt has more than `most` characters."""

    most: int

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        length = len(evidence.request.prompt)
        return Judgement(True, (Reason(rule, "length", f"it has {length} letters"),)) if length > self.most else FALSE

    def triggers(self) -> None:
        return None

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset()

    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        return isinstance(other, LengthCheck) and self.most >= other.most


def _compile(most: int, scope: RuleScope) -> LengthCheck:
    return LengthCheck(most)


PREDICATE = Predicate("prompt_longer_than", Annotated[int, Field(ge=0)], _compile)
'''
TABLE = "predicates/when.py"
LAST_LINE, NEW_LINE = '    "picture",\n', '    "longer",\n'

POLICY = """schema: palimpsest.policy/v1
name: p
version: 1.0.0
owner: me@example.com
rules:
  - id: long
    why: because the test says so
    category: test
    when: {{{when}}}
    then: [{{do: block}}]
"""

QUESTIONS = """
import json, sys
from detectors.text import sense
from policies import Loader, PolicyError, Request, decide, diff, dump_policy, explain, json_schema
loader = Loader(sense)
alone, within, milder, stricter = (loader.load(path) for path in sys.argv[1:5])
short, long = Request("a red hill"), Request("a red hill, a river and a boat")
try:
    loader.load(sys.argv[5])
    refusal = ""
except PolicyError as error:
    refusal = str(error)
print(json.dumps({
    "decisions": [decide(r, sense(r), s).verdict for s in (alone, within) for r in (short, long)],
    "explain": explain(long, alone, sense)["reasons"],
    "milder": [[c.text, c.loosens] for c in diff(alone, milder)],
    "stricter": [[c.text, c.loosens] for c in diff(alone, stricter)],
    "dumped": dump_policy(alone.policies[0]),
    "schema": json_schema()["$defs"]["WhenModel"]["properties"].get("prompt_longer_than"),
    "refusal": refusal,
}))
"""


def test_a_predicate_is_one_new_file_and_one_new_line(tmp_path):
    copy = tmp_path / "root" / "policies"
    shutil.copytree(ROOM, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "predicates" / "longer.py").write_text(NEW_FILE, "utf-8")
    table = (copy / TABLE).read_text("utf-8")
    assert table.count(LAST_LINE) == 1
    (copy / TABLE).write_text(table.replace(LAST_LINE, LAST_LINE + NEW_LINE), "utf-8")
    assert changes(ROOM, copy) == {"predicates/longer.py": None, TABLE: [NEW_LINE]}

    whens = (
        "prompt_longer_than: 20",
        "all: [{prompt_longer_than: 20}, {none: [{tenant: {any_of: [acme]}}]}]",
        "prompt_longer_than: 25",
        "prompt_longer_than: 10",
        "prompt_longer_than: many",
    )
    files = [tmp_path / f"{i}.yaml" for i in range(len(whens))]
    for file, when in zip(files, whens, strict=True):
        file.write_text(POLICY.format(when=when), "utf-8")
    got = ask(tmp_path / "root", files)
    assert got["decisions"] == ["allow", "block"] * 2
    assert got["explain"] == [{"rule": "long", "predicate": "length", "text": "it has 30 letters"}]
    assert got["milder"] == [["`when` matches less than before", True]]
    assert got["stricter"] == [["`when` matches more than before", False]]
    assert "prompt_longer_than: 20" in got["dumped"]
    assert got["schema"] == {"minimum": 0, "type": "integer"}
    assert "rules[0].when.prompt_longer_than: must be a valid integer, got `'many'`" in got["refusal"]


def changes(old: Path, new: Path) -> dict[str, list[str] | None]:
    """What is different in `new`: files that are only there (None), and the lines that others have gained."""
    before, after = (
        {str(p.relative_to(f)): p for p in f.rglob("*.*") if "__pycache__" not in p.parts} for f in (old, new)
    )
    assert before.keys() <= after.keys()
    found: dict[str, list[str] | None] = dict.fromkeys(after.keys() - before.keys())
    for name, file in before.items():
        if file.read_bytes() != after[name].read_bytes():
            was, now = (p.read_text("utf-8").splitlines(keepends=True) for p in (file, after[name]))
            gained = list(now)
            for line in was:
                gained.remove(line)
            found[name] = gained
    return found


def _files(folder: Path) -> dict[str, Path]:
    return {str(p.relative_to(folder)): p for p in folder.rglob("*.*") if "__pycache__" not in p.parts}


def ask(root: Path, files: list[Path]) -> dict:
    """What the copy of the package under `root` answers; all else comes from here."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(ROOM.parent)))}
    command = [sys.executable, "-c", QUESTIONS, *map(str, files)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
