"""The law of the judged text: whatever text a pipeline reads in a call is one that the caller gave, or the call ends.

Some pipelines rewrite a prompt with a language model before they encode it, and what was judged is then not what is
drawn. So every string that reaches a tokenizer of the pipeline is looked at, in whichever method, before it is encoded.
It may be

* a text of the call: a prompt, a negative prompt, the text of a donor. Case, punctuation and white space do not count,
  and words may be missing, as where a pipeline cleans or cuts a text;
* such a text, or its parts, in what the pipeline always puts around a text for this tokenizer, or that alone. This is
  learned when it is first met, from two calls with known prompts that end before the denoiser;
* what the pipeline decoded in this call, which a rewriter wrote, after `on_rewritten` was told.

Anything else is an error.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from steering.attach import replaced
from steering.errors import UnjudgedText

__all__ = ["Asked", "Judged", "OnRewritten", "Wrappings", "judged_call", "rewriter_switches"]

T = TypeVar("T")
Words = tuple[str, ...]
OnRewritten = Callable[[Sequence[str]], None]

# how diffusers' pipelines are told not to rewrite a prompt
_SWITCHES: Mapping[str, Any] = {
    "use_pe": False,
    "enable_prompt_rewrite": False,
    "enable_prompt_enhancement": False,
    "prompt_upsampling": False,
    "expand_prompts": False,
    "caption_upsample_temperature": None,
}
# words that no pipeline says of itself; a part is quoted, because some encode quoted parts apart
_KNOWN = ('qelvan "morit" zuskel', 'dorpin "luvash" wentik gorub')
_KEPT_KEYS = 256
_WORD = re.compile(r"[^\W_]+|[^\x00-\x7f\w\s]")
_NUMBER = "0"  # any number in what stands around a text, such as the picture's size


@dataclass(frozen=True, slots=True)
class Judged:
    """The texts of a call, and what is told when a rewriter has written others; None: nothing may be rewritten."""

    texts: frozenset[str]
    on_rewritten: OnRewritten | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How a call is repeated to learn what the pipeline puts around a text: `until_denoiser(prompt, negative)` runs it
    with these texts and ends before the denoiser; `key` is equal for calls that wrap texts alike."""

    key: Hashable
    until_denoiser: Callable[[str, str], None]


@dataclass(slots=True)
class Wrappings:
    """What a pipeline puts around texts, as far as it was met: (tokenizer, words before, words after), and what it says
    by itself. `learned`: the keys of the calls that it was learned from."""

    around: set[tuple[str, Words, Words]] = field(default_factory=set)
    alone: set[tuple[str, Words]] = field(default_factory=set)
    learned: set[Hashable] = field(default_factory=set)


def rewriter_switches(parameters: Iterable[str]) -> dict[str, Any]:
    """The arguments that keep a pipeline from rewriting prompts, of those that its call takes."""
    taken = set(parameters)
    return {name: value for name, value in _SWITCHES.items() if name in taken}


def judged_call(pipes: Sequence[Any], judged: Judged, asked: Asked, known: Wrappings, call: Callable[[], T]) -> T:
    """What `call` gives, in which `pipes` read no text but the judged ones.

    known: what these pipelines put around texts. When a text is met that nothing explains, it is learned for this way
    of calling, and `call` is called again. Raises: UnjudgedText, and what `on_rewritten` raises.
    """
    tokenizers = _tokenizers(pipes)
    try:
        with _Watch(pipes, tokenizers, judged, known).attached():
            return call()
    except UnjudgedText as error:
        if error.rewritten or asked.key in known.learned:
            raise
        try:
            new = _learn(known, tokenizers, asked)
        except Exception as failure:  # the known prompts tell nothing then, and the finding stands
            raise error from failure
        if not new:
            raise
    with _Watch(pipes, tokenizers, judged, known).attached():
        return call()


