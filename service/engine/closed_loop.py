"""The closed loop: decide, generate, judge, and repair each picture until it may be returned or is refused.

The policy snapshot is taken once per request, and every judgement of that request uses it. Each picture is repaired
independently and keeps its seed. A retry goes to the front of the queue. It starts only if it can finish before the
deadline. No picture is returned before the last picture has been judged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from policies import VERDICTS, Decision, Request, Rung, Signal, Signals, Verdict, concept_of, decide, sentinel_of
from service.engine.blur import blur
from service.engine.outcome import Finished, Outcome, Picture
from service.engine.planner import Repair, WithoutLettering, choose_repair
from service.engine.queue import BatchKey, Job, Made, Queue, Woken
from service.errors import DeadlineExceeded
from service.image_files import encode
from service.metrics.recorder import Recorder
from service.order import Order, Progress
from service.reading.pools import DetectorPools

if TYPE_CHECKING:
    from policies import Snapshot, Stage
    from service.engine.adapters import Adapter
    from steering import Pack, Sentinel

__all__ = ["ClosedLoop"]


@dataclass(slots=True)
class _Trial:
    """What stays the same while one request is judged."""

    order: Order
    request: Request
    snapshot: Snapshot
    signals: Signals
    decision: Decision
    key: BatchKey
    deadline: float
    sentinels: tuple[Sentinel, ...]
    adapter: Adapter | None = None
    progress: Progress | None = None
    jobs: list[Job] = field(default_factory=list)


class ClosedLoop:
    """Answers requests with the queue, detectors and packs of one worker."""

    def __init__(
        self,
        queue: Queue,
        readers: DetectorPools,
        packs: Mapping[str, Pack],
        recorder: Recorder,
        *,
        without_lettering: WithoutLettering,
        deadline_seconds: float,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        self._queue = queue
        self._readers = readers
        self._packs = packs
        self._recorder = recorder
        self._without_lettering = without_lettering
        self._deadline_seconds = deadline_seconds
        self._adapters = adapters or {}

    async def judge_prompt(self, request: Request, snapshot: Snapshot) -> tuple[Signals, Decision]:
        """The signals and the decision for a request before any picture is generated."""
        signals = await self._readers.read_prompt(request)
        with self._recorder.stage("decide"):
            return signals, decide(request, signals, snapshot)

    async def answer(
        self,
        order: Order,
        snapshot: Snapshot,
        request_id: str,
        *,
        tenant: str = "",
        progress: Progress | None = None,
    ) -> Outcome:
        """The outcome of an order. `progress` receives its progress.

        Raises `Busy`, `DeadlineExceeded` or the engine's error.
        """
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await self._answer(order, snapshot, request_id, tenant, progress)
        except TimeoutError:
            raise DeadlineExceeded(f"the request did not finish within {self._deadline_seconds:g} s") from None

    async def finish(self, outcome: Outcome, order: Order) -> Finished:
        """The outcome with its pictures encoded in the requested format. Encoding runs outside the event loop."""
        with self._recorder.stage("encode"):
            work = (
                self._readers.run(partial(encode, p.image, order.output_format, order.quality))
                for p in outcome.pictures
            )
            return Finished(outcome, tuple(await asyncio.gather(*work)))

    async def _answer(
        self, order: Order, snapshot: Snapshot, request_id: str, tenant: str, progress: Progress | None
    ) -> Outcome:
        deadline = time.monotonic() + self._deadline_seconds
        request = Request(order.prompt, order.negative_prompt, tenant, id=request_id, now=datetime.now(UTC))
        signals, decision = await self.judge_prompt(request, snapshot)
        if decision.refused:
            return Outcome(decision, "prompt")
        adapter = self._adapters[order.lora.name].at(order.lora.scale) if order.lora is not None else None
        with self._recorder.stage("plan"):
            repair = self._repair(request, decision, adapter)
        if repair.refused:
            return Outcome(replace(decision, verdict="block"), "prompt")
        # sentinels were fitted without the adapter: as on an untrusted host they stay silent
        watching = self._sentinels(snapshot) if adapter is None else ()
        key = _batch_key(order, adapter)
        trial = _Trial(order, request, snapshot, signals, decision, key, deadline, watching, adapter, progress)
        try:
            pictures = await self._pictures(trial, repair)
        except _Refused as refused:
            return Outcome(replace(refused.decision, verdict=refused.verdict), "prompt")
        worst = max(
            pictures, key=lambda p: VERDICTS.index(p.verdict)
        ).decision  # verdicts are ordered from mild to strict
        return Outcome(worst, "picture" if worst.refused else None, pictures)

    def _sentinels(self, snapshot: Snapshot) -> tuple[Sentinel, ...]:
        """The sentinels that rules ask; one that no pack has stays silent, which the rules count as an error."""
        packs = (self._packs.get(concept) for concept in sorted(snapshot.sentinels))
        return tuple(pack.sentinel for pack in packs if pack is not None and pack.sentinel is not None)

    def _repair(self, request: Request, decision: Decision, adapter: Adapter | None) -> Repair:
        return choose_repair(request, decision, self._packs, without_lettering=self._without_lettering, adapter=adapter)

    async def _pictures(self, trial: _Trial, repair: Repair) -> tuple[Picture, ...]:
        """All pictures of a request, each after its last judgement. If one fails, the others are cancelled."""
        jobs = [self._job(trial, repair, k) for k in range(trial.order.n)]
        self._queue.put(jobs)
        if trial.progress is not None:
            trial.progress.queued(len(jobs))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._picture(trial, repair, job)) for job in jobs]
        except* Exception as failed:
            raise failed.exceptions[0] from None
        finally:
            for job in trial.jobs:
                job.abandoned.set()
        return tuple(task.result() for task in tasks)

    def _job(self, trial: _Trial, repair: Repair, k: int) -> Job:
        job = Job(
            repair.prompt,
            trial.order.negative_prompt,
            trial.order.seed + k,
            repair.plan,
            trial.key,
            trial.deadline,
            caller=trial.request.tenant,
            on_step=partial(trial.progress.step, k) if trial.progress is not None else None,
            sentinels=trial.sentinels,
            wakes=partial(_wakes, trial) if trial.sentinels else None,
        )
        trial.jobs.append(job)
        return job

    async def _picture(self, trial: _Trial, repair: Repair, job: Job) -> Picture:
        decision = trial.decision
        try:
            made, replaced = await self._make(trial, job, repair)
        except Woken as woken:
            decision, repair = self._woken(trial, woken)
            job = self._first_again(trial, repair, job)
            made, replaced = await self._make(trial, job, repair)
        if repair.unfit or repair.failed:
            self._recorder.fallback("unfit" if repair.unfit else "steering")
        whole = replaced or repair.failed or bool(repair.unfit)
        picture = Picture(made.image, made, decision, steered=repair.steers and not whole, replaced=whole)
        if not decision.reads:
            return picture
        return await self._climb(trial, await self._judge(trial, picture), job)

    def _woken(self, trial: _Trial, woken: Woken) -> tuple[Decision, Repair]:
        """The decision on the prompt with what the sentinels told of it, and the repair. Raises `_Refused`."""
        self._recorder.woken()
        with self._recorder.stage("decide"):
            decision = decide(trial.request, trial.signals + _told("prompt", woken.scores), trial.snapshot)
        if decision.refused:
            raise _Refused(decision, decision.verdict)
        with self._recorder.stage("plan"):
            repair = self._repair(trial.request, decision, trial.adapter)
        if repair.refused:
            raise _Refused(decision, "block")
        return decision, repair

    def _first_again(self, trial: _Trial, repair: Repair, job: Job) -> Job:
        """The job of a picture that was not begun, with another plan, before all waiting jobs."""
        again = Job(
            repair.prompt,
            job.negative_prompt,
            job.seed,
            repair.plan,
            trial.key,
            trial.deadline,
            on_step=job.on_step,
            sentinels=trial.sentinels,
        )
        trial.jobs.append(again)
        self._queue.put_first(again)
        return again

    async def _make(self, trial: _Trial, job: Job, repair: Repair) -> tuple[Made, bool]:
        """The picture of a job, and whether its prompt was replaced because steering did not work as recorded."""
        from steering import NotFired, SteeringError

        try:
            return await _made(job), False
        except SteeringError as error:
            if not repair.steers or repair.donor is None or repair.donor == trial.request.prompt:
                raise
            self._recorder.fallback("fired" if isinstance(error, NotFired) else "steering")
            return await self._again(trial, _whole(repair, repair.donor), job.seed), True

    async def _again(self, trial: _Trial, repair: Repair, seed: int) -> Made:
        """Another picture with the same seed, generated before all waiting jobs."""
        negative, watching = trial.order.negative_prompt, trial.sentinels
        job = Job(repair.prompt, negative, seed, repair.plan, trial.key, trial.deadline, sentinels=watching)
        trial.jobs.append(job)
        self._queue.put_first(job)
        return await _made(job)

    async def _judge(self, trial: _Trial, picture: Picture) -> Picture:
        """The picture with its decision. If the picture triggers another rule, it may be read a second time."""
        # a batch is watched for all of its pictures, and only those count that this request's rules ask
        asked_of = {s.concept for s in trial.sentinels}
        told = {concept: r for concept, r in picture.made.report.sentinel.items() if concept in asked_of}
        signals = trial.signals + _told("prompt", {concept: r.text for concept, r in told.items()})
        signals += _told("picture", {concept: r.path for concept, r in told.items()})
        judged, read = picture.decision, frozenset[str]()
        while missing := judged.reads - read:
            asked = frozenset(name for name in missing if concept_of(name) is None)
            signals += await self._readers.read_picture(picture.image, asked) if asked else Signals()
            read |= missing
            with self._recorder.stage("decide"):
                judged = decide(trial.request, signals, trial.snapshot, stage="picture", before=picture.decision)
        return replace(picture, decision=judged)

    async def _climb(self, trial: _Trial, picture: Picture, first: Job) -> Picture:
        """The picture after the first rung that repairs it. If none does, the picture after the last rung, refused."""
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
            extra += rung not in ("steer", "blur")
            picture = await self._judge(trial, tried)
            result: Literal["passed", "failed"] = "failed" if picture.decision.refused else "passed"
            self._recorder.rung(rung, result, time.perf_counter() - began)
            ladder = picture.decision.ladder
            todo = ladder.after(rung) if picture.decision.refused and ladder else ()
        return picture

    async def _try(
        self, trial: _Trial, picture: Picture, rung: Rung, first: Job, *, may_generate: bool
    ) -> Picture | None:
        """The picture that a rung produces, not judged yet. None if the rung does not apply."""
        if rung == "blur":
            boxes = picture.decision.ladder.boxes if picture.decision.ladder else ()
            if not boxes:
                return None
            with self._recorder.stage("blur"):
                image = await self._readers.run(lambda: blur(picture.image, boxes))
            return replace(picture, image=image, rungs=(*picture.rungs, rung))
        repair = self._repair(trial.request, picture.decision, trial.adapter)
        retry = _retry(repair, rung, trial.request.prompt)
        if retry is None or not may_generate or (retry.prompt, retry.plan) == (first.prompt, first.plan):
            return None
        self._recorder.extra_generation()
        made = await self._again(trial, retry, first.seed)
        return replace(picture, image=made.image, made=made, steered=retry.steers, rungs=(*picture.rungs, rung))

    def _in_time(self, trial: _Trial, picture: Picture) -> bool:
        """Whether another picture would finish before the deadline, even if it took twice as long as the last one."""
        return time.monotonic() + 2 * picture.made.took < trial.deadline


class _Refused(Exception):
    """The prompt is refused after the sentinels told of it."""

    def __init__(self, decision: Decision, verdict: Verdict) -> None:
        super().__init__()
        self.decision = decision
        self.verdict = verdict


def _wakes(trial: _Trial, scores: Mapping[str, float]) -> bool:
    """Whether what the encoded text tells makes another rule act. Called on the engine thread."""
    decision = decide(trial.request, trial.signals + _told("prompt", scores), trial.snapshot)
    return decision.rules != trial.decision.rules or decision.verdict != trial.decision.verdict


def _told(stage: Stage, scores: Mapping[str, float]) -> Signals:
    """What sentinels told, as signals."""
    names = {sentinel_of(concept): score for concept, score in scores.items()}
    told = tuple(Signal(name, "sentinel", "1", stage, score) for name, score in names.items())
    return Signals(told, frozenset((stage, name) for name in names))


def _rungs(decision: Decision) -> tuple[Rung, ...]:
    return decision.ladder.rungs if decision.refused and decision.ladder else ()


def _retry(repair: Repair, rung: Rung, prompt: str) -> Repair | None:
    """What to run for a generating rung, or None. A donor at all sites is the donor's own picture: it is made so."""
    if rung == "steer":
        return replace(repair, prompt=prompt) if repair.steers else None
    if rung == "wider":
        return replace(repair, prompt=prompt, plan=repair.wider) if repair.wider is not None else None
    if repair.donor is None or repair.donor == prompt:
        return None
    return _whole(repair, repair.donor)


def _whole(repair: Repair, donor: str) -> Repair:
    """The repair with the whole prompt replaced. The request's adapter stays."""
    return replace(repair, prompt=donor, plan=repair.alone)


async def _made(job: Job) -> Made:
    return await asyncio.wrap_future(job.done)


def _batch_key(order: Order, adapter: Adapter | None) -> BatchKey:
    lora = adapter.switched if adapter is not None else None
    return BatchKey(
        order.height, order.width, order.steps, order.guidance, lora=lora, negative=bool(order.negative_prompt)
    )
