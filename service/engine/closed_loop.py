"""The closed loop: decide, make, look, and repair until a picture may leave or must not.

The policies' snapshot is taken once; every judgement of a request uses it. Each picture climbs by itself and keeps its
seed. A retry goes to the front of the queue, and none is started that could not end before the deadline. Nothing is
handed out before the last judgement of the last picture.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from policies import Decision, Request, Rung, Signals, Verdict, decide, strictest
from service.engine.blur import blur
from service.engine.image_files import encode
from service.engine.planner import Course, WithoutLettering, choose_course
from service.engine.thread import Form, Job, Made, Queue
from service.errors import DeadlineExceeded
from service.http.requests import GenerationRequest
from service.http.streaming import Progress
from service.metrics.recorder import Recorder
from service.reading.pools import Senses

if TYPE_CHECKING:
    from PIL.Image import Image

    from policies import Snapshot
    from steering import Pack

__all__ = ["ClosedLoop", "Finished", "Outcome", "Picture"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture after its last judgement; the last of the `rungs` climbed for it repaired it, or none did."""

    image: Image
    made: Made
    decision: Decision
    rungs: tuple[Rung, ...] = ()
    replaced: bool = False  # made with the prompt replaced as a whole, because steering was not possible

    @property
    def verdict(self) -> Verdict:
        """The decision's verdict; a picture that was repaired was steered, whatever the rules called it."""
        return strictest([self.decision.verdict, "steer" if self.rungs or self.replaced else "allow"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: refused at a stage, or with pictures. `decision` is the strictest judgement."""

    decision: Decision
    refused: Literal["prompt", "picture"] | None
    pictures: tuple[Picture, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The strictest verdict of the request and its pictures."""
        return strictest([self.decision.verdict, *(p.verdict for p in self.pictures)])


@dataclass(frozen=True, slots=True)
class Finished:
    """An outcome that may leave: the bytes of files in the order of the pictures."""

    outcome: Outcome
    files: tuple[bytes, ...]


@dataclass(slots=True)
class _Trial:
    """What stays the same while one request is judged."""

    asked: GenerationRequest
    request: Request
    snapshot: Snapshot
    signals: Signals
    decision: Decision
    form: Form
    deadline: float
    watch: Progress | None = None
    jobs: list[Job] = field(default_factory=list)


class ClosedLoop:
    """Answers requests with what one worker has: a queue before its engine, senses, and packs by concept."""

    def __init__(
        self,
        queue: Queue,
        senses: Senses,
        packs: Mapping[str, Pack],
        recorder: Recorder,
        *,
        without_lettering: WithoutLettering,
        deadline_seconds: float,
    ) -> None:
        self._queue = queue
        self._senses = senses
        self._packs = packs
        self._recorder = recorder
        self._without_lettering = without_lettering
        self._deadline_seconds = deadline_seconds

    async def judge_prompt(self, request: Request, snapshot: Snapshot) -> tuple[Signals, Decision]:
        """The signals and the decision on a request before anything is made."""
        signals = await self._senses.read_prompt(request)
        with self._recorder.stage("decide"):
            return signals, decide(request, signals, snapshot)

    async def answer(
        self,
        asked: GenerationRequest,
        snapshot: Snapshot,
        request_id: str,
        *,
        tenant: str = "",
        watch: Progress | None = None,
    ) -> Outcome:
        """The outcome for a checked request, told of to `watch` as it is made.

        Raises `Busy`, `DeadlineExceeded` or the engine's error.
        """
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await self._answer(asked, snapshot, request_id, tenant, watch)
        except TimeoutError:
            raise DeadlineExceeded(f"the request was not done in {self._deadline_seconds:g} s") from None

    async def finish(self, outcome: Outcome, asked: GenerationRequest) -> Finished:
        """The outcome with its pictures encoded as they were asked for, off the event loop."""
        form, quality = (
            asked.output_format or "png",
            100 if asked.output_compression is None else asked.output_compression,
        )
        with self._recorder.stage("encode"):
            work = (self._senses.run(partial(encode, p.image, form, quality)) for p in outcome.pictures)
            return Finished(outcome, tuple(await asyncio.gather(*work)))

    async def _answer(
        self, asked: GenerationRequest, snapshot: Snapshot, request_id: str, tenant: str, watch: Progress | None
    ) -> Outcome:
        deadline = time.monotonic() + self._deadline_seconds
        request = Request(asked.prompt, asked.negative_prompt or "", tenant, id=request_id, now=datetime.now(UTC))
        signals, decision = await self.judge_prompt(request, snapshot)
        if decision.refused:
            return Outcome(decision, "prompt")
        with self._recorder.stage("plan"):
            course = self._course(request, decision)
        if course.refused:
            return Outcome(replace(decision, verdict="block"), "prompt")
        trial = _Trial(asked, request, snapshot, signals, decision, _form(asked), deadline, watch)
        pictures = await self._pictures(trial, course)
        worst = max(pictures, key=lambda p: _strictness(p.verdict)).decision
        return Outcome(worst, "picture" if worst.refused else None, pictures)

    def _course(self, request: Request, decision: Decision) -> Course:
        return choose_course(request, decision, self._packs, without_lettering=self._without_lettering)

    async def _pictures(self, trial: _Trial, course: Course) -> tuple[Picture, ...]:
        """All pictures of a request, each after its last judgement; if one fails, the others are given up."""
        assert trial.asked.n is not None  # INVARIANT: `within` filled it
        jobs = [self._job(trial, course, k) for k in range(trial.asked.n)]
        self._queue.put(jobs)
        if trial.watch is not None:
            trial.watch.queued(len(jobs))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._picture(trial, course, job)) for job in jobs]
        except* Exception as failed:
            raise failed.exceptions[0] from None
        finally:
            for job in trial.jobs:
                job.abandoned.set()
        return tuple(task.result() for task in tasks)

    def _job(self, trial: _Trial, course: Course, k: int) -> Job:
        assert trial.asked.seed is not None  # INVARIANT: `within` drew it
        job = Job(
            course.prompt,
            trial.asked.negative_prompt,
            trial.asked.seed + k,
            course.plan,
            trial.form,
            trial.deadline,
            caller=trial.request.tenant,
            on_step=partial(trial.watch.step, k) if trial.watch is not None else None,
        )
        trial.jobs.append(job)
        return job

    async def _picture(self, trial: _Trial, course: Course, job: Job) -> Picture:
        if course.unfit or course.failed:
            self._recorder.fallback("unfit" if course.unfit else "steering")
        made, replaced = await self._make(trial, job, course)
        whole = replaced or course.failed or bool(course.unfit)
        picture = Picture(made.image, made, trial.decision, replaced=whole)
        if not trial.decision.reads:
            return picture
        return await self._climb(trial, await self._judge(trial, picture), job)

    async def _make(self, trial: _Trial, job: Job, course: Course) -> tuple[Made, bool]:
        """The picture of a job, and whether its prompt had to be replaced because steering did not do what it said."""
        from steering import NotFired, SteeringError

        try:
            return await _made(job), False
        except SteeringError as error:
            if job.plan is None or course.donor is None or course.donor == trial.request.prompt:
                raise
            self._recorder.fallback("fired" if isinstance(error, NotFired) else "steering")
            return await self._again(trial, replace(course, prompt=course.donor, plan=None), job.seed), True

    async def _again(self, trial: _Trial, course: Course, seed: int) -> Made:
        """Another picture of the same seed, made before everything that waits."""
        job = Job(course.prompt, trial.asked.negative_prompt, seed, course.plan, trial.form, trial.deadline)
        trial.jobs.append(job)
        self._queue.put_first(job)
        return await _made(job)

    async def _judge(self, trial: _Trial, picture: Picture) -> Picture:
        """The picture with its decision; a rule that the picture itself wakes may ask for another reading."""
        signals, judged, read = trial.signals, picture.decision, frozenset[str]()
        while missing := judged.reads - read:
            signals += await self._senses.read_picture(picture.image, missing)
            read |= missing
            with self._recorder.stage("decide"):
                judged = decide(trial.request, signals, trial.snapshot, stage="picture", before=picture.decision)
        return replace(picture, decision=judged)

    async def _climb(self, trial: _Trial, picture: Picture, first: Job) -> Picture:
        """The picture after the first rung that repairs it, or as the last one left it: refused."""
        extra = 0
        todo = _rungs(picture.decision)
        while todo:
            rung, ladder = todo[0], picture.decision.ladder
            assert ladder is not None  # INVARIANT: there is something to climb
            may = extra < ladder.max_extra_generations and self._in_time(trial, picture)
            began = time.perf_counter()
            tried = await self._try(trial, picture, rung, first, may_generate=may)
            if tried is None:
                todo = todo[1:]
                continue
            extra += rung != "blur"
            picture = await self._judge(trial, tried)
            result: Literal["passed", "failed"] = "failed" if picture.decision.refused else "passed"
            self._recorder.rung(rung, result, time.perf_counter() - began)
            ladder = picture.decision.ladder
            todo = ladder.after(rung) if picture.decision.refused and ladder else ()
        return picture

    async def _try(
        self, trial: _Trial, picture: Picture, rung: Rung, first: Job, *, may_generate: bool
    ) -> Picture | None:
        """The picture that a rung gives, not judged yet; None when the rung has nothing to offer here."""
        if rung == "blur":
            boxes = picture.decision.ladder.boxes if picture.decision.ladder else ()
            if not boxes:
                return None
            with self._recorder.stage("blur"):
                image = await self._senses.run(lambda: blur(picture.image, boxes))
            return replace(picture, image=image, rungs=(*picture.rungs, rung))
        course = self._course(trial.request, picture.decision)
        retry = _retry(course, rung, trial.request.prompt)
        if retry is None or not may_generate or (retry.prompt, retry.plan) == (first.prompt, first.plan):
            return None
        self._recorder.extra_generation()
        made = await self._again(trial, retry, first.seed)
        return replace(picture, image=made.image, made=made, rungs=(*picture.rungs, rung))

    def _in_time(self, trial: _Trial, picture: Picture) -> bool:
        """Whether another picture, twice as slow as the last, would still be done before the deadline."""
        return time.monotonic() + 2 * picture.made.took < trial.deadline


def _strictness(verdict: Verdict) -> int:
    """The verdict's place from the mildest on."""
    from policies import VERDICTS

    return VERDICTS.index(verdict)


def _rungs(decision: Decision) -> tuple[Rung, ...]:
    return decision.ladder.rungs if decision.refused and decision.ladder else ()


def _retry(course: Course, rung: Rung, prompt: str) -> Course | None:
    """What to run for a generating rung, or None. A donor at all sites is the donor's own picture: it is made so."""
    if rung == "wider":
        return replace(course, prompt=prompt, plan=course.wider) if course.wider is not None else None
    if course.donor is None or course.donor == prompt:
        return None
    return replace(course, prompt=course.donor, plan=None)


async def _made(job: Job) -> Made:
    return await asyncio.wrap_future(job.done)


def _form(asked: GenerationRequest) -> Form:
    # INVARIANT: `within` filled them
    assert asked.size is not None
    assert asked.num_inference_steps is not None
    width, height = (int(side) for side in asked.size.split("x"))
    return Form(height, width, asked.num_inference_steps, asked.guidance_scale, bool(asked.negative_prompt))
