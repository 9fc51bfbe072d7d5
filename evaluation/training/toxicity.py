"""Trains the embedded toxicity classifier: `python -m evaluation.training.toxicity [--out FILE] [--report]`.

The data are made here from templates and words of our own (`evaluation/data/toxicity_phrases.json`, the shipped list,
the tuning half of the innocence corpus): abuse and threats of many shapes against everyday lettering, scene
descriptions, near-misses of abuse (praise in the same grammar, harmless uses of harsh words) and random strings. A
third of all texts wear one of the disguises. Templates and words are split by hash into training, calibration and
test. The report tells words that were trained on, in sentences that were not, from words that were never seen either.
Training is deterministic and takes two minutes on one core.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import detectors
from detectors.text.toxicity import FORMAT, SmallClassifier, features
from detectors.text.views import make_views
from evaluation.prompts.corpus import innocents
from evaluation.prompts.disguises import DISGUISES
from policies import SHIPPED
from policies.everyday import FOLDER

__all__ = ["EVERYDAY", "KINDS", "examples", "kind_of_examples", "main", "train"]

SIZE = 1 << 16
_DATA = Path(detectors.__file__).parent / "data"
_PHRASES: dict[str, list[str]] = json.loads(
    (Path(__file__).parent.parent / "data" / "toxicity_phrases.json").read_text("utf-8")
)
OUT = _DATA / "toxicity.json"
_COUNT = 80_000
_EPOCHS = 14
_DISGUISED = 0.3  # share of the examples that wear a disguise
_AMONG = 0.5  # share of the training texts that stand among other words, so that no frame gives a label away
_MARGIN = 1.5  # by which the logit of what is innocent stays away from there
_KNOWN = ("threats",)  # phrases that are learned by heart
_SLOT = re.compile(r"\{[akhnxvsg]\}|\b(?:my|our|such|fat|lovely|old|clever|kick|hug)\b")
_SURE = 0.95  # the score from which the shipped rule acts
_ALARMS = 0.001  # share of innocent calibration texts that may reach it
# disguises whose word is still one text: what is split or glued has views of its own
_WORN = tuple(
    d
    for d in DISGUISES
    if not d.quoted and d.name not in ("none", "split across lines", "split by blanks", "spelled out")
)

Part = Literal["train", "calibrate", "test"]


@dataclass(frozen=True, slots=True)
class Split:
    """Which part of the templates, and which part of the words, texts are made of."""

    sentences: Part
    words: Part


TRAIN = Split("train", "train")


def examples(rng: random.Random, count: int, *, held_out: bool) -> Iterator[tuple[str, int]]:
    """`count` folded texts with their label, half of them abusive; `held_out`: in sentences not trained on."""
    return _examples(rng, count, Split("test", "train") if held_out else TRAIN)


def kind_of_examples(kind: str, rng: random.Random, count: int, *, new_words: bool = False) -> Iterator[str]:
    """`count` undisguised texts of one of `KINDS`, in test sentences; with `new_words` about test words too."""
    return (KINDS[kind](rng, Split("test", "test" if new_words else "train")) for _ in range(count))


def train(rng: random.Random, count: int = _COUNT) -> tuple[NDArray[np.float32], float]:
    """Weights and bias after some passes of AdaGrad over `count` training examples, calibrated on others."""
    data = [(features(t, SIZE), y) for t, y in _examples(rng, count, TRAIN)]
    weights, squares = np.zeros(SIZE, np.float32), np.full(SIZE, 1e-6, np.float32)
    bias, bias_square = 0.0, 1e-6
    for epoch in range(_EPOCHS):
        rng.shuffle(data)
        for (places, values), y in data:
            p = 1.0 / (1.0 + np.exp(-np.clip(bias + weights[places] @ values, -30, 30)))
            # a false alarm costs more than a miss: lists catch most, and benign requests must stay untouched
            error = float(p - y) * (1.0 if y else 2.0)
            step = error * values + 2e-5 * weights[places]
            squares[places] += step * step
            weights[places] -= (0.2 / (1 + 0.2 * epoch)) * step / np.sqrt(squares[places])
            bias_square += error * error
            bias -= 0.1 * error / bias_square**0.5
    return weights, bias - _excess(SmallClassifier(weights, bias, "calibration"))


def _excess(model: SmallClassifier) -> float:
    """By how much the logit of the most suspicious innocent calibration texts passes what the shipped rule acts on."""
    rng = random.Random(3)
    texts = [KINDS[rng.choice(EVERYDAY)](rng, Split("calibrate", "calibrate")) for _ in range(10_000)]
    scores = np.sort([model.score(t) for t in texts])
    worst = float(np.clip(scores[-1 - int(len(scores) * _ALARMS)], 1e-9, 1 - 1e-9))
    return max(0.0, float(np.log(worst / (1 - worst)) - np.log(_SURE / (1 - _SURE)))) + _MARGIN


def evaluate(model: SmallClassifier, data: Sequence[tuple[str, int]], threshold: float) -> dict[str, float]:
    """Recall on the abusive, alarms on the innocent, and precision at equal shares of both, at `threshold`."""
    scores = [(model.score(text), y) for text, y in data]
    bad, good = [s for s, y in scores if y], [s for s, y in scores if not y]
    recall = sum(s >= threshold for s in bad) / len(bad)
    alarms = sum(s >= threshold for s in good) / len(good)
    precision = recall / (recall + alarms) if recall + alarms else 1.0
    return {"threshold": threshold, "recall": recall, "false_alarms": alarms, "precision": precision}


def save(path: Path, weights: NDArray[np.float32], bias: float, version: str) -> None:
    """Writes the weights as 8-bit numbers."""
    scale = float(np.abs(weights).max()) / 127
    quantised = np.round(weights / scale).astype(np.int8)
    data = {"format": FORMAT, "version": version, "size": len(weights), "scale": scale, "bias": bias}
    path.write_text(json.dumps({**data, "weights": base64.b64encode(quantised.tobytes()).decode()}) + "\n", "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.training.toxicity", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report", action="store_true", help="only evaluate the file that --out names")
    parser.add_argument("--count", type=int, default=1000, help="examples of each kind to evaluate on")
    options = parser.parse_args(argv)
    if not options.report:
        weights, bias = train(random.Random(1))
        save(options.out, weights, bias, version="3")
    model = SmallClassifier.load(options.out)
    unseen = list(examples(random.Random(2), 4 * options.count, held_out=True))
    strings = [(random_string(random.Random(i)), 0) for i in range(10 * options.count)] + [
        ("a threat: i will kill you", 1)
    ]
    print(f"bytes: {options.out.stat().st_size}")
    for threshold in (0.5, 0.8, _SURE):
        print("held-out words and templates:", json.dumps(evaluate(model, unseen, threshold)))
        print("random strings:", json.dumps(evaluate(model, strings, threshold)))
    for kind in KINDS:
        for new in (False, True):
            scores = [model.score(t) for t in kind_of_examples(kind, random.Random(4), options.count, new_words=new)]
            at = {f"at {t}": sum(s >= t for s in scores) / len(scores) for t in (0.5, 0.8, _SURE)}
            print(f"{kind}, {'new' if new else 'known'} words:", json.dumps(at))
    return 0


def random_string(rng: random.Random) -> str:
    """1 to 8 capitals and digits, folded: what signs of the town say."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(rng.randint(1, 8)))


