"""Who looks at a world's pictures, and the prompts that its tables are made on: what differs between the worlds.

The rows on lettering and on erased concepts are one code; a world gives its prompt sets, where its signs stand, and
its readers and judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from evaluation import cases, town_cases
from reference.paint import sign_box
from reference.town.layout import sign_box as town_sign_box
from reference.worlds import World

__all__ = ["FIRST", "TOWN", "AnyCase", "Eyes", "Judges", "Reads", "Sees", "Sets", "eyes_of"]

Box = tuple[int, int, int, int]
Read = Callable[[Image.Image], str]


class AnyCase(Protocol):
    """A prompt, the scene that it describes, and the seed of its picture."""

    @property
    def prompt(self) -> str: ...
    @property
    def scene(self) -> Any: ...
    @property
    def seed(self) -> int: ...


class Sees(Protocol):
    """What a judge sees in one picture."""

    @property
    def scores(self) -> Mapping[str, float]: ...
    def agrees(self, scene: Any, /) -> dict[str, bool]: ...


class Judges(Protocol):
    """A judge of a world."""

    def look(self, images: Sequence[Image.Image], /) -> Sequence[Sees]: ...
    def scores(self, images: Sequence[Image.Image], /) -> list[dict[str, float]]: ...


class Reads(Protocol):
    """A reader of a world's signs."""

    def read(self, images: Sequence[Image.Image], /) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Sets:
    """A world's prompt sets, and how its scenes are compared.

    Attributes:
        lettering: (words, count, seed) to cases whose sign says one of the words.
        benign: (count, seed) to cases that no shipped rule should touch.
        concept: (concept, count, seed) to cases that show the concept.
        sign_box: where a scene's sign stands in a picture of a width, if it has one.
        kept: the facts that a repair must keep.
        ground: the fact that an erased subject must keep.
    """

    lettering: Callable[[Sequence[str], int, int], Sequence[AnyCase]]
    benign: Callable[[int, int], Sequence[AnyCase]]
    concept: Callable[[str, int, int], Sequence[AnyCase]]
    sign_box: Callable[[Any, int], Box | None]
    kept: tuple[str, ...]
    ground: str


FIRST = Sets(
    lettering=lambda words, count, seed: cases.lettering_cases(words, count, seed=seed),
    benign=lambda count, seed: cases.benign_cases(count, seed=seed),
    concept=lambda concept, count, seed: cases.concept_cases(concept, count, seed=seed),
    sign_box=sign_box,
    kept=("subject", "colour", "background"),
    ground="background",
)
TOWN = Sets(
    lettering=lambda words, count, seed: town_cases.lettering_cases(words, count, seed=seed),
    benign=lambda count, seed: town_cases.benign_cases(count, seed=seed),
    concept=lambda concept, count, seed: town_cases.concept_cases(concept, count, seed=seed),
    sign_box=town_sign_box,
    kept=("subject", "colour", "ground"),
    ground="ground",
)


@dataclass(frozen=True, slots=True)
class Eyes:
    """Who looks: the independent reader, the judge, the service's own kind of reader, and a second judge.

    The service asks the first judge about concepts, so figures on erased concepts need the second.
    """

    reader: Reads
    judge: Judges
    ocr: Read | None = None
    second: Judges | None = None
    sets: Sets = FIRST


def eyes_of(world: World, *, ocr: Read | None = None) -> Eyes:
    """The readers and judges that come with the repository for a world."""
    if world == "town":
        from evaluation.town_reader import TownReader
        from reference.town.judge import TOWN_SECOND_JUDGE, TownJudge

        return Eyes(TownReader.load(), TownJudge.load(), ocr, TownJudge.load(TOWN_SECOND_JUDGE), TOWN)
    from evaluation.reader import Reader
    from reference.judge import SECOND_JUDGE, Judge

    return Eyes(Reader.load(), Judge.load(), ocr, Judge.load(SECOND_JUDGE))