class _Watch:
    """Looks at what one call gives to its tokenizers."""

    def __init__(self, pipes: Sequence[Any], tokenizers: Mapping[str, Any], judged: Judged, known: Wrappings) -> None:
        self._pipes, self._tokenizers, self._known = pipes, tokenizers, known
        self._on_rewritten = judged.on_rewritten
        self._texts = list(judged.texts)
        self._words = [_words(text) for text in self._texts]
        self._seen: set[tuple[str, str]] = set()
        self._spelled: dict[str, str] = {}  # by tokenizer: what it was given letter by letter
        self._written: list[str] = []  # by a rewriter, and nobody was told yet

    @contextmanager
    def attached(self) -> Iterator[None]:
        with _listening(self._tokenizers, self._read, self._decoded):
            yield

    def _read(self, name: str, text: str) -> None:
        """Nothing, for a text that may be encoded."""
        if len(text) > 1 and (name, text) in self._seen:
            return
        said = _words(text)
        if self._spells(name, said):
            return
        if any(_comes_from(said, _words(written)) for written in self._written):
            self._tell(name)
        if said and not self._may_say(name, said) and not self._is_cut(name, said):
            raise UnjudgedText(name, text)
        self._seen.add((name, text))

    def _decoded(self, name: str, text: str) -> None:
        """Notes a text that was not encoded before: only a rewriter writes such."""
        read = ["".join(words) for words in (*self._words, *(_words(t) for _, t in self._seen))]
        special = "|".join(map(re.escape, self._tokenizers[name].all_special_tokens))
        pieces = re.split(special, text) if special else [text]
        # a pipeline decodes what it cuts off a long text, for its warning; tokens may begin within a word
        if any(not any("".join(_words(piece)) in whole for whole in read) for piece in pieces):
            self._written.append(text)

    def _tell(self, name: str) -> None:
        written, self._written = self._written, []
        if self._on_rewritten is None:
            raise UnjudgedText(name, written[0], rewritten=True)
        self._on_rewritten(tuple(written))
        self._texts += written
        self._words += [_words(text) for text in written]
        self.__dict__.pop("_forms", None)

    def _may_say(self, name: str, said: Words) -> bool:
        if self._is_text(said):
            return True
        masked = _masked(said)
        if (name, masked) in self._known.alone:
            return True
        wrapped = (_inside(said, head, tail) for of, head, tail in self._known.around if of == name)
        return any(parts is not None and all(map(self._is_text, parts)) for parts in wrapped)

    def _is_cut(self, name: str, said: Words) -> bool:
        """Whether it is the beginning of what this tokenizer was given: a long text is cut, which may be in a word."""
        return any("".join(_words(text)).startswith("".join(said)) for of, text in self._seen if of == name)

    def _is_text(self, said: Words) -> bool:
        return any(_within(said, words) for words in self._words) or any(_within(said, words) for words in self._forms)

    def _spells(self, name: str, said: Words) -> bool:
        """Whether `said` is the next letter of a text: some pipelines encode quoted text letter by letter."""
        letters = "".join(said)
        if len(letters) == 1:
            spelled = self._spelled.get(name, "") + letters
            whole = ["".join(words) for words in self._words]
            if any(spelled in one + other for one in whole for other in whole):
                self._spelled[name] = spelled
                return True
        elif letters:
            self._spelled[name] = ""
        return False

    @cached_property
    def _forms(self) -> list[Words]:
        """The texts in JSON and without HTML's escapes, and what the pipelines' own methods make of them."""
        forms = {form for text in self._texts for form in _plain_forms(text)}
        for pipe in self._pipes:
            if hasattr(pipe, "_text_preprocessing"):  # cleans
                forms.update(pipe._text_preprocessing(list(self._texts), clean_caption=True))
            if hasattr(pipe, "maybe_convert_prompt"):  # spells out learned tokens of several vectors
                for tokenizer in self._tokenizers.values():
                    forms.update(pipe.maybe_convert_prompt(list(self._texts), tokenizer))
        return [_words(form) for form in forms]