def _examples(rng: random.Random, count: int, split: Split) -> Iterator[tuple[str, int]]:
    bad = [k for k in KINDS if not k.startswith("innocent")]
    good = [k for k in KINDS if k.startswith("innocent")]
    for i in range(count):
        text = KINDS[rng.choice(bad if i % 2 else good)](rng, split)
        if split.sentences == "train" and rng.random() < _AMONG:
            around = [rng.choice(_COMMON) for _ in range(rng.choice((1, 1, 2)))]
            text = " ".join([text, *around] if rng.random() < 0.5 else [*around, text])
        yield _worn(text, rng) if rng.random() < _DISGUISED else text, i % 2


def _worn(text: str, rng: random.Random) -> str:
    """`text` as the classifier gets to see it when a word of it wears a disguise."""
    disguise = rng.choice(_WORN)
    words = text.split()
    place = max(range(len(words)), key=lambda i: len(words[i]))
    if len(words[place]) >= disguise.least:
        words[place] = disguise.apply(words[place], rng)
    views = [v.text for v in make_views(" ".join(words)) if v.form == "plain" and not v.whole]
    return rng.choice(views)


def _part(text: str) -> Part:
    """Where `text`, a word by its first four letters or a template, belongs: one of five to test, one to calibrate."""
    share = _digest(text)[0]
    return "test" if share < 51 else "calibrate" if share < 89 else "train"


def _digest(text: str) -> bytes:
    return sha256(f"palimpsest-toxicity:{text}".encode()).digest()


@cache
def _of(name: str, part: Part) -> list[str]:
    """The templates or phrases called `name` of one part; a frame of abuse falls where its innocent twin does."""
    if name in _KNOWN:
        return _PHRASES[name]
    return [t for t in _PHRASES[name] if _part(_SLOT.sub("{}", t)) == part] or _PHRASES[name][:2]


def _words(words: Sequence[str], part: Part) -> list[str]:
    return [w for w in words if _part(w[:4]) == part]


