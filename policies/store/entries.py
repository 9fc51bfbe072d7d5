"""Hints about the entries of word lists: what an author wrote that is probably not what is looked for.

Entries are literal words and phrases. Nothing here changes one or refuses one.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from policies.problems import Remark
from policies.spelling import fold
from policies.store.document import Document, list_lines
from policies.store.review import where

__all__ = ["Entry", "about_entries", "about_tenants", "entries_of_list"]

_SHOWN = 5  # entries of one list that are told one by one for the same reason

# what means something in a regular expression, or in a pattern of file names or SQL, and hardly anything in a phrase
_PATTERN = re.compile(
    r"""\*  | \\.  | ^\^\w  | [^\W_]\$$  | [.)\]}][+?]  | \w[+?]\w  | ^\S*\w\?$  | \w\|\w
      | \[[^\]\s]{2,}\]  | \(\?  | \{\d*,?\d+,?\}  | \{[^}\s]*,[^}\s]*\}  | ^/.+/[a-z]*$  | ^%.+%$""",
    re.VERBOSE,
)
_DOUBLE, _SINGLE = '"“”„‟«»「」『』＂', "'‘’‚‛`´‹›＇"
_FILLERS = frozenset(map(chr, (0x034F, 0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10))))
_ARTICLES = "der das ein eine und le la les un une et el los una y il lo de"
_EVERYDAY_WORDS = (
    "a an and are as at be but by can do for from has have he her his how i if in is it its me my no not of on or our"
    " she so that the their them there they this to up us was we what when who will with you your photo picture image"
)
_EVERYDAY = frozenset(f"{_EVERYDAY_WORDS} {_ARTICLES}".split())


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is written, and where: the file, line and column, and the path of the field in the policy."""

    text: str
    file: str
    line: int
    column: int
    path: str

    def remark(self, message: str) -> Remark:
        return Remark(self.file, self.line, self.column, self.path, message)


def entries_of_list(document: Document, name: str) -> tuple[Entry, ...]:
    """The entries of a list, at their places in the policy or in the list's file."""
    model = document.lists[name]
    if model.values is not None:
        return tuple(Entry(t, *where(document, ("lists", name, "values", i))) for i, t in enumerate(model.values))
    assert model.file is not None  # INVARIANT: a list has `values` or `file`
    folder = document.file[: max(map(document.file.rfind, "/:")) + 1]
    lines = list_lines(document.files[posixpath.normpath(model.file)])
    return tuple(Entry(text, f"{folder}{model.file}", line, column, "") for line, column, text in lines)


def about_entries(
    entries: Sequence[Entry], *, lists: Collection[str], sought: bool, in_list: bool, longest: int
) -> Iterator[Remark]:
    """What is odd about entries that stand together.

    `lists` are the names of the policy's lists. `sought` tells that a rule acts where an entry is found; in `unless`,
    and for donors, everyday words are right. `in_list` tells that they stand in a list, where `$name` is literal.
    """
    checks: list[Callable[[str], str]] = [_pattern, _unseen, _quotes, _separator]
    checks += [partial(_dollar, lists=lists, in_list=in_list), partial(_dead, longest=longest)]
    checks += [_everyday] if sought else []
    for check in checks:
        yield from _few(entry.remark(said) for entry in entries if (said := check(entry.text)))
    yield from _few(_doubles(entries))


def about_tenants(entries: Iterable[Entry]) -> Iterator[Remark]:
    """What is odd about names of tenants, where a `*` at the end stands for any ending."""
    for entry in entries:
        if _PATTERN.search(entry.text.removesuffix("*")):
            yield entry.remark(f"`{entry.text}` looks like a pattern; only a `*` at the end stands for anything")
        elif said := _unseen(entry.text) or _quotes(entry.text):
            yield entry.remark(said)


def _few(remarks: Iterator[Remark]) -> Iterator[Remark]:
    """The first remarks, and one that counts the others at the place of the first of them."""
    yield from islice(remarks, _SHOWN)
    rest = list(remarks)
    if rest:
        yield Remark(*rest[0].place, f"{len(rest)} more like these, from here on")


# Each check returns a sentence about an entry, or nothing.


def _pattern(text: str) -> str:
    said = "looks like a pattern, and entries are literal: only this very text is found"
    return f"`{text}` {said}" if _PATTERN.search(text) else ""


def _unseen(text: str) -> str:
    odd = (c for c in text if c in _FILLERS or (c != " " and unicodedata.category(c) in ("Cf", "Cc", "Zs", "Zl", "Zp")))
    named = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, '')}".rstrip() for c in dict.fromkeys(odd))
    return f"`{text}` holds {named}, which nobody sees; type it anew" if named else ""


def _quotes(text: str) -> str:
    double = len(text) > 1 and (text[0] in _DOUBLE or text[-1] in _DOUBLE)
    single = len(text) > 1 and text[0] in _SINGLE and text[-1] in _SINGLE
    return f"the quotes around `{text}` count as a part of it; leave them out" if double or single else ""


def _separator(text: str) -> str:
    """About what another kind of list or a table would need."""
    if text[-1:] in (",", ";"):
        return f"the `{text[-1]}` at the end of `{text}` counts as a part of it; leave it out"
    if re.match(r"[-•–]\s", text):
        return f"`{text}` begins like an item of a list; write the entry alone"
    if re.search(r"[^\W\d][,;][^\W\d]", text):
        return f"`{text}` is one entry; several need a line each"
    return ""


def _dollar(text: str, *, lists: Collection[str], in_list: bool) -> str:
    if not in_list and text in lists:
        return f"`{text}` is also the name of a list; write `${text}` if the list is meant"
    if in_list and text.startswith("$") and text[1:] in lists:
        return f"`{text}` is taken literally, because a list holds no other lists; name both where they are used"
    return ""


def _dead(text: str, *, longest: int) -> str:
    if len(text) > longest:
        return f"`{text[:40]}...` has {len(text)} characters and a prompt at most {longest}, so it is never found"
    if not any(unicodedata.category(c)[0] in "LMN" or unicodedata.category(c) == "So" for c in fold(text)):
        return f"`{text}` has neither a letter nor a digit, so no word is found by it"
    return ""


def _everyday(text: str) -> str:
    plain = fold(text)
    common = plain in _EVERYDAY or (len(plain) == 1 and (plain.isdigit() or plain.upper() != plain))
    return f"`{text}` is in nearly every prompt, so this matches nearly every prompt" if common else ""


def _doubles(entries: Iterable[Entry]) -> Iterator[Remark]:
    first: dict[str, Entry] = {}
    for entry in entries:
        same = first.setdefault(fold(entry.text), entry)
        if same is not entry:
            at = f"line {same.line}" if same.line != entry.line else "before it"
            yield entry.remark(f"`{entry.text}` is the same entry as `{same.text}` ({at})")
