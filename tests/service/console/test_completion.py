"""What may be written where the cursor stands: `|` marks the place."""

from __future__ import annotations

import pytest

from policies import json_schema
from service.console.completion import path_at, suggestions


def at(marked: str) -> tuple[str, int, int]:
    before = marked.partition("|")[0].split("\n")
    return marked.replace("|", "", 1), len(before), len(before[-1]) + 1


@pytest.mark.parametrize(
    ("text", "path", "field"),
    [
        ("|", (), None),
        ("name: |", (), "name"),
        ("rules:\n  - id: a\n    |", ("rules", "[]"), None),
        ("rules:\n- id: a\n  |", ("rules", "[]"), None),
        ("rules:\n  - id: a\n    when: {prompt: {|", ("rules", "[]", "when", "prompt"), None),
        (
            "rules:\n  - id: a\n    when: {prompt: {any_of: [a, |",
            ("rules", "[]", "when", "prompt", "any_of", "[]"),
            None,
        ),
        ("rules:\n  - id: a\n    when: {prompt: {any_of: [a]}}\n    on_error: |", ("rules", "[]"), "on_error"),
        ("rules:\n  - id: a\n    then:\n      - do: steer\n        |", ("rules", "[]", "then", "[]"), None),
        ("rules:\n  - id: a\n    then: [{do: |", ("rules", "[]", "then", "[]"), "do"),
        ("rules:\n  - id: a\nlists:\n  |", ("lists",), None),
    ],
)
def test_the_path_of_a_place_is_read_from_indentation_and_brackets(
    text: str, path: tuple[str, ...], field: str | None
) -> None:
    assert path_at(*at(text)) == (path, field)


def test_fields_and_values_come_from_the_schema() -> None:
    schema = json_schema()

    def names(text: str) -> set[str]:
        return {each.text for each in suggestions(schema, *at(text))}

    assert {"schema", "name", "rules", "lists", "tests"} <= names("|")
    assert {"id", "when", "then", "on_error"} <= names("rules:\n  - id: a\n    |")
    assert {"prompt", "lettering", "all"} <= names("rules:\n  - id: a\n    when:\n      |")
    assert {"concept", "toward", "read"} <= names("rules:\n  - id: a\n    then:\n      - do: steer\n        |")
    assert "block" in names("rules:\n  - id: a\n    on_error: |")
    assert {"steer", "block", "label"} <= names("rules:\n  - id: a\n    then: [{do: |")
    assert names("nothing:\n  |") == set()
