"""Makes `detectors/data/confusables.txt` from Unicode's own `confusables.txt` (UTS 39), for a new version of it.

    python -m evaluation.training.confusables confusables.txt

The original lists, for every character, the sequence that it is mistaken for. Kept are the characters that stand for
one ASCII letter or digit, by themselves or through NFKD, and that the text views do not read as that letter anyway.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import detectors

__all__ = ["OUT", "compact", "main", "parse_confusables"]

OUT = Path(detectors.__file__).parent / "data" / "confusables.txt"
_PAIRS = {"rn": "m", "vv": "w", "'v": "v"}  # prototypes of two letters that are read as one
_HEAD = """\
# Characters that are mistaken for an ASCII letter or digit: that letter, then the characters. Made by
# `python -m evaluation.training.confusables` from Unicode's confusables.txt (UTS 39), version {version}.
# Copyright 1991-2025 Unicode, Inc. Distributed under the Unicode License v3, https://www.unicode.org/license.txt
# version: {version}
"""


def parse_confusables(lines: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The version and the prototype of every character of the original file.

    Raises ValueError when it names no version.
    """
    version, prototypes = "", dict[str, str]()
    for line in lines:
        said, _, comment = line.lstrip("\ufeff").partition("#")
        if comment.strip().startswith("Version:"):
            version = comment.split(":", 1)[1].strip()
        fields = [field.strip() for field in said.split(";")]
        if len(fields) >= 2 and fields[0]:
            source, target = ("".join(chr(int(code, 16)) for code in field.split()) for field in fields[:2])
            prototypes[source] = target
    if not version:
        raise ValueError("the file must be UTS 39's confusables.txt with a line `# Version: ...`, got none")
    return version, prototypes


def compact(prototypes: dict[str, str]) -> dict[str, str]:
    """The single characters that stand for one ASCII letter or digit, by that letter, each group sorted."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for source, target in prototypes.items():
        letter = _plain(_PAIRS.get(target, target))
        foreign = len(source) == 1 and not source.isascii() and _plain(source) != letter
        if foreign and len(letter) == 1 and letter.isalnum():
            groups[letter].append(source)
    return {letter: "".join(sorted(groups[letter])) for letter in sorted(groups)}


def _plain(text: str) -> str:
    """`text` through NFKD and without marks, when that is ASCII; else nothing."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _PAIRS.get(bare, bare) if bare.isascii() else ""


def _lines(version: str, groups: dict[str, str]) -> Iterator[str]:
    yield _HEAD.format(version=version)
    yield from (f"{letter} {characters}\n" for letter, characters in groups.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the table from the file that is named; 2 when it is not one."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) not in (1, 2):
        print("give the path of UTS 39's confusables.txt, and where to write if not into the package", file=sys.stderr)
        return 2
    out = Path(arguments[1]) if len(arguments) == 2 else OUT
    try:
        version, prototypes = parse_confusables(Path(arguments[0]).read_text("utf-8").splitlines())
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    out.write_text("".join(_lines(version, compact(prototypes))), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
