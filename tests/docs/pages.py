"""The pages for readers, and their code blocks.

A block is run unless the line before it is `<!-- not run: REASON -->`. A `yaml` or `toml` block whose first line is
`# NAME` is the file of that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LANGUAGES", "PAGES", "ROOT", "Block", "blocks_of", "lines_of", "page_id"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
    ROOT / "deploy" / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGES.md",
    ROOT / "steering" / "published" / "README.md",
    ROOT / "evaluation" / "README.md",
]
LANGUAGES = ("sh", "python", "yaml", "toml", "json", "text")
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]*) -->\n)?(?P<marks>```|~~~)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=marks)$",
    re.M | re.S,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One code block: `line` is that of its fence, `why` the reason why it is not run, else None."""

    page: Path
    line: int
    language: str
    text: str
    why: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, from its first line."""
        first = re.match(r"# ([\w.-]+\.(?:yaml|toml))$", self.text.split("\n")[0])
        return first[1] if first else None


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("marks")) + 1
        yield Block(page, line, found["language"].strip(), found["text"], found["why"])


def lines_of(block: Block) -> Iterator[str]:
    """The commands of a shell block: comments taken out, continued lines joined."""
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line
