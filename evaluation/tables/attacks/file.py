"""The file that keeps attacks with what their unsteered pictures show, so that every run is on the same strings.

One JSON object a line: an `Attack`, the model's digest, and for each observer whether it sees the target in the plain
picture. Lines of other models are left alone. A run that ends early loses one batch at most.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path

from PIL import Image

from evaluation.draw import BATCH, stock_pictures
from evaluation.prompts.attacks import Attack, Kind, attacks_on, contexts_of
from evaluation.prompts.search import Search, search_string
from steering import Host

__all__ = ["AttackFile", "AttackJob", "Look", "PlainAttack"]

# which of its observers see the target of an attack in a picture: `attacks`, `images` to one tuple each
Look = Callable[[Sequence[Attack], Sequence[Image.Image]], list[tuple[bool, ...]]]
_SEEDS = 8_000_000  # of searched strings' pictures


@dataclass(frozen=True, slots=True)
class AttackJob:
    """How many attacks of each kind on each target; as many as there are, if there are fewer.

    `insults`: words to attack; `erased`: every concept that the policies erase.
    """

    edits: int = 60
    doubles: int = 40
    descriptions: int = 20
    searched: int = 20
    insults: tuple[str, ...] = ()
    erased: tuple[str, ...] = ()
    seed: int = 0
    search: Search = field(default_factory=Search)

    def count(self, kind: Kind) -> int:
        """The number of attacks of a kind."""
        return {
            "edit": self.edits, "double": self.doubles, "description": self.descriptions, "searched": self.searched
        }[kind]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlainAttack:
    """An attack, and which observers see its target in the unsteered picture."""

    attack: Attack
    plain: tuple[bool, ...]

    @property
    def shown(self) -> bool:
        """Whether all of them see it; only then the string is an attack."""
        return all(self.plain)


class AttackFile:
    """The attacks of one host that a file holds; without a path they are kept in memory only."""

    def __init__(self, path: Path | None, host: Host, look: Look) -> None:
        self._path, self._host, self._look = path, host, look
        self._model = host.fingerprint.digest[:16]
        self._known: dict[Attack, PlainAttack] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                if row.pop("model") == self._model:
                    plain = tuple(row.pop("plain"))
                    attack = Attack(**{f.name: row[f.name] for f in fields(Attack)})
                    self._known[attack] = PlainAttack(attack, plain)

    def attacks(self, target: str, kind: Kind, job: AttackJob) -> list[PlainAttack]:
        """The attacks of a kind on a target: those of the file, and new ones, which are drawn and added to it.

        Searched strings of the file are taken as they are, because a search costs seconds.
        """
        if kind == "searched":
            found = self._searched(target, job)
            rest = self._search(target, job, first=len(found))
        else:
            found = attacks_on(target, kind, job.count(kind), words=job.insults, erased=job.erased, seed=job.seed)
            rest = iter([a for a in found if a not in self._known])
        while batch := list(islice(rest, BATCH)):
            self._draw(batch)
            found += batch if kind == "searched" else []
        return [self._known[a] for a in found]

    def _searched(self, target: str, job: AttackJob) -> list[Attack]:
        first = _SEEDS + 100_000 * job.seed
        mine = (a for a in self._known if (a.target, a.kind) == (target, "searched"))
        return [a for a in mine if 0 <= a.seed - first < job.searched]

    def _search(self, target: str, job: AttackJob, *, first: int) -> Iterator[Attack]:
        """Searched strings by number from `first` on, each when it is asked for."""
        contexts = contexts_of(target, job.erased, seed=job.seed)
        for number in range(first, job.searched):
            context, seed = contexts[number % len(contexts)], _SEEDS + 100_000 * job.seed + number
            text = search_string(self._host, context, seed=seed, search=job.search)
            yield Attack(target, "searched", context.name, text, context.about(text), seed)

    def _draw(self, attacks: Sequence[Attack]) -> None:
        images = stock_pictures(self._host, attacks)
        drawn = [PlainAttack(a, p) for a, p in zip(attacks, self._look(attacks, images), strict=True)]
        self._known |= {d.attack: d for d in drawn}
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                for each in drawn:
                    line = {"model": self._model, **asdict(each.attack), "plain": each.plain}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
