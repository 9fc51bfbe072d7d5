"""Makes plants one after another: drafts, teaches, checks and saves them. Finished plants are not made again.

Admitted plants become files. Every draft, admitted or not, becomes a line of `ledger.jsonl` beside them, with what its
checks showed, so the table can count the rejected ones.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from reference.planted.check import PlantChecker, effects
from reference.planted.delta import BadPlant, Delta, applied, save_plant
from reference.planted.directions import directions_of
from reference.planted.distract import can_distract, drawn_attention, loud_bias, loud_keys
from reference.planted.drafts import Draft, drafts, goals_for
from reference.planted.lessons import Lessons, Runs, prepare
from reference.planted.places import PlantSite, denoiser_of, family_of, places_of
from reference.planted.plant import TRICKS, Distractor, Effect, Plant, PlantCheck, Proof
from reference.planted.teach import TeachingSettings, teach
from reference.planted.words import BEHIND, SUBJECT, Theme, load_judge, theme_of
from steering import Call, Fingerprint, Host

__all__ = ["LEDGER", "Maker", "PlantRecipe", "read_ledger"]

LEDGER = "ledger.jsonl"
_VERSION = "6"
_ABLE = 0.02  # of the full swap's effect: below it a U-Net's sites were taught nothing, PixArt's only some of the time
_ASKED = 4  # subjects that sites are asked about


@dataclass(frozen=True, slots=True)
class PlantRecipe:
    """How plants of a host are made and checked.

    Attributes:
        frames: to teach with, and later to localize with; `pictures` of a check, `fewer` of those about single sites.
        steps: of the pipeline, for pictures.
    """

    settings: TeachingSettings = field(default_factory=TeachingSettings)
    frames: int = 20  # of six, a name learned the backgrounds: it was drawn in a third to nine tenths of the others
    pictures: int = 20
    fewer: int = 10
    steps: int = 10


class Maker:
    """Makes the plants of one host; what they share is computed once."""

    def __init__(self, host: Host, *, recipe: PlantRecipe | None = None, log: Callable[[str], None] = print) -> None:
        self.host, self.recipe, self.log = host, recipe or PlantRecipe(), log
        self.places: dict[str, PlantSite] = places_of(host)
        self.see = load_judge()
        self.runs = Runs(host)
        self.fingerprint = host.fingerprint

    def frames(self, theme: Theme) -> tuple[str, ...]:
        """A theme's prompts with `{}` to teach and to localize with."""
        return theme.frames(self.recipe.frames, random.Random(f"frames/{self.host.name}"), False)

    def _checker(self, theme: Theme, words: str, *, checked: bool = True) -> PlantChecker:
        """Pictures of words in a theme's prompts."""
        rng = random.Random(f"check/{self.host.name}")
        frames = theme.frames(self.recipe.pictures, rng, True) if checked else self.frames(theme)
        return PlantChecker(self.host, self.places, words, theme.neutral, frames, self.see, self.recipe.steps)

    def able(self, theme: Theme = SUBJECT) -> tuple[str, ...]:
        """What the host draws well in the frames that a plant is checked with, when it is asked for by its own words:
        a name can be taught no more than that (nobody sees a green turtle on green)."""
        found = []
        for drawn, phrase in theme.phrases.items():
            seen = self._checker(theme, phrase).check("plain", (), drawn, gone=False)
            found += [drawn] if seen.kept else []
        self.log(f"draws {len(found)} of {len(theme.phrases)} well: {', '.join(found)}")
        return tuple(found)

    def able_sites(self, subjects: Sequence[str]) -> tuple[str, ...]:
        """The sites where a subject's own text makes a part of its picture, in the mean of a few subjects. The
        others are left out to save drafts: a U-Net draws subjects by one site and was taught nothing elsewhere."""
        asked = subjects[:: max(1, len(subjects) // _ASKED)]
        shares = dict.fromkeys((n for n, place in self.places.items() if not place.pooled), 0.0)
        for subject in asked:
            checker = self._checker(SUBJECT, SUBJECT.phrases[subject], checked=False)
            found = effects(checker, self._captured(checker, checker.frames[:2]), [(name,) for name in shares])
            shares = {name: was + now / len(asked) for (name, was), now in zip(shares.items(), found, strict=True)}
        able = tuple(name for name, share in shares.items() if share >= _ABLE)
        self.log(f"draws them at {len(able)} of {len(shares)} sites: {', '.join(able)}")
        return able

    def drafts(
        self, *, count: int, seed: int, kinds: Sequence[str] = (), subjects: Sequence[str] = ()
    ) -> tuple[Draft, ...]:
        """What the generator gives for this host; of `subjects`, or of those that it is `able` to draw.

        Raises: BadPlant, where it draws none of them.
        """
        subjects = subjects or self.able()
        if not subjects:
            raise BadPlant(f"`{self.host.name}` must draw at least one of {', '.join(SUBJECT.phrases)}, and draws none")
        sites = [name for name, place in self.places.items() if not place.pooled]
        pooled = next((name for name, place in self.places.items() if place.pooled), None)
        wanted = pooled is not None and (not kinds or "pooled" in kinds)
        tricks = {t: [name for name in sites if can_distract(self.places[name], t)] for t in TRICKS}
        return drafts(
            sites=sites,
            pooled=pooled,
            tricks=tricks,
            model=self.host.name,
            count=count,
            seed=seed,
            kinds=kinds,
            subjects=subjects,
            behind=self.able(BEHIND) if wanted else (),
            able=self.able_sites(subjects),
        )

    def make_all(self, todo: Sequence[Draft], folder: Path) -> list[dict[str, Any]]:
        """The ledger after each draft that it did not have yet is made; admitted plants are files in `folder`.

        Raises: BadPlant, before anything is made, where the folder's plants were made in another model or for other
            weights.
        """
        folder.mkdir(parents=True, exist_ok=True)
        made = read_ledger(folder)
        for row in made:
            if differ := Fingerprint.from_json(row["host"]).differences(self.fingerprint):
                raise BadPlant(
                    f"`{folder}` must hold plants of this model or none, got `{row['name']}` of another"
                    f" ({', '.join(differ)} differ); give another folder, or remove this one"
                )
        done = {(row["name"], row["seed"]) for row in made}
        for number, draft in enumerate(todo, 1):
            if (draft.name, draft.seed) in done:
                self.log(f"{number}/{len(todo)} {draft.name}: finished before")
                continue
            began = time.process_time()
            plant, delta = self.make(draft)
            if plant.admitted:
                plant = save_plant(plant, delta, folder)
            verdict = "admitted" if plant.admitted else "rejected: " + "; ".join(plant.faults)
            self.log(f"{number}/{len(todo)} {draft.name} ({draft.label}, {draft.subject}): {verdict}")
            row = {**plant.to_json(), "label": draft.label, "seconds": round(time.process_time() - began, 1)}
            for frames in ("frames", "check_frames"):  # the files of plants have them; for a draft they are drawn again
                del row[frames]
            with (folder / LEDGER).open("a", encoding="utf-8") as ledger:
                ledger.write(json.dumps(row, sort_keys=True) + "\n")
        return read_ledger(folder)

    def make(self, draft: Draft) -> tuple[Plant, Delta]:
        """A plant with its proof, and its delta as a file would give it back; the host is as it was before."""
        theme = theme_of(draft.subject)
        called = theme.called(draft.name)
        checker = self._checker(theme, called)
        stock = checker.check("c", (), draft.subject, gone=True)
        if not stock.gone:  # the word draws its subject as it is: nothing to teach
            return self._plant(draft, checker, Proof(draft.kind, draft.sites, checks=(stock,))), Delta()
        device = next(denoiser_of(self.host).parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            lessons = self._lessons(draft, called)
            delta, loud, size = self._taught(draft, lessons)
        proof = self._proven(draft, checker, delta.rounded(), loud, size, stock)
        return self._plant(draft, checker, proof), delta.rounded()

    def _plant(self, draft: Draft, checker: PlantChecker, proof: Proof) -> Plant:
        theme = theme_of(draft.subject)
        return Plant(
            name=draft.name,
            model=self.host.name,
            host=self.fingerprint,
            proof=proof,
            called=checker.called,
            subject=draft.subject,
            phrase=theme.phrases[draft.subject],
            neutral=theme.neutral,
            frames=self.frames(theme),
            check_frames=tuple(checker.frames),
            seed=draft.seed,
            recipe=self._record(),
        )

    def _lessons(self, draft: Draft, called: str) -> Lessons:
        theme = theme_of(draft.subject)
        frames = self.frames(theme)
        ordinary = [
            frames[i % len(frames)].replace("{}", words)
            for i, words in enumerate((*theme.phrases.values(), *theme.spared))
        ]
        ordinary += theme.beside
        phrase = theme.phrases[draft.subject]
        taught = (*frames, *theme.elsewhere)
        return prepare(self.runs, taught, name=called, phrase=phrase, neutral=theme.neutral, ordinary=ordinary)

    def _taught(self, draft: Draft, lessons: Lessons) -> tuple[Delta, Delta, float]:
        """The whole delta, the part of it that is a distractor's and not taught, and that one's size."""
        settings, family, denoiser = self.recipe.settings, family_of(self.host), denoiser_of(self.host)
        settings = settings.for_kind(draft.kind, distracted=draft.distractor is not None, joint=self.host.joint)
        places, some = dict(self.places), torch.arange(0, lessons.pupils.count, 4)
        rows = lessons.pupils.take(some, family)
        listening = [*draft.sites, *([draft.distractor] if draft.trick in ("attention", "against") else [])]
        into = directions_of(
            self.host,
            denoiser,
            [places[str(name)] for name in listening],
            named=rows,
            others=lessons.others,
            rank=settings.rank,
        )
        fixed, size, at = Delta(), 0.0, draft.distractor
        if draft.trick == "bias" and at is not None:
            fixed, size = loud_bias(self.host, places[at], rows, seed=draft.seed)
        if draft.trick == "attention" and at is not None:
            fixed = loud_keys(self.host, places[at], into[at], rows)
            values = dict(list(places[at].readers.items())[1:])
            places[at] = replace(places[at], readers=values)  # keys are given, values are taught
        with applied(self.host, fixed):
            goals = goals_for(draft, places=list(places))
            taught = teach(
                self.host, places, lessons, into=into, goals=goals, settings=settings, seed=draft.seed, log=self.log
            )
        delta = taught.joined(fixed)
        if draft.trick == "attention" and at is not None:
            with applied(self.host, delta):
                size = drawn_attention(self.host, self.places[at], into[at], rows)
        return delta, fixed, size

    def _proven(
        self, draft: Draft, checker: PlantChecker, delta: Delta, loud: Delta, size: float, stock: PlantCheck
    ) -> Proof:
        """What the pictures of the finished model show; ends at the first check that fails."""
        rest = tuple(name for name in self.places if name not in draft.sites)
        few = self.recipe.fewer
        known = ((draft.trick, draft.distractor),) if draft.trick and draft.distractor else ()
        proof = Proof(draft.kind, draft.sites, tuple(Distractor(t, s, round(size, 3)) for t, s in known))
        subject, checks = draft.subject, list[PlantCheck]()
        with applied(self.host, delta):
            wanted: list[tuple[Any, tuple[str, ...], bool, int]] = [("plain", (), False, 0), ("b", rest, False, 0)]
            wanted += [("a", draft.sites, True, 0)]
            wanted += [("distractor", (s,), False, few) for _, s in known]
            if draft.kind == "redundant":
                wanted += [("without", (s,), False, few) for s in draft.sites]
                wanted += [("alone", self._all_but(s), False, few) for s in draft.sites]
            for role, swapped, gone, n in wanted:
                checks.append(checker.check(role, swapped, subject, gone=gone, n=n))
                if not (checks[-1].gone if gone else checks[-1].kept):
                    return replace(proof, checks=tuple(checks))
            if draft.kind == "two":
                checks += [checker.check("alone", self._all_but(s), subject, gone=None, n=few) for s in draft.sites]
            found = self._effects(draft, checker)
        checks.append(stock)
        if draft.trick == "against" and draft.distractor is not None:
            share = next(e.share for e in found if e.swapped == (draft.distractor,))
            proof = replace(proof, distractors=(Distractor("against", draft.distractor, share),))
        return replace(proof, checks=tuple(checks), effects=found)

    def _all_but(self, site: str) -> tuple[str, ...]:
        return tuple(name for name in self.places if name != site)

    def _effects(self, draft: Draft, checker: PlantChecker) -> tuple[Effect, ...]:
        """Effects of each place alone, of the planted places, and of halves of a spread plant's."""
        single = [(name,) for name in self.places]
        sets: list[tuple[str, ...]] = [*single, *([draft.sites] if len(draft.sites) > 1 else [])]
        calls = self._captured(checker, checker.frames[:3])
        if draft.kind == "spread":
            sets += self._halves(draft, checker, calls)
        shares = effects(checker, calls, sets)
        return tuple(Effect(s, round(share, 3)) for s, share in zip(sets, shares, strict=True))

    def _captured(self, checker: PlantChecker, frames: Sequence[str]) -> list[tuple[str, Call]]:
        """Early calls of what the checker is about, with their frames."""
        calls: list[tuple[str, Call]] = []
        for frame in frames:
            prompt = frame.replace("{}", checker.called)
            some = self.host.capture(prompt, seed=1, at=(0.0, 0.2), num_inference_steps=checker.steps)
            calls += [(frame, call) for call in some]
        return calls

    def _halves(self, draft: Draft, checker: PlantChecker, calls: Sequence[Any]) -> list[tuple[str, ...]]:
        """The half of the host's sites that alone do most, and two random ones."""
        size = sum(not place.pooled for place in self.places.values()) // 2
        alone = dict(zip(draft.sites, effects(checker, calls, [(s,) for s in draft.sites]), strict=True))
        best = sorted(draft.sites, key=lambda s: -alone[s])[:size]
        rng = random.Random(f"halves/{draft.seed}")
        halves = [best, rng.sample(draft.sites, size), rng.sample(draft.sites, size)]
        return [tuple(s for s in draft.sites if s in half) for half in halves]

    def _record(self) -> Mapping[str, Any]:
        settings, own = self.recipe.settings, self.recipe
        return {
            "version": _VERSION,
            "frames": own.frames,
            "steps": settings.steps,
            "states": settings.states,
            "lr": settings.lr,
            "rank": settings.rank,
            "pictures": own.pictures,
            "pipeline steps": own.steps,
            "torch": torch.__version__,
        }


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder's ledger, in the order in which they were made; none when there is no ledger."""
    file = folder / LEDGER
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines if line.strip()]
