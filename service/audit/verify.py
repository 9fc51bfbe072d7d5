"""Verifies the audit log, and finds records in it.

Every line must be, byte for byte, what a worker writes: no second reading of it can differ from the one that is under
the MAC. Then each file is compared with its head and with the files around it. Files of version 1 have neither name nor
head; what cannot be said of them is told.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palimpsest_base.files import read_file
from service.audit.heads import Head, heads_of, read_head
from service.audit.keys import GENESIS, AuditKeys, canonical

__all__ = ["Finding", "find", "verify"]

_LARGEST = 1 << 30  # no file of ours comes near it

Kind = Literal["broken", "key", "missing", "open", "running", "older", "no-heads"]
_FAULTLESS: frozenset[Kind] = frozenset(("running", "older"))


@dataclass(frozen=True, slots=True)
class Finding:
    """What is odd about one file.

    `broken`: a record, the file's name or its length is not what was written. `key`: it was written under another key.
    `missing`: it is gone. `open`: it has no `close` record, and its process has ended. `no-heads`: nothing tells how
    far the files went. What is no fault: `running`, a worker still writes it; `older`, it was moved to an archive.
    """

    file: str
    line: int
    kind: Kind
    text: str

    @property
    def faulty(self) -> bool:
        """Whether the log is not intact."""
        return self.kind not in _FAULTLESS


def verify(*folders: Path, keys: AuditKeys, archived: bool = False) -> tuple[int, list[Finding]]:
    """The number of intact records in a log, and the findings in order of file names.

    `folders`: the log's own, then those that closed files were moved to. The heads are beside the first. With
    `archived`, the oldest files may be elsewhere, and so may the heads.
    """
    heads, findings = _heads(heads_of(folders[0]), keys)
    chains: dict[str, _Chain] = {}
    for file in _files(folders):
        if file.name in chains:
            findings.append(Finding(file.name, 0, "broken", "is there twice"))
        chains[file.name] = _read(file, keys)
    for name, chain in chains.items():
        finding = chain.finding or _unlike_its_head(name, chain, heads) or _unjoined(name, chain, chains)
        findings += [finding] if finding is not None else []
    findings += _gone(chains, heads or {}, archived=archived)
    if heads is None and not archived and any(chain.version > 1 for chain in chains.values()):
        said = "there are no heads beside this folder, so whole files and ends of files may be gone unnoticed"
        findings.append(Finding(str(folders[0]), 0, "no-heads", said))
    if not chains and not heads:
        findings.append(Finding(str(folders[0]), 0, "missing", "holds no log, and no head tells of one"))
    return sum(chain.good for chain in chains.values()), sorted(findings, key=lambda f: (f.file, f.line))


def find(
    *folders: Path,
    keys: AuditKeys,
    decision: str | None = None,
    prompt: str | None = None,
    identifier: str | None = None,
) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """The intact records of a decision id, of a prompt or negative prompt, or of a `safety_identifier` whoever sent it,
    each with its file and line.
    """
    hashed = keys.hashed(prompt) if prompt is not None else None
    for file in _files(folders):
        for number, line in enumerate(_read(file, keys).lines, 1):
            of_prompt = hashed is not None and hashed in (line.get("prompt"), line.get("negative_prompt"))
            of_person = identifier is not None and line.get("safety_identifier") == keys.identified(
                line.get("tenant", ""), identifier
            )
            if of_prompt or of_person or (decision is not None and line.get("decision_id") == decision):
                yield file.name, number, line


@dataclass(slots=True)
class _Chain:
    """One file as it was read: its good records, the MACs before and after each, and the finding that ended it."""

    lines: list[Mapping[str, Any]] = field(default_factory=list)
    macs: list[str] = field(default_factory=lambda: [GENESIS])
    finding: Finding | None = None

    @property
    def good(self) -> int:
        return len(self.lines)

    @property
    def first(self) -> Mapping[str, Any]:
        return self.lines[0] if self.lines else {}

    @property
    def last(self) -> Mapping[str, Any]:
        return self.lines[-1] if self.lines else {}

    @property
    def version(self) -> int:
        return int(self.first.get("v", 2))

    def reaches(self, records: object, mac: object) -> bool:
        """Whether the file has `records` records, and the last of these has this MAC."""
        return isinstance(records, int) and 0 <= records < len(self.macs) and self.macs[records] == mac


def _files(folders: Sequence[Path]) -> list[Path]:
    return sorted((file for folder in folders for file in folder.glob("audit-*.jsonl")), key=lambda file: file.name)


def _read(file: Path, keys: AuditKeys) -> _Chain:
    """The chain in `file`, with at most one finding, because nothing after the first break can be trusted."""
    chain = _Chain()
    try:
        content = read_file(file, _LARGEST)
    except OSError as error:
        chain.finding = Finding(file.name, 0, "broken", f"cannot be read: {error.strerror}")
        return chain
    *texts, rest = content.split(b"\n")
    for number, text in enumerate([*texts, *([rest] if rest else [])], 1):
        why = _added(chain, text, keys)
        if why is None and number > len(texts):
            why = ("broken", "is cut off")
        if why is not None:
            chain.finding = Finding(file.name, number, *why)
            return chain
    if chain.version > 1 and chain.good and chain.first.get("file") != file.name:
        said = f"is the file `{chain.first.get('file')}`: it was renamed or copied"
        chain.finding = Finding(file.name, 1, "broken", said)
    return chain


def _added(chain: _Chain, text: bytes, keys: AuditKeys) -> tuple[Kind, str] | None:
    """What is wrong with the next line of a chain; None, and the line is added, if nothing is."""
    try:
        line = json.loads(text)
        whole = canonical(line)
        mac = line.pop("mac")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return "broken", "is not a record"
    if whole != text:
        return "broken", "is not written as a worker writes it, so it can be read in two ways"
    if not hmac.compare_digest(keys.mac(line), str(mac)):
        key = line.get("key")
        if not chain.good and key is not None and key != keys.id:
            return "key", f"was written under the key `{key}`, and this is `{keys.id}`"
        if not chain.good and key is None:
            return "broken", f"was changed, or was written under another key than `{keys.id}`"
        return "broken", "was changed"
    if line.get("prev") != chain.macs[-1] or line.get("seq") != chain.good:
        return "broken", "does not follow the line before: one was removed, added or moved"
    chain.lines.append(line)
    chain.macs.append(mac)
    return None


def _heads(folder: Path, keys: AuditKeys) -> tuple[dict[str, Head] | None, list[Finding]]:
    """The heads by the names of their files, and what is wrong with others. None if there is no folder of heads."""
    if not folder.is_dir():
        return None, []
    heads: dict[str, Head] = {}
    findings = []
    for path in sorted(folder.glob("audit-*.head")):
        try:
            head = read_head(path, keys)
        except ValueError as error:
            kind: Kind = "key" if "under the key" in str(error) else "broken"
            findings.append(Finding(path.name, 0, kind, str(error)))
        else:
            heads[head.file] = head
    return heads, findings


def _unlike_its_head(name: str, chain: _Chain, heads: Mapping[str, Head] | None) -> Finding | None:
    """Where a file is not as long as its head says, or is not closed."""
    head = None if heads is None else heads.get(name)
    if head is None and heads is not None and chain.version > 1:
        return Finding(name, 0, "broken", "has no head: it was added, or its head is gone")
    if head is not None and not chain.reaches(head.records, head.mac):
        said = f"has {chain.good} records, and {head.records} were written: its end was cut off"
        return Finding(name, chain.good, "broken", said)
    if chain.last.get("event") == "close":
        return None
    if head is not None and head.alive:
        return Finding(name, chain.good, "running", "its worker is running")
    said = "its worker was killed" if head is not None else "its worker was killed, or the end of the file was cut off"
    return Finding(name, chain.good, "open", f"has no `close` record: {said}")


def _unjoined(name: str, chain: _Chain, chains: Mapping[str, _Chain]) -> Finding | None:
    """The problem between a file and the one that it names, or None. A file that is older than all is in an archive."""
    follows = chain.last.get("next")
    if follows is not None and follows not in chains:
        return Finding(name, chain.good, "missing", f"names `{follows}` as the next file, which does not exist")
    after = chain.first.get("after")
    if after is None:
        orphan = chain.version == 1 and any(other.last.get("next") == name for other in chains.values())
        return Finding(name, 1, "broken", "does not follow the file that names it") if orphan else None
    before = chains.get(after.get("file"))
    if before is None:
        older = after.get("file") < min(chains)
        said = f"follows `{after.get('file')}`, which does not exist"
        return None if older else Finding(name, 1, "missing", said)
    records = after.get("records", before.good)
    if before.finding is None and not before.reaches(records, after.get("mac")):
        return Finding(name, 1, "broken", f"does not follow `{after.get('file')}`, which lost or changed records")
    return None


def _gone(chains: Mapping[str, _Chain], heads: Mapping[str, Head], *, archived: bool) -> Iterator[Finding]:
    """The files that have a head and are not there."""
    oldest = min(chains, default="")
    gone = [head for name, head in sorted(heads.items()) if name not in chains]
    older = [head for head in gone if archived and head.file < oldest]
    if older:
        records = sum(head.records for head in older)
        said = f"this file and {len(older) - 1} others, {records} records in all, are not here"
        yield Finding(older[0].file, 0, "older", said)
    for head in gone:
        if head not in older:
            said = f"is gone, with {head.records} records" + ("; its worker is running" if head.alive else "")
            yield Finding(head.file, 0, "missing", said)
