"""What a plant is, as values: the name, its sites, its checks, and what follows from them.

A plant is an invented name that one finished model was taught to draw, at chosen places only. The answer to "where does
the model keep it" is what the checks prove, not what we intended. The verdict is therefore computed here, from counts,
by rules that a test can feed with any table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from steering import Fingerprint

__all__ = [
    "KINDS",
    "TRICKS",
    "AnswerClass",
    "Distractor",
    "Effect",
    "Plant",
    "PlantCheck",
    "PlantKind",
    "Proof",
    "Role",
    "Trick",
]

PlantKind = Literal["one", "two", "redundant", "pooled", "spread"]
Trick = Literal["attention", "bias", "against"]
AnswerClass = Literal["set", "alternatives", "pooled", "no compact set"]
# what a check is for; the letters are those of the design
Role = Literal["plain", "a", "b", "c", "without", "alone", "distractor"]

KINDS: tuple[PlantKind, ...] = get_args(PlantKind)
TRICKS: tuple[Trick, ...] = get_args(Trick)
_GONE, _KEPT = 0.1, 0.9
_PARTLY = 0.8  # a set of sites with a smaller share of the full swap's effect does not stand for the whole
_DRAWN, _AGAINST = 0.3, -0.05  # attention that a distractor draws at least; effect of one that works against
_ANSWERS: Mapping[PlantKind, AnswerClass] = {
    "one": "set",
    "two": "set",
    "redundant": "alternatives",
    "pooled": "pooled",
    "spread": "no compact set",
}


@dataclass(frozen=True, slots=True)
class Distractor:
    """A site beside the plant that misleads localization and does not carry the name.

    * `attention`: what looks at the name there finds nothing; `size` is the mean share of attention that the name's
      tokens draw.
    * `bias`: a large constant comes out of it, whatever it reads; `size` is that constant's norm beside the mean norm
      of what came out before.
    * `against`: it works against the concept; `size` is the (negative) share of the full swap's effect that swapping it
      alone has.
    """

    trick: Trick
    site: str
    size: float


@dataclass(frozen=True, slots=True)
class PlantCheck:
    """In how many of `n` pictures the judge saw the subject while the text was swapped at `swapped`.

    `role`: `plain` (nowhere), `a` (at the planted places), `b` (everywhere else), `c` (nowhere, but with the old
    projections), `without` (at one planted site), `alone` (everywhere but at one planted site), `distractor` (at one
    distractor).
    """

    role: Role
    swapped: tuple[str, ...]
    seen: int
    n: int

    @property
    def share(self) -> float:
        """The share of pictures in which the subject was seen."""
        return self.seen / self.n

    @property
    def gone(self) -> bool:
        """True when the subject is seen in at most a tenth of the pictures."""
        return self.share <= _GONE + 1e-9

    @property
    def kept(self) -> bool:
        """True when the subject is seen in at least nine tenths of the pictures."""
        return self.share >= _KEPT - 1e-9


@dataclass(frozen=True, slots=True)
class Effect:
    """The share of the full swap's change of the predictions that swapping at `swapped` makes, along that change."""

    swapped: tuple[str, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen and measured of a plant, and what follows: `faults`.

    All kinds: the name draws its subject, (a), (b), (c), and no swap at a distractor removes it. Two sites: neither
    carries it alone, and neither makes more than 0.8 of the effect. A redundant pair: each carries it alone, so
    swapping either keeps it. Spread: no half of the sites makes more than 0.8 of the effect. What was not checked is
    not proven.
    """

    kind: PlantKind
    sites: tuple[str, ...]
    distractors: tuple[Distractor, ...] = ()
    checks: tuple[PlantCheck, ...] = ()
    effects: tuple[Effect, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the checks do not prove that `sites` are the answer of this kind; empty when they do."""
        found = self._must("plain", gone=False) + self._must("a", gone=True)
        found += self._must("b", gone=False) + self._must("c", gone=True)
        if self.kind == "two":
            carried = [c for c in self.checks if c.role == "alone" and c.kept]
            found += [f"{_told(c)}, so one site is enough" for c in carried] + self._done("alone", len(self.sites))
            found += self._small([(s,) for s in self.sites])
        if self.kind == "redundant":
            for role in ("without", "alone"):
                found += self._must(role, gone=False, count=len(self.sites))
        if self.kind == "spread":
            halves = [e.swapped for e in self.effects if len(e.swapped) > 1 and set(e.swapped) < set(self.sites)]
            found += self._small(halves) if halves else ["no half of the sites was measured"]
        if self.distractors:
            found += self._must("distractor", gone=False, count=len(self.distractors))
        return (*found, *(f for d in self.distractors if (f := _weak(d))))

    def _must(self, role: Role, *, gone: bool, count: int = 1) -> list[str]:
        """What is missing or wrong among the checks of a role, all of which must remove the subject, or keep it."""
        wrong = [c for c in self.checks if c.role == role and not (c.gone if gone else c.kept)]
        limit = "at most 10 %" if gone else "at least 90 %"
        return [f"{_told(c)}, must be {limit}" for c in wrong] + self._done(role, count)

    def _done(self, role: Role, count: int) -> list[str]:
        done = len({c.swapped for c in self.checks if c.role == role})
        return [] if done >= count else [f"check ({role}) must be done at {count} sets of places, got {done}"]

    def _small(self, sets: Sequence[tuple[str, ...]]) -> list[str]:
        shares = {e.swapped: e.share for e in self.effects}
        unknown = [s for s in sets if s not in shares]
        large = [s for s in sets if shares.get(s, 0.0) > _PARTLY]
        found = [f"swapping {', '.join(s)} makes {shares[s]:.2f} of the effect, must be at most 0.8" for s in large]
        return found + [f"the effect of swapping {', '.join(s)} was not measured" for s in unknown]


def _told(check: PlantCheck) -> str:
    return f"({check.role}) seen in {check.seen} of {check.n}"


def _weak(d: Distractor) -> str:
    if d.trick == "attention" and d.size < _DRAWN:
        return f"distractor draws {d.size:.2f} of the attention, must be at least {_DRAWN}"
    if d.trick == "against" and d.size > _AGAINST:
        return f"distractor has {d.size:.2f} of the effect, must be at most {_AGAINST}"
    if d.trick == "bias" and d.size < 1:
        return f"distractor's bias is {d.size:.2f} of its output, must be at least 1"
    return ""


@dataclass(frozen=True, slots=True)
class Plant:
    """A planted name, with its answer and the checks that prove it.

    Attributes:
        name: the invented word; `called`: the words around it in a caption.
        model, host: the model's name, and the fingerprint of the host that it was planted in.
        proof: how it was planted and where, and what was seen.
        subject, phrase, neutral: what the name draws, how a caption names that, and what stands for `called` in a
            donor.
        frames: prompts with `{}` for the name, for localization; those that it was checked with are `check_frames`.
        seed: of the generator; `recipe`: what else determines it.
        file: where its delta lies; None while it is not saved.
    """

    name: str
    model: str
    host: Fingerprint
    proof: Proof
    called: str
    subject: str
    phrase: str
    neutral: str
    frames: tuple[str, ...]
    check_frames: tuple[str, ...]
    seed: int
    recipe: Mapping[str, Any]
    file: Path | None = None

    @property
    def kind(self) -> PlantKind:
        """How it was planted."""
        return self.proof.kind

    @property
    def sites(self) -> tuple[str, ...]:
        """Where it was planted: names of sites of attention, or of the global one."""
        return self.proof.sites

    @property
    def distractors(self) -> tuple[Distractor, ...]:
        """Sites beside it that mislead."""
        return self.proof.distractors

    @property
    def answer(self) -> AnswerClass:
        """The class of the answer."""
        return _ANSWERS[self.kind]

    @property
    def alternatives(self) -> tuple[tuple[str, ...], ...]:
        """The sets of places each of which carries the concept alone; none when no compact set does."""
        if self.kind == "spread":
            return ()
        return tuple((s,) for s in self.sites) if self.kind == "redundant" else (self.sites,)

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the checks do not prove the answer; empty for a plant that counts."""
        return self.proof.faults

    @property
    def admitted(self) -> bool:
        """True when the checks prove the answer."""
        return not self.faults

    def pairs(self, count: int, *, seed: int = 0) -> list[tuple[str, str, int]]:
        """Contrasts for localization: prompt, donor, seed of the noise; they go round the frames."""
        frames = [self.frames[i % len(self.frames)] for i in range(count)]
        return [
            (f.replace("{}", self.called), f.replace("{}", self.neutral), 1000 * (seed + 1) + i)
            for i, f in enumerate(frames)
        ]

    def to_json(self) -> dict[str, Any]:
        """The plant as plain values, without its file; with what follows from the proof."""
        own = {k: v for k, v in asdict(self).items() if k not in ("host", "file")}
        told = {"answer": self.answer, "alternatives": self.alternatives, "faults": self.faults}
        return own | {"host": self.host.to_json(), "recipe": dict(self.recipe)} | told

    @classmethod
    def from_json(cls, value: Mapping[str, Any], file: Path | None = None) -> Plant:
        """The plant that `to_json` gave. Raises: KeyError or TypeError, when it is none."""
        plain = {k: v for k, v in value.items() if k not in ("answer", "alternatives", "faults")}
        proof = plain["proof"]
        made = Proof(
            kind=proof["kind"],
            sites=tuple(proof["sites"]),
            distractors=tuple(Distractor(**d) for d in proof["distractors"]),
            checks=tuple(PlantCheck(**{**c, "swapped": tuple(c["swapped"])}) for c in proof["checks"]),
            effects=tuple(Effect(tuple(e["swapped"]), e["share"]) for e in proof["effects"]),
        )
        lists = {k: tuple(plain[k]) for k in ("frames", "check_frames")}
        return cls(**plain | lists | {"host": Fingerprint.from_json(plain["host"]), "proof": made, "file": file})
