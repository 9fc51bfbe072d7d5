"""Trains the embedded toxicity classifier: `python -m detectors.train_toxicity [--out FILE] [--report]`.

The data are made here from templates and words of our own (`data/toxicity_phrases.json`): abuse of many shapes
against everyday lettering, scene descriptions, near-misses of abuse (praise in the same grammar, harmless uses of
harsh words) and random strings. Words are split by hash, so that the held-out figures are about words that the
classifier never saw. Deterministic, one core, under a minute.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from detectors.text.toxicity import FORMAT, SmallClassifier, features
from policies import SHIPPED

__all__ = ["examples", "main", "train"]

SIZE = 1 << 15
_DATA = Path(__file__).parent / "data"
_PHRASES: dict[str, list[str]] = json.loads((_DATA / "toxicity_phrases.json").read_text("utf-8"))
OUT = _DATA / "toxicity.json"
_HELD_OUT = 5  # one word of so many
_COUNT = 40_000


def examples(rng: random.Random, count: int, *, held_out: bool) -> Iterator[tuple[str, int]]:
    """`count` folded texts with their label, half of them abusive, from one side of the split of words."""
    insults = [w for w in _insults() if _side(w) == held_out]
    kinds = [w for w in _PHRASES["kind"] if _side(w) == held_out]
    common = [w for w in _benign_words() if _side(w) == held_out]
    threats = [t for t in _PHRASES["threats"] if _side(t) == held_out]
    plain = [
        t for t in _PHRASES["lettering"] if not held_out or _side(t)
    ]  # look-alikes are trained on; new ones are drawn below
    for i in range(count):
        yield (_abusive(rng, insults, threats), 1) if i % 2 else (_innocent(rng, kinds, plain, common), 0)


def train(rng: random.Random, count: int = _COUNT) -> tuple[NDArray[np.float32], float]:
    """Weights and bias after twelve passes of AdaGrad over `count` training examples."""
    data = [(features(t, SIZE), y) for t, y in examples(rng, count, held_out=False)]
    weights, squares = np.zeros(SIZE, np.float32), np.full(SIZE, 1e-6, np.float32)
    bias, bias_square = 0.0, 1e-6
    for epoch in range(12):
        rng.shuffle(data)
        for places, y in data:
            if not len(places):
                continue
            norm = len(places) ** 0.5
            p = 1.0 / (1.0 + np.exp(-np.clip(bias + weights[places].sum() / norm, -30, 30)))
            # a false alarm costs more than a miss: lists catch most, and benign requests must stay untouched
            error = float(p - y) * (1.0 if y else 2.0)
            step = error / norm + 1e-4 * weights[places]
            squares[places] += step * step
            weights[places] -= (0.3 / (1 + 0.2 * epoch)) * step / np.sqrt(squares[places])
            bias_square += error * error
            bias -= 0.1 * error / bias_square**0.5
    return weights, bias


def evaluate(model: SmallClassifier, data: Sequence[tuple[str, int]], threshold: float) -> dict[str, float]:
    """Recall on the abusive and alarms on the innocent at `threshold`."""
    scores = [(model.score(text), y) for text, y in data]
    bad, good = [s for s, y in scores if y], [s for s, y in scores if not y]
    return {
        "threshold": threshold,
        "recall": sum(s >= threshold for s in bad) / len(bad),
        "false_alarms": sum(s >= threshold for s in good) / len(good),
    }


def save(path: Path, weights: NDArray[np.float32], bias: float, version: str) -> None:
    """Writes the weights as 8-bit numbers."""
    scale = float(np.abs(weights).max()) / 127
    quantised = np.round(weights / scale).astype(np.int8)
    data = {"format": FORMAT, "version": version, "size": len(weights), "scale": scale, "bias": bias}
    path.write_text(json.dumps({**data, "weights": base64.b64encode(quantised.tobytes()).decode()}) + "\n", "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m detectors.train_toxicity", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report", action="store_true", help="only evaluate the file that --out names")
    options = parser.parse_args(argv)
    if not options.report:
        weights, bias = train(random.Random(1))
        save(options.out, weights, bias, version="1")
    model = SmallClassifier.load(options.out)
    unseen = list(examples(random.Random(2), 4000, held_out=True))
    strings = [(random_string(random.Random(i)), 0) for i in range(10_000)] + [("a threat: i will kill you", 1)]
    print(f"bytes: {options.out.stat().st_size}")
    for threshold in (0.5, 0.8, 0.95):
        print("held-out words:", json.dumps(evaluate(model, unseen, threshold)))
        print("random strings:", json.dumps(evaluate(model, strings, threshold)))
    return 0


def random_string(rng: random.Random) -> str:
    """1 to 8 capitals and digits, folded: what signs of the reference world say."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(rng.randint(1, 8)))


def _side(text: str) -> bool:
    """Whether `text` is held out."""
    return crc32(text.encode()) % _HELD_OUT == 0


def _lines(name: str) -> list[str]:
    lines = (SHIPPED / "lists" / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _insults() -> list[str]:
    return [w for w in _lines("toxic.en.txt") if " " not in w]


def _benign_words() -> list[str]:
    lines = (_DATA / "common_words.txt").read_text("utf-8").splitlines()
    return [w for line in lines if not line.startswith("#") for w in line.split() if len(w) > 2]


def _abusive(rng: random.Random, insults: Sequence[str], threats: Sequence[str]) -> str:
    if rng.random() < 0.3:
        text = rng.choice(threats)
    else:
        word = rng.choice(insults)
        text = rng.choice(_PHRASES["abuse"]).format(
            a="an" if word[0] in "aeiou" else "a", x=word, h=rng.choice(_PHRASES["harsh"])
        )
    return text + rng.choice(("", "", "", "!", "!!", "."))


def _innocent(rng: random.Random, kinds: Sequence[str], plain: Sequence[str], common: Sequence[str]) -> str:
    draw = rng.random()
    if draw < 0.15:
        return random_string(rng)
    if draw < 0.35:
        return " ".join(rng.choice(common) for _ in range(rng.choice((1, 1, 1, 2, 3))))
    if draw < 0.5:
        return rng.choice(plain) + rng.choice(("", "", "!", "."))
    word = rng.choice(kinds) if rng.random() < 0.5 else rng.choice(common)
    if draw < 0.8:
        text = rng.choice(_PHRASES["praise"]).format(
            a="an" if word[0] in "aeiou" else "a", k=word, n=rng.choice(_PHRASES["nice"])
        )
        return text + rng.choice(("", "", "!"))
    said = rng.choice((random_string(rng), rng.choice(plain), word))
    colour, thing, ground, place = (rng.choice(_PHRASES[k]) for k in ("colours", "things", "colours", "places"))
    scene = f"a {colour} {thing} on a {ground} {place}"
    ask = rng.choice(_PHRASES["asks"]).format(t=rng.choice(('"{}"', "{}")).format(said))
    return " ".join(f"{scene} {ask} {rng.choice(_PHRASES['styles'])}".split())


if __name__ == "__main__":
    raise SystemExit(main())
