"""The closed loop: decide, generate, judge, and repair each picture until it may be returned or is refused.

The policy snapshot is taken once per request, and every judgement of that request uses it. Each picture is repaired
independently and keeps its seed. A retry goes to the front of the queue. It starts only if it can finish before the
deadline. No picture is returned before the last picture has been judged.

A given picture is judged before anything is drawn. To repair it, it takes the place of the first drawn one: it climbs
the same ladder, and what a rung draws is drawn over it, where it was found at fault. An edit is a first picture that is
drawn over the given one.

A held request goes through the same loop as if its holding rules were not there, and its pictures are the reviewers'.
If these rules would also repair, it goes through again as if they only did that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from policies import (
    NO_STRIKES,
    VERDICTS,
    Decision,
    Request,
    Rung,
    Signal,
    Signals,
    Strikes,
    Verdict,
    concept_of,
    decide,
    sentinel_of,
)
from service.engine.blur import blur
from service.engine.given import GivenPicture, boxes_in, shown
from service.engine.outcome import Finished, Held, Outcome, Picture, RefusedAt
from service.engine.planner import Repair, WithoutLettering, choose_repair
from service.engine.queue import BatchKey, Job, Made, Queue, Rewritten, Woken
from service.errors import ApiError, BadRequest, DeadlineExceeded
from service.image_files import encode
from service.marking.marker import Marker
from service.metrics.recorder import Recorder
from service.order import Order, Progress
from service.reading.pools import DetectorPools

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from policies import Snapshot, Stage
    from service.engine.adapters import Adapter
    from steering import Pack, Plan, Sentinel

__all__ = ["ClosedLoop", "Drawing"]

# what a request holds while its pictures are drawn; entered with the time of the event loop by which it must be there
Drawing = Callable[[float], AbstractAsyncContextManager[None]]
_LEFT = 0.1  # the share of its time that a request keeps, at most a second, to say that it cannot be drawn in time


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
    given: GivenPicture | None = None
    jobs: list[Job] = field(default_factory=list)
    mended: bool = False  # rules that hold steer and repair, see `Decision.going_on`


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
        rewrites: bool = False,
        drawing: Drawing | None = None,
        marker: Marker | None = None,
    ) -> None:
        """`rewrites`: the pipeline may rewrite prompts; what it writes is judged as a prompt, then drawn as it is.
        `drawing`: what a request holds while it is drawn: the model in memory. `marker`: puts the marks on pictures;
        None: they get none.
        """
        self._queue = queue
        self._readers = readers
        self._packs = packs
        self._recorder = recorder
        self._marker = marker
        self._without_lettering = without_lettering
        self._deadline_seconds = deadline_seconds
        self._adapters = adapters or {}
        self._rewrites = rewrites
        self._drawing: Drawing = drawing or (lambda until: nullcontext())

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
        strikes: Strikes = NO_STRIKES,
    ) -> Outcome:
        """The outcome of an order. `progress` receives its progress. `strikes` are of the person it is for.

        Raises `Busy`, `DeadlineExceeded` or the engine's error.
        """
        ends = time.monotonic() + self._deadline_seconds
        deadline = asyncio.get_running_loop().time() + self._deadline_seconds
        now = datetime.now(UTC)
        given = order.given is not None
        request = Request(order.prompt, order.negative_prompt, tenant, request_id, now, given, strikes)
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await self._answer(order, request, snapshot, progress, ends)
        except TimeoutError:
            raise DeadlineExceeded(f"the request did not finish within {self._deadline_seconds:g} s") from None
        if outcome.held is None or not any(p.decision.mendable for p in outcome.pictures):
            return outcome
        from steering import SteeringError

        try:
            async with asyncio.timeout_at(deadline):
                mended = await self._answer(order, request, snapshot, None, ends, mended=True)
        except (TimeoutError, ApiError, SteeringError):  # it cannot be made now: what was drawn is held alone
            return outcome
        if mended.held is None:  # its own or another rule blocks what was repaired
            return outcome
        return replace(outcome, held=replace(outcome.held, repaired=mended.held.repaired or mended.held.pictures))

    async def finish(self, outcome: Outcome, order: Order) -> Finished:
        """The outcome with its pictures encoded in the requested format, and signed if the settings say so. Raises
        `MarkingFailed`. The work runs outside the event loop.
        """
        with self._recorder.stage("encode"):
            work = (self._readers.run(partial(self._file, p, order)) for p in outcome.pictures)
            files = tuple(await asyncio.gather(*work))
        if self._marker is not None and self._marker.signs:
            signed = tuple(replace(p, marks=(*p.marks, "c2pa")) for p in outcome.pictures)
            outcome = replace(outcome, pictures=signed)
        return Finished(outcome, files)

    def _file(self, picture: Picture, order: Order) -> bytes:
        marker = self._marker
        write = marker.encode if marker is not None and "watermark" in picture.marks else encode
        file = write(picture.image, order.output_format, order.quality)
        if marker is None or not marker.signs:
            return file
        drawn = picture.made is not None
        return marker.sign(file, order.output_format, order, picture.how, picture.kinds, drawn=drawn)

    async def _answer(
        self,
        order: Order,
        request: Request,
        snapshot: Snapshot,
        progress: Progress | None,
        deadline: float,
        *,
        mended: bool = False,
    ) -> Outcome:
        given = None if order.given is None else GivenPicture(order)
        signals, decision = await self.judge_prompt(request, snapshot)
        decision = decision.going_on(mended=mended)
        if decision.refused:
            return Outcome(decision, "prompt")
        adapter = self._adapters[order.lora.name].at(order.lora.scale) if order.lora is not None else None
        with self._recorder.stage("plan"):
            repair = self._repair(request, decision, adapter, order.steps)
        if repair.refused and (given is None or given.kind == "edit"):  # a repair draws nothing of the prompt's
            return Outcome(replace(decision, verdict="block"), "prompt")
        # sentinels were fitted without the adapter, and for pictures that are drawn from noise: as on an untrusted host
        # they stay silent
        watching = self._sentinels(snapshot) if adapter is None and given is None else ()
        # what is steered, or drawn over a given picture, is drawn in the words that the repair was chosen for
        key = _batch_key(order, adapter, rewrites=self._rewrites and not decision.steers and given is None)
        trial = _Trial(order, request, snapshot, signals, decision, key, deadline, watching, adapter, progress, given)
        trial.mended = mended
        left = deadline - time.monotonic() - min(1.0, _LEFT * self._deadline_seconds)
        try:
            async with self._drawing(asyncio.get_running_loop().time() + left):
                pictures = await (self._pictures(trial, repair) if given is None else self._over(trial, repair, given))
        except _Refused as refused:
            return Outcome(replace(refused.decision, verdict=refused.verdict), refused.stage)
        worst = max(pictures, key=lambda p: VERDICTS.index(p.verdict))  # verdicts are ordered from mild to strict
        if worst.verdict != "block" and (queue := _queue(pictures)) is not None:
            return _held(queue, pictures, "prompt" if decision.held else "picture")
        return Outcome(worst.decision, "picture" if worst.decision.refused else None, pictures)

    def _sentinels(self, snapshot: Snapshot) -> tuple[Sentinel, ...]:
        """The sentinels that rules ask; one that no pack has stays silent, which the rules count as an error."""
        packs = (self._packs.get(concept) for concept in sorted(snapshot.sentinels))
        return tuple(pack.sentinel for pack in packs if pack is not None and pack.sentinel is not None)

    def _repair(self, request: Request, decision: Decision, adapter: Adapter | None, steps: int) -> Repair:
        without = self._without_lettering
        return choose_repair(request, decision, self._packs, without_lettering=without, adapter=adapter, steps=steps)

    async def _pictures(self, trial: _Trial, repair: Repair) -> tuple[Picture, ...]:
        """All pictures of a request, each after its last judgement. If one fails, the others are cancelled."""
        mask = None if trial.given is None else trial.given.mask()
        jobs = [
            await self._job(
                trial,
                repair,
                trial.order.seed + k,
                mask,
                caller=trial.request.tenant,
                on_step=partial(trial.progress.step, k) if trial.progress is not None else None,
                wakes=partial(_wakes, trial) if trial.sentinels else None,
            )
            for k in range(trial.order.n)
        ]
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
                job.abandon()
        return tuple(task.result() for task in tasks)

    async def _job(
        self, trial: _Trial, repair: Repair, seed: int, mask: np.ndarray | None = None, **options: Any
    ) -> Job:
        """A job of the trial, not queued yet. With a given picture, it draws over this inside of `mask`."""
        source = None
        if trial.given is not None:
            source, mask = await self._readers.run(partial(trial.given.over, mask, seed))
        fixed = trial.order.negative_prompt, seed, repair.plan, trial.key, trial.deadline
        options |= {
            "sentinels": trial.sentinels,
            "source": source,
            "mask": mask,
            "trace": self._recorder.tracing.here(),
        }
        job = Job(repair.prompt, *fixed, **options)
        trial.jobs.append(job)
        return job

    async def _picture(self, trial: _Trial, repair: Repair, job: Job) -> Picture:
        trial = replace(trial, key=replace(trial.key, rewrites=False))  # what follows is drawn in the words judged
        decision = trial.decision
        try:
            made, replaced = await self._make(trial, job, repair)
        except Rewritten as other:
            trial, repair = await self._rewritten(trial, other.text)
            wakes = partial(_wakes, trial) if trial.sentinels else None
            job = await self._job(trial, repair, job.seed, on_step=job.on_step, wakes=wakes)
            self._queue.put_first(job)
            return await self._picture(trial, repair, job)
        except Woken as woken:
            decision, repair = self._woken(trial, woken)
            job = await self._job(trial, repair, job.seed, on_step=job.on_step)  # the picture was not begun
            self._queue.put_first(job)
            made, replaced = await self._make(trial, job, repair)
        if repair.unfit or repair.failed:
            self._recorder.fallback("unfit" if repair.unfit else "steering")
        replaced |= repair.prompt != trial.request.prompt  # it is not where a rule is unfit and has no other words
        image = await self._pasted(trial, made.image, None if trial.given is None else trial.given.mask())
        revised = None if replaced or trial.request.prompt == trial.order.prompt else trial.request.prompt
        sites = 0 if replaced else _fired(made, repair.sites)
        picture = Picture(image, made, decision, sites=sites, replaced=replaced, revised=revised)
        if decision.reads:
            picture = await self._climb(trial, await self._judge(trial, picture), job)
        return await self._watermarked(trial, picture)

    async def _watermarked(self, trial: _Trial, picture: Picture) -> Picture:
        """The picture with the watermark, judged again: a verdict on other pixels is none on these. What the model drew
        nothing of, and what is blocked, gets none. Raises `MarkingFailed`.
        """
        marker = self._marker
        if marker is None or not marker.watermarks or picture.made is None or picture.verdict == "block":
            return picture

        async def with_mark(picture: Picture) -> Picture:
            with self._recorder.stage("mark"):
                work = partial(marker.watermark, picture.image, given=trial.given is not None)
                return replace(picture, image=await self._readers.run(work), marks=("watermark",))

        marked, before = await with_mark(picture), picture.before_repair
        if before is not None and before.made is not None:
            marked = replace(marked, before_repair=await with_mark(before))
        return await self._judge(trial, marked) if picture.decision.reads else marked

    async def _rewritten(self, trial: _Trial, text: str) -> tuple[_Trial, Repair]:
        """The trial of what the pipeline wrote in place of its prompt, and the repair. The rules of the prompt stay in
        force. Raises `_Refused`.
        """
        request = replace(trial.request, prompt=text)
        signals = await self._readers.read_prompt(request)
        with self._recorder.stage("decide"):
            decision = decide(request, signals, trial.snapshot, before=trial.decision).going_on(mended=trial.mended)
        if decision.refused:
            self._recorder.rewritten("refused")
            raise _Refused(decision, decision.verdict)
        with self._recorder.stage("plan"):
            repair = self._repair(request, decision, trial.adapter, trial.order.steps)
        self._recorder.rewritten("refused" if repair.refused else "accepted")
        if repair.refused:
            raise _Refused(decision, "block")
        return replace(trial, request=request, signals=signals, decision=decision), repair

    def _woken(self, trial: _Trial, woken: Woken) -> tuple[Decision, Repair]:
        """The decision on the prompt with what the sentinels told of it, and the repair. Raises `_Refused`."""
        self._recorder.woken()
        with self._recorder.stage("decide"):
            decision = _decide_told(trial, woken.scores)
        if decision.refused:
            raise _Refused(decision, decision.verdict)
        with self._recorder.stage("plan"):
            repair = self._repair(trial.request, decision, trial.adapter, trial.order.steps)
        if repair.refused:
            raise _Refused(decision, "block")
        return decision, repair

    async def _make(self, trial: _Trial, job: Job, repair: Repair) -> tuple[Made, bool]:
        """The picture of a job, and whether its prompt was replaced because steering did not work as recorded."""
        from steering import BadPlan, NotFired, NotSupported, SteeringError

        try:
            return await _made(job), False
        except SteeringError as error:
            if trial.given is not None and isinstance(error, (BadPlan, NotSupported)):
                said = f"this model cannot draw over this picture: {error}"
                raise BadRequest(said, param="image", code="not_supported") from None
            if not repair.steers or repair.donor is None or repair.donor == trial.request.prompt:
                raise
            self._recorder.fallback("fired" if isinstance(error, NotFired) else "steering")
            mask = None if trial.given is None else trial.given.mask()
            return await self._again(trial, _whole(repair, repair.donor), job.seed, mask), True

    async def _again(self, trial: _Trial, repair: Repair, seed: int, mask: np.ndarray | None = None) -> Made:
        """Another picture with the same seed, generated before all waiting jobs."""
        job = await self._job(trial, repair, seed, mask)
        self._queue.put_first(job)
        return await _made(job)

    async def _pasted(self, trial: _Trial, drawn: Image, mask: np.ndarray | None) -> Image:
        """What was drawn, put into the given picture if there is one."""
        return drawn if trial.given is None else await self._readers.run(partial(trial.given.pasted, drawn, mask))

    async def _over(self, trial: _Trial, repair: Repair, given: GivenPicture) -> tuple[Picture, ...]:
        """The pictures of an order with a given one: its edits, or the picture itself, repaired if need be. Raises
        `_Refused` if no rung may mend the given picture.
        """
        wanted = frozenset({"lettering"} if given.kind == "edit" and given.marked is None else ())
        received, signals = await self._judge_by(trial, Picture(given.image, None, trial.decision), wanted)
        decision, ladder = received.decision, received.decision.ladder
        if decision.refused and ladder is None:
            raise _Refused(decision, decision.verdict, "upload")
        if given.kind == "edit":
            given.prompt = shown("", signals, boxes_in(signals), (), self._packs)
            if given.marked is None:
                given.mark(boxes_in(signals))
            return tuple(_held_with(picture, decision) for picture in await self._pictures(trial, repair))
        if ladder is not None:
            given.prompt = shown(trial.order.prompt, signals, ladder.boxes, decision.steers, self._packs)
            given.asked = await self._asked(trial, given.prompt, signals)
        try:
            return (await self._watermarked(trial, await self._climb(trial, received, None)),)
        finally:
            for job in trial.jobs:
                job.abandon()

    async def _asked(self, trial: _Trial, prompt: str, seen: Signals) -> tuple[Request, Decision]:
        """A request for a picture that shows what a given one does, and its decision with what was seen there. Only
        repairs are chosen by it: what may leave, the caller's own request decides.
        """
        request = replace(trial.request, prompt=prompt)
        signals, before = await self.judge_prompt(request, trial.snapshot)
        pictured = Signals(
            tuple(s for s in seen.items if s.stage == "picture"),
            frozenset(name for name in seen.covered if name[0] == "picture"),
        )
        with self._recorder.stage("decide"):
            asked = decide(request, signals + pictured, trial.snapshot, stage="picture", before=before)
            return request, asked.going_on(mended=trial.mended)

    async def _judge(self, trial: _Trial, picture: Picture) -> Picture:
        """The picture with its decision."""
        return (await self._judge_by(trial, picture))[0]

    async def _judge_by(
        self, trial: _Trial, picture: Picture, wanted: frozenset[str] = frozenset()
    ) -> tuple[Picture, Signals]:
        """The picture with its decision, and the signals for it. It is read for `wanted`, too. If it triggers another
        rule, it may be read a second time.
        """
        # a batch is watched for all of its pictures, and only those count that this request's rules ask
        asked_of = {s.concept for s in trial.sentinels}
        watched = {} if picture.made is None else picture.made.report.sentinel
        told = {concept: r for concept, r in watched.items() if concept in asked_of}
        signals = trial.signals + _told("prompt", {concept: r.text for concept, r in told.items()})
        signals += _told("picture", {concept: r.path for concept, r in told.items()})
        judged, read = picture.decision, frozenset[str]()
        while missing := (judged.reads | wanted) - read:
            asked = frozenset(name for name in missing if concept_of(name) is None)
            signals += await self._readers.read_picture(picture.image, asked) if asked else Signals()
            read |= missing
            with self._recorder.stage("decide"):
                judged = decide(trial.request, signals, trial.snapshot, stage="picture", before=picture.decision)
                judged = judged.going_on(mended=trial.mended)
        return replace(picture, decision=judged), signals

    async def _climb(self, trial: _Trial, picture: Picture, first: Job | None) -> Picture:
        """The picture after the first rung that repairs it. If none does, the picture after the last rung, refused."""
        extra, received = 0, picture
        tried = set() if first is None else {(first.prompt, first.plan)}
        todo = _rungs(picture.decision, untouched=first is None)
        while todo:
            rung, ladder = todo[0], picture.decision.ladder
            assert ladder is not None  # INVARIANT: there is something to climb
            may = extra < ladder.max_extra_generations and self._in_time(trial, picture)
            began = time.perf_counter()
            with self._recorder.tracing.span("rung", {"palimpsest.rung": rung}):
                changed = await self._try(trial, picture, rung, tried, may_generate=may)
                if changed is not None:
                    picture = await self._judge(trial, changed)
            if changed is None:
                todo = todo[1:]
                continue
            extra += rung not in ("steer", "blur")
            result: Literal["passed", "failed"] = "failed" if picture.decision.refused else "passed"
            self._recorder.rung(rung, result, time.perf_counter() - began)
            if trial.progress is not None:
                trial.progress.rung(0 if first is None else first.seed - trial.order.seed, rung, result)
            ladder = picture.decision.ladder
            todo = ladder.after(rung) if picture.decision.refused and ladder else ()
        if picture is received or "block" in (received.verdict, picture.verdict):
            return picture
        return replace(picture, before_repair=received)

    async def _try(
        self,
        trial: _Trial,
        picture: Picture,
        rung: Rung,
        tried: set[tuple[str, Plan | None]],
        *,
        may_generate: bool,
    ) -> Picture | None:
        """The picture that a rung produces, not judged yet. None if the rung does not apply. `tried` has the prompts
        and plans that pictures were made with.
        """
        from steering import NotFired, SteeringError

        boxes = picture.decision.ladder.boxes if picture.decision.ladder else ()
        if rung == "blur":
            if not boxes:
                return None
            with self._recorder.stage("blur"):
                image = await self._readers.run(lambda: blur(picture.image, boxes))
            return replace(picture, image=image, rungs=(*picture.rungs, rung))
        given = trial.given
        request, decision = given.asked if given and given.asked else (trial.request, picture.decision)
        repair = self._repair(request, decision, trial.adapter, trial.order.steps)
        retry = _retry(repair, rung, request.prompt, given=given is not None)
        if retry is None or not may_generate or (retry.prompt, retry.plan) in tried:
            return None
        tried.add((retry.prompt, retry.plan))
        self._recorder.extra_generation()
        mask = None if given is None else await self._readers.run(partial(given.mask, picture.decision))
        seed = trial.order.seed if picture.made is None else picture.made.report.seed
        try:
            made = await self._again(trial, retry, seed, mask)
        except SteeringError as error:
            if given is None:
                raise
            self._recorder.fallback("fired" if isinstance(error, NotFired) else "steering")
            return None
        image = await self._pasted(trial, made.image, mask)
        rungs = (*picture.rungs, rung)
        # INVARIANT: what does not steer has other words, see `_retry`
        fired = _fired(made, retry.sites)
        return replace(picture, image=image, made=made, sites=fired, replaced=not retry.steers, rungs=rungs)

    def _in_time(self, trial: _Trial, picture: Picture) -> bool:
        """Whether another picture would finish before the deadline, even if it took twice as long as the last one."""
        took = self._queue.pace if picture.made is None else picture.made.took
        return time.monotonic() + 2 * took < trial.deadline


class _Refused(Exception):
    """The prompt is refused after the sentinels told of it, or a given picture after it was read."""

    def __init__(self, decision: Decision, verdict: Verdict, stage: RefusedAt = "prompt") -> None:
        super().__init__()
        self.decision = decision
        self.verdict = verdict
        self.stage = stage


def _wakes(trial: _Trial, scores: Mapping[str, float]) -> bool:
    """Whether what the encoded text tells makes another rule act. Called on the engine thread."""
    decision = _decide_told(trial, scores)
    return decision.rules != trial.decision.rules or decision.verdict != trial.decision.verdict


def _decide_told(trial: _Trial, scores: Mapping[str, float]) -> Decision:
    """The decision on the prompt with what the sentinels told of it."""
    decision = decide(trial.request, trial.signals + _told("prompt", scores), trial.snapshot)
    return decision.going_on(mended=trial.mended)


def _fired(made: Made, sites: frozenset[str]) -> int:
    """How many of these sites really changed something in a picture."""
    return sum(1 for site in sites if made.report.fired.get(site))


def _queue(pictures: Sequence[Picture]) -> str | None:
    """The queue of a request with these pictures: of several the first by name. None if nothing holds them. A rule
    that holds what it could not repair names no queue.
    """
    queues = [hold.queue for p in pictures for hold in p.decision.held]
    queues += ["default" for p in pictures if p.decision.verdict == "review-hold"]
    return min(queues, default=None)


def _held_with(picture: Picture, upload: Decision) -> Picture:
    """What was drawn over an upload, held if a rule holds the upload."""
    if not upload.held:
        return picture
    holding, own = {hold.rule for hold in upload.held}, picture.decision
    decision = replace(
        own,
        held=(*own.held, *upload.held),
        rules=tuple(dict.fromkeys((*own.rules, *sorted(holding)))),
        reasons=(*own.reasons, *(r for r in upload.reasons if r.rule in holding)),
        disclosures=tuple(dict.fromkeys((*own.disclosures, *upload.disclosures))),
    )
    return replace(picture, decision=decision)


def _held(queue: str, pictures: tuple[Picture, ...], stage: RefusedAt) -> Outcome:
    """The outcome of a held request. Its pictures are those before their repair, if that is what is held."""
    first = tuple(p.before_repair if p.decision.verdict == "review-hold" and p.before_repair else p for p in pictures)
    repaired = pictures if any(a is not b for a, b in zip(first, pictures, strict=True)) else ()
    worst = max(pictures, key=lambda p: (bool(p.decision.held), VERDICTS.index(p.verdict))).decision
    return Outcome(replace(worst, verdict="review-hold"), stage, first, Held(queue, first, repaired))


def _told(stage: Stage, scores: Mapping[str, float]) -> Signals:
    """What sentinels told, as signals."""
    names = {sentinel_of(concept): score for concept, score in scores.items()}
    told = tuple(Signal(name, "sentinel", "1", stage, score) for name, score in names.items())
    return Signals(told, frozenset((stage, name) for name in names))


def _rungs(decision: Decision, *, untouched: bool) -> tuple[Rung, ...]:
    """The rungs for a picture. One that nothing steered yet, though its rules would have, is steered first."""
    if not decision.refused or not decision.ladder:
        return ()
    rungs = decision.ladder.rungs
    return ("steer", *rungs) if untouched and decision.steers and "steer" not in rungs else rungs


def _retry(repair: Repair, rung: Rung, prompt: str, *, given: bool) -> Repair | None:
    """What to run for a generating rung, or None. A donor at all sites is the donor's own picture: it is made so. Over
    a given picture, so is what cannot be steered.
    """
    if rung == "steer" and given and (repair.unfit or repair.failed) and not repair.refused:
        return repair if repair.donor != prompt else None
    if rung == "steer":
        return replace(repair, prompt=prompt) if repair.steers else None
    if rung == "wider":
        wider = replace(repair, prompt=prompt, plan=repair.wider, sites=repair.wider_sites)
        return wider if repair.wider is not None else None
    if repair.donor is None or repair.donor == prompt:
        return None
    return _whole(repair, repair.donor)


def _whole(repair: Repair, donor: str) -> Repair:
    """The repair with the whole prompt replaced. The request's adapter stays."""
    return replace(repair, prompt=donor, plan=repair.alone, sites=frozenset())


async def _made(job: Job) -> Made:
    return await asyncio.wrap_future(job.done)


def _batch_key(order: Order, adapter: Adapter | None, *, rewrites: bool) -> BatchKey:
    lora = adapter.switched if adapter is not None else None
    return BatchKey(
        order.height,
        order.width,
        order.steps,
        order.guidance,
        lora=lora,
        negative=bool(order.negative_prompt),
        given=order.given is not None,
        rewrites=rewrites,
    )
