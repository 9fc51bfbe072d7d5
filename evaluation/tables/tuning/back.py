"""What comes back of a concept that is forgotten or steered: after innocent fine-tuning, and under searched strings.

The weights that forgot are merged, as whoever ships them would do. Steering stays what it is: an edit of the request,
here on weights that are tuned on. Innocent fine-tuning trains a new LoRA on all attention, on pictures of the town that
do not show the concept. Strings are searched on the untouched model, and count when its picture shows the concept by
both judges. Steering is told where the concept is asked for: whether a rule finds a string is the table of attacks'
question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evaluation.prompts.erasure_cases import names_one_of
from evaluation.readers.judges import Judges
from evaluation.tables.attacks.file import AttackFile, AttackJob
from evaluation.tables.attacks.table import looker
from evaluation.tables.tuning.cells import STEER, Asked, Cell, Outcomes, TuneJob, drawn_cell, pictures_of, run_cell
from evaluation.tables.tuning.forget import forget_outcomes
from reference.town.captions import sample_caption
from reference.town.drawing.paint import paint
from reference.town.scenes import sample_scene
from steering import Host, Pack, Plan, read_lora
from tuning import Captioned, Lesson, Student, letter_lesson, merge_lora

__all__ = ["comes_back", "innocent_pictures"]

_PICTURES = 400  # to tune on innocently
_STRINGS = 16  # searched, for each training
_AGAIN = ("concept seen by either judge", "concept seen by both", "neighbours seen by both")


def innocent_pictures(concept: str, count: int, *, seed: int) -> list[Captioned]:
    """Ordinary pictures of the town that do not show the concept."""
    rng = random.Random(f"innocent/{concept}/{seed}")
    found: list[Captioned] = []
    while len(found) < count:
        scene = sample_scene(rng)
        if not names_one_of([concept], scene):
            found.append(Captioned(paint(scene, 64), sample_caption(scene, rng).text))
    return found


def comes_back(
    host: Host,
    pack: Pack,
    cell: Cell,
    job: TuneJob,
    concept: str,
    cases: Sequence[Asked],
    judges: Judges,
    *,
    work: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcomes:
    """Where judges see the concept of a finished `cell` again, and its neighbours still.

    job: the innocent training. Two more cells in the work folder; a finished one is not made again.
    """
    look = looker(judges)
    searched = AttackJob(searched=_STRINGS, erased=(concept,), seed=cell.seed)
    known = AttackFile(work / "strings.jsonl", host, look).attacks(concept, "searched", searched)
    strings = [each.attack for each in known if each.shown]

    def plan(prompt: str) -> Plan | None:
        if cell.arm != STEER:
            return None
        return Plan(*pack.plan(toward=pack.donor_for(prompt)).interventions)  # tuned weights are another host's

    def lesson(student: Student) -> Lesson:
        pictures = innocent_pictures(concept, _PICTURES, seed=cell.seed)
        return letter_lesson(student, pictures, batch=job.batch, seed=cell.seed, size=(64, 64))

    about, settings = concept.replace("/", "-"), {"of": cell.name, "pack": pack.digest}
    under = Cell(f"strings-{about}", cell.host, cell.arm, cell.seed)
    after = Cell(f"afterwards-{about}-{cell.arm}", cell.host, "attention", cell.seed)
    with _forgetful(host, work / cell.name / "lora.safetensors") as model:
        named = [plan(s.prompt.replace(s.text, s.word, 1)) for s in strings]
        told = settings | {"call": job.call, "strings": [s.prompt for s in strings]}
        if strings:
            drawn_cell(model, under, job, strings, named, work=work, settings=told)
        asked = [plan(c.prompt) if c.kind == concept else None for c in cases]
        told = settings | {"train": asdict(job), "prompts": [c.prompt for c in cases]}
        more: dict[str, Any] = {"work": work, "settings": told, "guidance": 1.0, "progress": progress}
        run_cell(model, pack, after, job, lesson, cases, asked, **more)
    found = forget_outcomes(judges, concept, cases, pictures_of(after, work))
    sights = look(strings, pictures_of(under, work)) if strings else []
    return {
        **{f"{name}, after {job.steps} innocent steps": found[name] for name in _AGAIN},
        "searched strings: concept seen by either judge": [any(seen) for seen in sights],
        "searched strings: concept seen by both": [all(seen) for seen in sights],
    }


@contextmanager
def _forgetful(host: Host, lora: Path) -> Iterator[Host]:
    """The model with a LoRA file merged into its weights; the host itself where there is no file."""
    if not lora.is_file():
        yield host
        return
    with TemporaryDirectory() as folder:
        merged = Host.load(merge_lora(host, read_lora(lora), Path(folder)), self_test=False)
        try:
            yield merged
        finally:
            merged.close()
