"""Sensing a request is torch-free and quick, says what was looked for, and is strict about what failed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from detectors.text import SmallClassifier, default_detectors, sense
from detectors.text.concepts import load_concept_words
from detectors.text.sense import TextDetectors
from evaluation.training.toxicity import EVERYDAY, evaluate, examples, kind_of_examples, main
from policies import Request


def best(prompt, name):
    return max((s.score for s in sense(Request(prompt)).of("prompt", name)), default=0.0)


def test_text_detectors_and_policies_leave_torch_alone():
    code = (
        "import sys; from detectors.text import sense; from policies import *; import detectors.images;"
        "decide(r := Request('a sign that says \"x\"'), sense(r), Loader(sense=sense).load(SHIPPED));"
        "heavy = ('torch', 'transformers', 'diffusers', 'easyocr', 'rapidocr', 'onnxruntime');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_everything_that_was_looked_for_is_covered():
    signals = sense(Request("a quiet lake"))
    assert {("prompt", n) for n in ("text", "lettering", "toxicity", "character/pip")} <= signals.covered
    assert signals.error("prompt", "lettering") is None
    assert signals.error("prompt", "character/pop") is not None


def test_a_negative_prompt_is_read_for_its_words_and_asks_for_nothing():
    request = Request("a wall", negative_prompt='a sign that says "moron", pip, a gun')
    signals = sense(request)
    assert {s.name for s in signals.items if s.span and s.span.source == "negative_prompt"} == {"text"}
    (text,) = [s for s in signals.of("prompt", "text") if s.span.source == "negative_prompt"]
    assert text.span.of(request.negative_prompt) == request.negative_prompt
    assert any("moron" in view.text for view in text.views)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("pip on a pink background", "pip"),
        ("a portrait of Pip's house", "Pip's"),
        ("p\u200bip", "p\u200bip"),
        ("a copper pipe", None),
        ("run pip install in a terminal", None),
        ("pip install pip", "pip"),
    ],
)
def test_concepts_are_found_by_name_but_not_in_other_words_or_phrases(prompt, found):
    signals = sense(Request(prompt)).of("prompt", "character/pip")
    assert [s.span.of(prompt) for s in signals] == ([found] if found else [])


@pytest.mark.parametrize("table", [[], {"a/b": {}}, {"a/b": {"any_of": []}}, {"a/b": {"any_of": ["x"], "ulness": []}}])
def test_a_broken_table_of_concepts_is_refused(tmp_path, table):
    (tmp_path / "t.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="must"):
        load_concept_words(tmp_path / "t.json")


def test_the_classifier_tells_abuse_in_unlisted_words_from_kindness():
    assert best('a sign that says "nobody will ever love you"', "toxicity") > 0.9
    assert best('a sign that says "i will hurt you badly"', "toxicity") > 0.8
    for kind in ("you are loved", "you are a wonderful teacher", "keep calm and carry on", "HOPE", "UP", "Scunthorpe"):
        assert best(f'a sign that says "{kind}"', "toxicity") < 0.5, kind


def test_held_out_words_are_judged_well_and_never_alarm_at_the_shipped_threshold():
    import random

    (model,) = default_detectors().scorers
    figures = evaluate(model, list(examples(random.Random(9), 1500, held_out=True)), 0.95)
    assert figures["false_alarms"] <= 0.01  # half of these are made to be mistaken: `don't kill the mood`
    assert figures["recall"] > 0.4
    assert evaluate(model, list(examples(random.Random(9), 1500, held_out=True)), 0.5)["recall"] > 0.7
    for kind in EVERYDAY:
        assert max(model.score(t) for t in kind_of_examples(kind, random.Random(9), 300)) < 0.95, kind


def test_training_makes_a_small_file_that_knows_an_insult(tmp_path):
    import random

    from evaluation.training import toxicity
    from evaluation.training.toxicity import OUT

    weights, bias = toxicity.train(random.Random(1), 3000)
    toxicity.save(tmp_path / "t.json", weights, bias, "1")
    assert main(["--report", "--count", "50", "--out", str(tmp_path / "t.json")]) == 0
    small = SmallClassifier.load(tmp_path / "t.json")
    assert small.score("you are a stupid idiot") > 0.9
    assert OUT.stat().st_size < 300_000


def test_weights_of_another_format_are_refused(tmp_path):
    (tmp_path / "t.json").write_text('{"format": "x"}')
    with pytest.raises(ValueError, match=r"must be of format `palimpsest.toxicity/v1`, got `x`"):
        SmallClassifier.load(tmp_path / "t.json")


class Broken:
    name, version = "broken", "1"

    def scores(self, texts):
        raise RuntimeError("no weights")


class Sure(Broken):
    name = "sure"

    def scores(self, texts):
        return [{"toxicity": 0.99, "threat": 0.7} for _ in texts]


def with_scorers(*scorers):
    default = default_detectors()
    return TextDetectors(default.concepts, default.lexicon, tuple(scorers))


def test_a_scorer_that_fails_is_an_error_and_not_a_silence():
    signals = with_scorers(Broken())(Request("a sign that says hello"))
    assert signals.error("prompt", "toxicity") == "broken: error: RuntimeError"
    assert ("prompt", "toxicity") not in signals.covered


def test_the_highest_score_counts_by_category():
    signals = with_scorers(Sure(), *default_detectors().scorers)(Request("a lake"))
    assert {(s.label, s.score, s.detector) for s in signals.of("prompt", "toxicity")} == {
        ("toxicity", 0.99, "sure"),
        ("threat", 0.7, "sure"),
    }


def test_sensing_does_not_depend_on_anything_but_the_texts():
    request = Request('a sign that says "idiot" and pip')
    assert sense(request) == sense(replace(request, tenant="other", id="7"))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_scorer_of_toxicity_that_says_no_number_is_an_error(score):
    class Scorer:
        name, version = "damaged", "1"

        def scores(self, texts):
            return [{"toxicity": 0.1, "insult": score} for _ in texts]

    default = default_detectors()
    signals = replace(default, scorers=(*default.scorers, Scorer()))(Request("you are a worthless idiot"))
    assert signals.error("prompt", "toxicity") == "damaged: error: NotFinite"
    assert ("prompt", "toxicity") not in signals.covered