@contextmanager
def _listening(
    tokenizers: Mapping[str, Any], read: Callable[[str, str], None], decoded: Callable[[str, str], None]
) -> Iterator[None]:
    """Calls `read(tokenizer, text)` before a text is encoded, and `decoded(tokenizer, text)` after one was decoded.

    All of a tokenizer's methods come to those that are watched here, also where a processor calls it.
    """

    def encode(name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        for text in _strings([*args, *(kwargs.get(n) for n in ("text", "text_pair", "pair"))]):
            read(name, text)
        return original(*args, **kwargs)

    def decode(name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        text = original(*args, **kwargs)
        decoded(name, text)
        return text

    around = {"_encode_plus": encode, "tokenize": encode, "_decode": decode}
    with ExitStack() as stack:
        for name, tokenizer in tokenizers.items():
            for method, watch in around.items():
                stack.enter_context(replaced(tokenizer, method, partial(watch, name)))
        yield


def _tokenizers(pipes: Sequence[Any]) -> dict[str, Any]:
    """The tokenizers among the pipelines' components, and those inside of processors, each once."""
    found: dict[int, tuple[str, Any]] = {}
    for pipe in pipes:
        for name, part in pipe.components.items():
            for each in (part, getattr(part, "tokenizer", None)):
                if hasattr(each, "_encode_plus"):
                    found.setdefault(id(each), (name, each))
    named: dict[str, Any] = {}
    for name, each in found.values():
        named[name if name not in named else f"{name} of pipeline {len(named) + 1}"] = each
    return named


def _strings(given: Iterable[Any]) -> Iterator[str]:
    for each in given:
        if isinstance(each, str):
            yield each
        elif isinstance(each, list | tuple):
            yield from _strings(each)


def _plain_forms(text: str) -> Iterator[str]:
    yield html.unescape(html.unescape(text))
    yield json.dumps(text)
    yield json.dumps(text, ensure_ascii=False)


# what a pipeline puts around a text


def _learn(known: Wrappings, tokenizers: Mapping[str, Any], asked: Asked) -> bool:
    """Adds what both of two calls with known texts put around these; whether that was new."""
    found: list[tuple[set[tuple[str, Words, Words]], set[tuple[str, Words]]]] = []
    for texts in (_KNOWN, _KNOWN[::-1]):
        read: list[tuple[str, str]] = []
        written: list[tuple[str, str]] = []
        with _listening(tokenizers, partial(_note, read), partial(_note, written)):
            asked.until_denoiser(*texts)
        found.append(_wrapped(read, [*(text for _, text in written), *texts]))
    (around, alone), (again, repeated) = found
    before = len(known.around) + len(known.alone)
    known.around |= around & again
    known.alone |= alone & repeated
    if len(known.learned) >= _KEPT_KEYS:
        known.learned.clear()
    known.learned.add(asked.key)
    return len(known.around) + len(known.alone) > before


def _wrapped(
    read: Sequence[tuple[str, str]], texts: Sequence[str]
) -> tuple[set[tuple[str, Words, Words]], set[tuple[str, Words]]]:
    """What stood around `texts` in what tokenizers read, and what had nothing of them in it."""
    known = sorted(filter(None, map(_words, texts)), key=len, reverse=True)
    around, alone = set(), set()
    for name, text in read:
        said = _words(text)
        if (at := _placed(said, known)) is not None:
            around.add((name, _masked(said[: at.start]), _masked(said[at.stop :])))
        elif not any(_comes_from(said, words) for words in known):
            alone.add((name, _masked(said)))
    return around, alone


def _placed(said: Words, texts: Sequence[Words]) -> slice | None:
    """Where the first of `texts` that occurs stands in `said`: the whole of it, or from its first word to its last."""
    for words in texts:
        for start in range(len(said) - len(words) + 1):
            if said[start : start + len(words)] == words:
                return slice(start, start + len(words))
    for words in texts:
        at = [i for i, word in enumerate(said) if word in words]
        if at and _within(said[at[0] : at[-1] + 1], words):
            return slice(at[0], at[-1] + 1)
    return None


def _inside(said: Words, head: Words, tail: Words) -> list[Words] | None:
    """The parts of `said` that stand between `head` and `tail`, which may be repeated; None when they do not."""
    masked, stop = _masked(said), len(said) - len(tail)
    if stop < len(head) or masked[: len(head)] != head or masked[stop:] != tail:
        return None
    between, parts, start, i = tail + head, [], len(head), len(head)
    while between and i + len(between) <= stop:
        if masked[i : i + len(between)] == between:
            parts.append(said[start:i])
            start = i = i + len(between)
        else:
            i += 1
    return [*parts, said[start:stop]]


def _note(texts: list[tuple[str, str]], name: str, text: str) -> None:
    texts.append((name, text))


# words


def _words(text: str) -> Words:
    """The words of a text, each in one form; symbols such as emoji are words, punctuation is not."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\N{REPLACEMENT CHARACTER}", "")
    return tuple(w for w in _WORD.findall(plain) if w.isalnum() or unicodedata.category(w)[0] in "SM")


def _masked(words: Words) -> Words:
    return tuple(_NUMBER if word.isdigit() else word for word in words)


def _within(part: Words, whole: Words) -> bool:
    """Whether `part` is `whole` with some words left out."""
    rest = iter(whole)
    return all(word in rest for word in part)


def _comes_from(said: Words, written: Words) -> bool:
    """Whether one of the two is the other's beginning, middle or end, or lacks some of its words."""
    return bool(said and written) and (_within(said, written) or _within(written, said))
