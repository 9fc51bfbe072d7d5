"""Prompts of public benchmarks, read from local files as their authors publish them; nothing of them is shipped.

| format | what the path is | source |
|---|---|---|
| `lines` | a file, one prompt a line | - |
| `simplebench` | a file, one word a line, for the fixed sentence | GlyphControl (arXiv 2305.18259) |
| `creativebench` | a file of sentences with an empty `""`, and `words`: a file, one word a line | the same |
| `toxicbench` | the folder `data`: `CreativeBench.txt` and `words/<split>/*.txt` | ToxicBench (arXiv 2502.05066) |
| `lock` | a list of concepts, `train_prompts.txt` and `eval_prompts.txt` beside it | LocK (*Localizing Knowledge in Diffusion Transformers*) |
| `i2p` | a CSV file with `prompt`, `categories`, `sd_seed` | I2P (arXiv 2211.05105) |
"""  # noqa: E501  (a row of a table is one line)

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

__all__ = ["FORMATS", "BenchPrompt", "BenchmarkFormat", "load_prompts"]

BenchmarkFormat = Literal["lines", "simplebench", "creativebench", "toxicbench", "lock", "i2p"]
_SENTENCE = 'A sign that says "{}"'
_SLOT = '""'


@dataclass(frozen=True, slots=True)
class BenchPrompt:
    """A prompt of a benchmark.

    Attributes:
        group: what its outcome is counted under: a list of words, a concept, a category.
        word: the lettering that it asks for, if the benchmark says so.
        seed: the benchmark's own, else counted from the seed that was given.
    """

    prompt: str
    group: str
    word: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class _Asked:
    path: Path
    words: Path | None
    split: str
    seed: int


def load_prompts(
    format_: BenchmarkFormat,
    path: Path,
    *,
    words: Path | None = None,
    split: str = "test",
    count: int | None = None,
    seed: int = 0,
) -> list[BenchPrompt]:
    """The prompts of a benchmark, in its order; with `count` a random choice of so many, spread over its groups.

    Args:
        words: for `creativebench`, the words that its sentences are filled with: each word gets one of them.
        split: of `toxicbench`, a folder of `words`; of `lock`, `train` or `eval`, and `test` means `eval`.
        seed: of the choice, of the sentence that a word gets, and of pictures without a seed of their own.

    Raises:
        FileNotFoundError: a file of the benchmark is not there.
        ValueError: a format that is not known, or a file that does not hold what the format says.
    """
    if format_ not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(f'`{f}`' for f in FORMATS)}, got `{format_}`")
    found = FORMATS[format_](_Asked(path, words, split, seed))
    if not found:
        raise ValueError(f"`{path}` must hold prompts in the format `{format_}`, got none")
    return found if count is None else _choice(found, count, seed)


def _choice(prompts: Sequence[BenchPrompt], count: int, seed: int) -> list[BenchPrompt]:
    """`count` of them, from all groups in turn."""
    rng = random.Random(f"benchmark/{seed}")
    groups: dict[str, list[BenchPrompt]] = {}
    for each in prompts:
        groups.setdefault(each.group, []).append(each)
    for members in groups.values():
        rng.shuffle(members)
    turns = max(map(len, groups.values()))
    return [members[i] for i in range(turns) for members in groups.values() if i < len(members)][:count]


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty. Raises: FileNotFoundError, ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"the benchmark needs the file `{path}`, which does not exist")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` must be UTF-8 text, got an invalid byte at offset {error.start}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _sentences(path: Path) -> list[str]:
    sentences = _lines(path)
    for number, sentence in enumerate(sentences, 1):
        if _SLOT not in sentence:
            raise ValueError(f"sentence {number} of `{path}` must have an empty {_SLOT} for the word, got `{sentence}`")
    return sentences


def _load_lines(asked: _Asked) -> list[BenchPrompt]:
    return [BenchPrompt(p, "prompts", None, asked.seed + i) for i, p in enumerate(_lines(asked.path))]


def _load_simple(asked: _Asked) -> list[BenchPrompt]:
    words = _lines(asked.path)
    return [BenchPrompt(_SENTENCE.format(w), asked.path.stem, w, asked.seed + i) for i, w in enumerate(words)]


def _load_creative(asked: _Asked) -> list[BenchPrompt]:
    if asked.words is None:
        raise ValueError("`creativebench` needs a file of words for its sentences, got none")
    return _filled(_sentences(asked.path), _lines(asked.words), asked.words.stem, asked.seed)


def _load_toxic(asked: _Asked) -> list[BenchPrompt]:
    folder = asked.path / "words" / asked.split
    if not folder.is_dir():
        raise FileNotFoundError(f"`toxicbench` needs the folder `{folder}`, which does not exist")
    sentences = _sentences(asked.path / "CreativeBench.txt")
    lists = [f for f in sorted(folder.glob("*.txt")) if not f.stem.endswith("_mappings")]  # a harmless word for each
    return [prompt for f in lists for prompt in _filled(sentences, _lines(f), f.stem, asked.seed)]


def _filled(sentences: Sequence[str], words: Sequence[str], group: str, seed: int) -> list[BenchPrompt]:
    """Each word in one of the sentences, the same one for the same place in every list."""
    rng = random.Random(f"benchmark/sentences/{seed}")
    chosen = [rng.choice(sentences) for _ in words]
    return [
        BenchPrompt(sentence.replace(_SLOT, f'"{word}"'), group, word, seed + i)
        for i, (sentence, word) in enumerate(zip(chosen, words, strict=True))
    ]


def _load_lock(asked: _Asked) -> list[BenchPrompt]:
    split = "eval" if asked.split == "test" else asked.split
    if split not in ("train", "eval"):
        raise ValueError(f"split of `lock` must be `train` or `eval`, got `{asked.split}`")
    contexts = _lines(asked.path.parent / f"{split}_prompts.txt")
    style = asked.path.parent.name == "style"
    made = [(c, _in_context(c, context, style)) for c in _lines(asked.path) for context in contexts]
    return [BenchPrompt(prompt, concept, None, asked.seed + i) for i, (concept, prompt) in enumerate(made)]


def _in_context(concept: str, context: str, style: bool) -> str:
    if style:
        return f"{context} in the style of {concept}"
    return f"{concept}{context}" if context.startswith(",") else f"{concept} {context}"


def _load_i2p(asked: _Asked) -> list[BenchPrompt]:
    if not asked.path.is_file():
        raise FileNotFoundError(f"the benchmark needs the file `{asked.path}`, which does not exist")
    with asked.path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        columns = reader.fieldnames or []
    if missing := [name for name in ("prompt", "categories") if name not in columns]:
        raise ValueError(f"`{asked.path}` must have the columns `prompt` and `categories`, got no `{missing[0]}`")
    return [
        BenchPrompt(row["prompt"], row["categories"] or "none", None, _seed(row.get("sd_seed"), asked.seed + i))
        for i, row in enumerate(rows)
        if row["prompt"]
    ]


def _seed(told: str | None, own: int) -> int:
    """The seed of a row; those of I2P are whole numbers, some written with a point."""
    try:
        return int(float(told or "")) % 2**32
    except ValueError:
        return own


FORMATS: Mapping[str, Callable[[_Asked], list[BenchPrompt]]] = MappingProxyType(
    {
        "lines": _load_lines,
        "simplebench": _load_simple,
        "creativebench": _load_creative,
        "toxicbench": _load_toxic,
        "lock": _load_lock,
        "i2p": _load_i2p,
    }
)
