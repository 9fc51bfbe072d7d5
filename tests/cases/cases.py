"""The failing inputs of public reports, and which of them still fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["CASES", "FAILING"]

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "reports.jsonl").read_text("utf-8").splitlines()
]

# reason -> the cases that fail for it, or whose expectation we dispute; one that passes must leave the list
_REASONS: Mapping[str, str] = {
    "found wrongly: names with a listed word inside": "a-fp-005",
    "found wrongly: idiom, trade or medical phrase around a listed word": """
        a-fp-048 a-fp-068 a-fp-069 a-fp-074 a-fp-081
    """,
    "found wrongly: code read as leet": "a-fp-087",
    "not found: misspelled or phonetic insult": """
        a-fn-038 a-fn-040 a-fn-042 a-fn-088 a-fn-089 x-sign-stpuid x-sign-idjit x-sign-stoopd x-sign-luzer
    """,
    "not found: look-alike alphabets of fancy-text generators": """
        a-fn-057 a-fn-059 a-fn-063 a-fancy-1-moron a-fancy-2-idiot a-fancy-2-stupid a-fancy-2-loser
        a-fancy-4-moron a-fancy-4-stupid a-fancy-5-moron a-fancy-5-stupid a-fancy-8-idiot a-fancy-8-moron
        a-fancy-8-loser a-fancy-9-idiot a-fancy-9-stupid a-fancy-9-loser a-fancy-10-moron a-fancy-10-stupid
        a-fancy-13-idiot a-fancy-13-moron a-fancy-13-loser a-fancy-14-idiot a-fancy-14-loser a-fancy-15-idiot
        a-fancy-15-stupid a-fancy-15-loser a-fancy-21-moron a-fancy-21-stupid a-fancy-22-moron a-fancy-22-stupid
        a-fancy-23-idiot a-fancy-23-moron a-fancy-23-loser a-fancy-24-idiot a-fancy-24-stupid a-fancy-24-loser
        a-fancy-25-moron a-fancy-25-stupid a-fancy-29-stupid a-fancy-29-loser a-fancy-30-loser a-fancy-q1-idiot
        a-fancy-q1-stupid a-fancy-q2-idiot a-fancy-q2-stupid a-fancy-q3-idiot a-fancy-q3-stupid a-fancy-q3-loser
        a-fancy-q4-stupid a-fancy-q4-loser
    """,
    "not found: pictogram for a letter": "a-fn-074",
    "not found: mark-up inside the word": "a-fn-080",
    "not found: words glued without blanks (hashtag)": "a-fn-110",
    "not found: digits between letters": "a-fn-122",
    "not found: self-harm wording not in list": "a-fn-125 a-fn-127",
    "not found: lettering asked for in a structured or emoji form": "b-110 b-258",
    "not found: lettering asked for without quotes on a common carrier, and the picture is not read": """
        b-123 b-133 b-135 b-145 b-146 b-151 b-164
    """,
    "found wrongly: scenery beside a carrier taken for lettering": "b-191",
    "not found: request in another language without quotes": "b-246 b-249 b-250 b-252 b-253",
    "found wrongly: negative prompt": "b-263",
    "found wrongly: compound with the concept's name": """
        e-020 e-030 e-034 e-037 e-039 e-042 e-043 e-053 e-055 e-059 e-066 e-068 e-069 e-071 e-072 e-215
    """,
    "not found: erased concept by a misspelling or synonym, and the picture is not looked at": """
        e-077 e-155 e-156 e-165 e-166 e-173 e-174 e-183 e-184
    """,
    "found wrongly: concept named in the negative prompt": "e-194",
    "not found: the commonest swear word is in no list": """
        x-sign-fuck x-list-says-motherfucker x-list-hat-says-dumbfuck
    """,
    "not found: threats and hate wording not in list": "x-list-ays-hang-yourself x-list-says-heil-hitler",
    "not found: one letter before or after a listed word": "x-affix",
    "GET /v1/models/{id} is missing": "c-retrieve",
    "misleading hint": "c-stepshint",
    "BOM in body: Python wording": "c-bom",
    "absolute-form request target is not understood": "c-abs",
    "NaN picture (all black) leaves as a successful, verified repair": "d-nan-vae",
    "folders with only variant files cannot be served": "d-variant",
    "the caller's bad model folder is told as an internal error": "d-bin d-trunc d-custom",
    "a list entry that can never match is taken silently": "f-listquote f-regex",
    "an entry or exception that covers everything gives no hint": "f-one",
    "message shows another value than the file": "f-float",
    "small lettering on large pictures is not read (below 2.7 % of the side)": "h-small1024",
    "turned, mirrored or stacked lettering passes the picture check": "h-rot",
    "pieces of a picture are judged one by one": "h-stack",
    "OCR confusions are not undone for pictures": "h-l",
}
FAILING: Mapping[str, str] = {case: reason for reason, cases in _REASONS.items() for case in cases.split()}