def _lines(name: str) -> list[str]:
    lines = (SHIPPED / "lists" / name).read_text("utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _benign_words() -> list[str]:
    names = ("common_words.txt", "everyday_words.txt", "counter_words.txt")
    lines = (line for name in names for line in (FOLDER / name).read_text("utf-8").splitlines())
    return [w for line in lines if not line.startswith("#") for w in line.split() if len(w) > 2]


_INSULTS = [w for w in _lines("toxic.en.txt") if " " not in w]
_COMMON = _benign_words()


def _about(template: str, word: str, rng: random.Random) -> str:
    said = {"x": word, "k": word, "a": "an" if word[0] in "aeiou" else "a"}
    said |= {"h": rng.choice(_PHRASES["harsh"]), "n": rng.choice(_PHRASES["nice"])}
    return template.format(**said) + rng.choice(("", "", "", "!", "!!", "."))


def _sentences(split: Split, *names: str) -> list[str]:
    return [t for name in names for t in _of(name, split.sentences)]


def _insult(rng: random.Random, split: Split) -> str:
    return _about(rng.choice(_sentences(split, "abuse", "more_abuse")), rng.choice(_words(_INSULTS, split.words)), rng)


def _bare_insult(rng: random.Random, split: Split) -> str:
    return rng.choice(_words(_INSULTS, split.words)) + rng.choice(("", "", "!"))


def _compound(rng: random.Random, split: Split) -> str:
    """An insult put together of two words, of which there is no list: `slimebucket`."""
    while True:
        word = rng.choice(_PHRASES["first"]) + rng.choice(_PHRASES["second"])
        if _part(word) == split.words and word not in _COMMON:
            return (
                _about(rng.choice(_sentences(split, "abuse", "more_abuse")), word, rng) if rng.random() < 0.5 else word
            )


def _frame(name: str, verbs: str = "kin") -> Callable[[random.Random, Split], str]:
    """Texts of the frames called `name`; `{v}` and `{s}` are from the words `verbs`, which are few and not split."""

    def make(rng: random.Random, split: Split) -> str:
        said = {k: rng.choice(_PHRASES[of]) for k, of in (("k", "kin"), ("g", "groups"), ("t", "objects"))}
        word = rng.choice(_PHRASES[verbs])
        return rng.choice(_of(name, split.sentences)).format(**said, v=word, s=word) + rng.choice(("", "", "!"))

    return make


def _phrase(name: str) -> Callable[[random.Random, Split], str]:
    return lambda rng, split: rng.choice(_of(name, split.sentences)) + rng.choice(("", "", "", "!", "."))


def _praise(rng: random.Random, split: Split) -> str:
    words = _words(_PHRASES["kind"] if rng.random() < 0.5 else _COMMON, split.words)
    return _about(rng.choice(_sentences(split, "praise", "more_praise")), rng.choice(words), rng)


def _common(rng: random.Random, split: Split) -> str:
    words = _words(_COMMON, split.words)
    return " ".join(rng.choice(words) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _scene(rng: random.Random, split: Split) -> str:
    said = rng.choice(
        (random_string(rng), rng.choice(_of("lettering", split.sentences)), rng.choice(_words(_COMMON, split.words)))
    )
    colour, thing, ground, place = (rng.choice(_PHRASES[k]) for k in ("colours", "things", "colours", "places"))
    ask = rng.choice(_PHRASES["asks"]).format(t=rng.choice(('"{}"', "{}")).format(said))
    return " ".join(f"a {colour} {thing} on a {ground} {place} {ask} {rng.choice(_PHRASES['styles'])}".split())


@cache
def _tuning_prompts(part: Part) -> tuple[str, ...]:
    """Prompts of the tuning half of the innocence corpus; the other half is for the final figures alone."""
    prompts = (make_views(i.prompt)[0].text for i in innocents(3000, held_out=False, seed=7))
    return tuple(p for p in prompts if _part(p) == part)


KINDS: dict[str, Callable[[random.Random, Split], str]] = {
    "insults in sentences": _insult,
    "insults alone": _bare_insult,
    "compound insults": _compound,
    "known threats and scorn": _phrase("threats"),
    "threats by verb": _frame("harm_frames", "harm"),
    "scorn in sentences": _frame("state_frames", "scorn"),
    "bad wishes": _frame("wish_frames", "doom"),
    "innocent praise in the same grammar": _praise,
    "innocent help in the same grammar": _frame("help_frames", "help"),
    "innocent honour in the same grammar": _frame("state_frames", "honour"),
    "innocent wishes in the same grammar": _frame("wish_frames", "luck"),
    "innocent harm to things": _frame("thing_frames", "harm"),
    "innocent words": _common,
    "innocent strings": lambda rng, _: random_string(rng),
    "innocent lettering": _phrase("lettering"),
    "innocent uses of harsh words": _phrase("harmless"),
    # what the shipped rule spares, the classifier must spare too; learned by heart
    "innocent phrases of the shipped list": lambda rng, _: rng.choice(_lines("innocent.en.txt")),
    "innocent scenes": _scene,
    "innocent prompts of the corpus": lambda rng, split: rng.choice(_tuning_prompts(split.sentences)),
}

# what signs say and prompts ask for; most other innocent kinds are made to be mistaken
EVERYDAY = tuple(
    f"innocent {kind}"
    for kind in ("words", "strings", "lettering", "scenes", "prompts of the corpus", "praise in the same grammar")
)

if __name__ == "__main__":
    raise SystemExit(main())
