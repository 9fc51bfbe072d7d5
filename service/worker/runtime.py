"""The runtime of one worker: its parts, and the order in which they start.

Engine threads load the models while the worker already answers health checks: it is alive, but not ready. Policies are
loaded after their model, because a rule may require a pack that fits the model. If the start fails, the reason is in
the log and in the worker's note, and the worker is no longer alive.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from policies import (
    NO_STRIKES,
    PolicyError,
    Request,
    Snapshot,
    Store,
    StrikeKind,
    Strikes,
    no_policy,
    struck,
)
from service.audit import AuditKeys, AuditLog, load_keys
from service.engine.closed_loop import ClosedLoop
from service.engine.host import load_host
from service.engine.outcome import Held as HeldPictures
from service.engine.outcome import Outcome, count
from service.engine.turns import Turns
from service.errors import ApiError, Held, NotFound, Unavailable, without_message
from service.http.answers import (
    audit_record,
    evaluation_answer,
    generation_answer,
    held_content,
    refusal,
    unanswered_record,
)
from service.http.limits import RateLimiter, limits_folder, shared_buckets
from service.http.requests import EvaluateRequest, unknown
from service.http.status import detector_notes, models_answer, policies_answer, status_answer
from service.marking.marker import Marker
from service.metrics.recorder import Recorder
from service.order import Limits, Order, Progress
from service.periodic import Periodic
from service.picture_links import PictureLinks
from service.reading.detectors import Detection, Detectors
from service.reading.pools import DetectorPools
from service.reviews.reviews import Reviews
from service.reviews.store import CaseStore, Quota, new_id
from service.rules.bundle_upload import BundleUpload
from service.rules.strikes import Person, StrikeStore, kind_of, shared_strikes
from service.rules.support import PackIndex
from service.settings import Settings, SettingsError
from service.worker.model import Model, Parts
from service.worker.notes import WATCHED, WorkerNotes, notes_folder
from service.worker.residents import Residents

if TYPE_CHECKING:
    from detectors.running import Health, Watch
    from steering import Host, HostFacts

__all__ = ["Ready", "Runtime"]

log = logging.getLogger("bentoml.palimpsest.runtime")

WorkerState = Literal["starting", "ready", "failed", "stopping"]
_SWEEP_SECONDS = 15.0  # between looks for pictures behind links whose time is over


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """What requests for one model use once the worker is ready. Reviews, links and watches are those of all models."""

    model: Model
    parts: Parts
    marker: Marker
    reviews: Reviews
    links: PictureLinks
    watches: tuple[Watch, ...]

    @property
    def host(self) -> Host:
        """The loaded model. Raises `Unavailable` while it is not in memory."""
        return self.model.host

    @property
    def facts(self) -> HostFacts:
        """What is known of the model, in memory or not."""
        assert self.model.facts is not None  # INVARIANT: it was loaded before the worker was ready
        return self.model.facts

    @property
    def limits(self) -> Limits:
        return self.parts.limits

    @property
    def packs(self) -> PackIndex:
        return self.parts.packs

    @property
    def store(self) -> Store:
        return self.parts.store

    @property
    def readers(self) -> DetectorPools:
        return self.parts.readers

    @property
    def loop(self) -> ClosedLoop:
        return self.parts.loop

    @property
    def upload(self) -> BundleUpload:
        return self.parts.upload


class Runtime:
    """The models, policies, detectors, audit log and metrics of one worker. `start` returns at once; `stop` ends
    everything.
    """

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        *,
        load: Callable[[Settings], Host] = load_host,
        alone: bool = False,
    ) -> None:
        """`alone`: of several models it has the one for requests that name none; the caller tells mistakes."""
        self._alone = alone
        self.settings = settings
        self.recorder = recorder
        self.state: WorkerState = "starting"
        self.keys: AuditKeys = load_keys(
            settings.state_folder, settings.audit_key.get_secret_value() if settings.audit_key else None
        )
        self.limiter = RateLimiter(
            limits_folder(),
            per_minute=settings.rate_per_minute,
            burst=settings.rate_burst,
            shared=shared_buckets(settings),
            apart=recorder.rate_apart,
        )
        self._strikes = StrikeStore(shared_strikes(settings))
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._turns_away = False
        self._publishing = threading.Lock()
        self._told: dict[str, Health] = {}  # of each detector, what the notes say
        self._error: BaseException | None = None
        self._notes = WorkerNotes(notes_folder())
        self._audit: AuditLog | None = None
        self._ready: dict[str, Ready] = {}  # by every name of every model
        links = settings.state_folder / "pictures"
        self._links = PictureLinks(links, settings.picture_url_seconds, settings.picture_url_bytes)
        self._sweeping = Periodic("links", _SWEEP_SECONDS, self._links.sweep)
        served, turns = settings.served(), Turns()
        names = [each.name for each in served if each.name is not None]
        own = served[:1] if alone else served
        self.models = tuple(Model(s, recorder, turns, load, others=names, changed=self._publish) for s in own)
        self._residents = Residents(self.models, settings.model_memory if names else None, self._publish)
        self._starter = threading.Thread(target=self._start, name="palimpsest-starter", daemon=True)

    def start(self) -> None:
        """Starts loading in the background. `is_ready` tells when it is done."""
        self.recorder.start()
        self._publish()
        self._residents.begin()
        self._starter.start()

    def wait(self) -> None:
        """Waits until the worker is ready. Raises the error if it could not start."""
        self._starter.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stops the engines after the running batch, then policy polling and the audit log."""
        self.state = "stopping"
        self.turn_away()
        ends = time.monotonic() + self.settings.grace_seconds
        for model in self.models:
            model.stop(timeout=max(0.0, ends - time.monotonic()))
        if self._ready:
            first = next(iter(self._ready.values()))
            first.readers.close()
            for watch in first.watches:
                watch.close()
            first.reviews.stop()
            self._sweeping.stop()
        if self._audit is not None:
            self._audit.close()
        self.recorder.tracing.close()
        self._notes.withdraw()

    def drain(self) -> None:
        """The worker fails health checks, and still answers requests if it was ready. May be called twice."""
        if self.state in ("ready", "starting"):
            if self.state == "starting":
                self.turn_away()
            self.state = "stopping"
            self.recorder.ready(False)
            log.info("draining: %d requests in flight", self._in_flight)
            self._publish()

    def turn_away(self) -> None:
        """Rejects new requests, and those that wait for an engine. What runs is answered. May be called twice."""
        self._turns_away = True
        self._residents.close()
        for model in self.models:
            model.turn_away()

    def is_alive(self) -> bool:
        """Whether the worker runs or can still become ready."""
        if self.state == "starting":
            return self._starter.is_alive()
        return self.state in ("ready", "stopping") and all(model.alive() for model in self.models)

    def is_ready(self) -> bool:
        """Whether the worker answers requests."""
        return self.state == "ready" and all(model.alive() for model in self.models)

    def ready(self, model: str | None = None) -> Ready:
        """What requests use for the model with this name or alias; None: the first model. Raises `Unavailable` before
        the worker is ready, and `NotFound` for a model that it does not have.
        """
        if not self._ready or self._turns_away or self.state not in ("ready", "stopping"):
            raise Unavailable("the worker is not ready", retry_after=2)
        if model is None:
            return next(iter(self._ready.values()))
        if model not in self._ready:
            raise NotFound(unknown("model", model, self._ready), param="model", code="model_not_found")
        return self._ready[model]

    async def generate(
        self,
        order: Order,
        ignored: Sequence[str],
        decision_id: str,
        *,
        tenant: str = "",
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """The body of a 200 answer. `progress` receives the progress of the request.

        Raises `Refused`, `Busy`, `DeadlineExceeded` or `Unavailable`. In every case the audit log gets one record of
        the request.
        """
        # INVARIANT: once a request; every judgement of it uses this one
        snapshot = self.ready(order.model).store.snapshot
        return await self._generate(order, ignored, decision_id, tenant, progress, snapshot)

    async def plain(
        self, order: Order, decision_id: str, *, tenant: str = "", progress: Progress | None = None
    ) -> dict[str, Any]:
        """The body of a 200 answer with what the model draws without any policy, to compare with. A prompt that the
        policies in use refuse is refused here, too. The audit log has these pictures as `plain`; decisions and pictures
        that left are counted without them. Raises as `generate` does.
        """
        ready = self.ready(order.model)
        request = Request(order.prompt, order.negative_prompt, tenant, id=decision_id, now=datetime.now(UTC))
        _, decision = await ready.loop.judge_prompt(request, ready.store.snapshot)
        if decision.refused:
            outcome = Outcome(decision, "prompt")
            await self._record(
                {"decision_id": decision_id, "tenant": tenant, **audit_record(outcome, order, self.keys, seconds=0.0)}
                | {"event": "plain"}
            )
            raise refusal(outcome, order, decision_id)
        return await self._generate(order, (), decision_id, tenant, progress, no_policy(), plain=True)

    async def _generate(
        self,
        order: Order,
        ignored: Sequence[str],
        decision_id: str,
        tenant: str,
        progress: Progress | None,
        snapshot: Snapshot,
        *,
        plain: bool = False,
    ) -> dict[str, Any]:
        ready, started = self.ready(order.model), time.perf_counter()
        about = {"decision_id": decision_id, "tenant": tenant}
        self._in_flight += 1
        try:
            person = Person(tenant, order.person)
            strikes = await self._strikes_of(person, snapshot)
            outcome = await ready.loop.answer(
                order, snapshot, decision_id, tenant=tenant, progress=progress, strikes=strikes
            )
            finished = None if outcome.refused else await ready.loop.finish(outcome, order)
            outcome = outcome if finished is None else finished.outcome
            held = None if outcome.held is None else await self._hold(outcome, outcome.held, order, ignored, about)
            if not plain:
                count(outcome, ready.model.recorder, order.lora)
        except BaseException as error:
            ended = unanswered_record(error, order, self.keys, snapshot.digest, time.perf_counter() - started)
            # not awaited: a cancelled request must not wait, and the record is written anyway
            self._later(self._record(about | ended, demanded=False))
            raise
        finally:
            self._in_flight -= 1
        strike, noted = self._strike(outcome, person, snapshot, decision_id)
        record = audit_record(outcome, order, self.keys, seconds=time.perf_counter() - started, strike=strike)
        if plain:
            record |= {"event": "plain"}
        try:
            await self._record(about | record | ({"review": held} if held else {}))
        except Unavailable:
            if held is not None:
                await asyncio.get_running_loop().run_in_executor(None, ready.reviews.drop, held)
            raise
        if noted is not None:
            await asyncio.shield(noted)  # the next request, at whatever server, is judged with it
        if finished is None:
            refused = refusal(outcome, order, decision_id)
            raise refused if held is None else Held(refused, held)
        return generation_answer(finished, order, ignored, decision_id)

    async def _strikes_of(self, person: Person, snapshot: Snapshot) -> Strikes:
        """What is remembered of a person, as far as the policies ask."""
        if snapshot.strikes is None or not person.hashed:
            return NO_STRIKES
        return await self._strikes.known(person, snapshot.strikes)

    def _strike(
        self, outcome: Outcome, person: Person, snapshot: Snapshot, decision_id: str
    ) -> tuple[StrikeKind | None, asyncio.Task[None] | None]:
        """As what a request is noted as a strike of its person, and the task that notes it. It goes on if the request
        is cancelled.
        """
        kind = kind_of(outcome)
        if snapshot.strikes is None or not person.hashed or kind is None:
            return None, None
        categories = struck((outcome.decision, *(p.decision for p in outcome.pictures)), snapshot)
        if not categories:
            return None, None
        self.recorder.strike(kind)
        return kind, self._later(self._strikes.note(person, decision_id, kind, categories, snapshot.strikes))

    async def _hold(
        self, outcome: Outcome, held: HeldPictures, order: Order, ignored: Sequence[str], about: dict[str, Any]
    ) -> str | None:
        """The id of the case that keeps the pictures of a held request. None if it cannot be kept: the request is then
        refused.
        """
        ready, decision_id = self.ready(order.model), about["decision_id"]
        answers = []
        for pictures in (held.pictures, held.repaired):
            if pictures:
                finished = await ready.loop.finish(replace(outcome, pictures=pictures), order)
                answers.append((finished, generation_answer(finished, order, ignored, decision_id)))
        content = held_content(answers, order, decision_id)
        rules, loop = outcome.decision.rules, asyncio.get_running_loop()
        keep = partial(ready.reviews.keep, new_id(), held.queue, about["tenant"], rules, content)
        case = await loop.run_in_executor(None, keep)
        return None if case is None else case.id

    async def put_policies(
        self, content: bytes, decision_id: str, *, tenant: str, model: str | None = None
    ) -> dict[str, Any]:
        """Stores a signed bundle where every worker finds it, and returns the body of a 202 answer. Every model that
        takes its policies from there must accept it; `model` names one, by default the first. Raises an `ApiError` if
        the bundle is not accepted.
        """
        upload = self.ready(model).upload
        beside = [each.parts.upload for each in self.models if each.parts is not None]
        also = [each for each in beside if each.place == upload.place and each is not upload]
        about = {"event": "policies-put", "decision_id": decision_id, "tenant": tenant}

        def take() -> dict[str, Any]:
            for other in also if upload.place is not None else ():
                other.check(content)
            return upload.take(content)

        try:
            answer = await asyncio.get_running_loop().run_in_executor(None, take)
        except ApiError as error:
            await self._record(about | {"refused": error.code}, demanded=False)
            raise
        await self._record(about | {"policy": answer["digest"], "bundle": answer["bundle"]}, demanded=False)
        return answer

    async def evaluate(self, asked: EvaluateRequest, decision_id: str, *, tenant: str = "") -> dict[str, Any]:
        """The body of an evaluation. No picture is generated, and nothing is counted or recorded."""
        ready = self.ready(asked.model)
        snapshot, said = ready.store.snapshot, asked.safety_identifier
        person = Person(tenant, self.keys.identified(tenant, said) if said else "")
        strikes = await self._strikes_of(person, snapshot)
        request = Request(
            asked.prompt,
            asked.negative_prompt or "",
            tenant,
            id=decision_id,
            now=datetime.now(UTC),
            strikes=strikes,
        )
        _, decision = await ready.loop.judge_prompt(request, snapshot)
        return evaluation_answer(decision, decision_id)

    def limits(self) -> list[Limits]:
        """The limits of each model, the first model's first. Raises `Unavailable` before the worker is ready."""
        self.ready()
        return [each.parts.limits for each in self.models if each.parts is not None]

    def snapshots(self) -> list[Snapshot]:
        """The policies in use for each model. Raises `Unavailable` before the worker is ready."""
        self.ready()
        return [each.parts.store.snapshot for each in self.models if each.parts is not None]

    def listed(self) -> dict[str, Any]:
        """The body of `GET /v1/models`."""
        self.ready()
        return models_answer(
            (each.parts.limits, each.settings.batching, each.created) for each in self.models if each.parts is not None
        )

    def policies(self) -> dict[str, Any]:
        """The body of `GET /v1/policies`."""
        return policies_answer(self._notes.read())

    def status(self) -> dict[str, Any]:
        """The body of `GET /v1/status`."""
        return status_answer(self._notes.read())

    def _start(self) -> None:
        try:
            self._load()
            if self.state != "starting":  # a stop was requested in the meantime
                return
            self.state = "ready"
            self.recorder.ready(True)
            for each in self._composed():
                log.info("ready: model `%s`, policies %s", each.model.shown, each.store.state.digest)
        except BaseException as error:
            if self.state != "starting":  # as above
                return
            self._error = error
            self.state = "failed"
            self._tell_failure(error)
            self._residents.close()
            for model in self.models:
                model.stop(timeout=0)
        self._publish()

    def _tell_failure(self, error: BaseException) -> None:
        """Logs why the worker cannot start. Nothing was asked yet, so no prompt can be in the message. A mistake is
        left to those who wait for it, `palimpsest serve` and the command line, unless its traceback is asked for.
        """
        if not _is_mistake(error):
            log.critical("the worker cannot start: %s\n%s", error, without_message(error))
        elif self.settings.verbose:
            log.critical("the worker cannot start", exc_info=error)
        elif WATCHED not in os.environ and not self._alone:
            log.critical("the worker cannot start: %s", error)

    def _load(self) -> None:
        detectors = Detectors(self.settings)
        detections = {model: detectors.of(model.settings) for model in self.models}
        pools = self._pools(detections[self.models[0]])
        marker = Marker(self.settings, self.recorder)
        composed: dict[Model, Parts] = {}

        def found(model: Model) -> None:
            if self.state == "starting":
                drawing = partial(self._residents.using, model)
                detection = detections[model]
                composed[model] = model.compose(detection, pools.beside(detection.look), self.keys, drawing, marker)

        self._residents.settle(found)
        if self.settings.audit != "off":
            self._audit = AuditLog(self.settings.state_folder / "audit", self.keys)
        if self.state != "starting":  # it was stopped while the model loaded, and `stop` may have seen no log to close
            if self._audit is not None:
                self._audit.close()
            return
        watches = tuple(dict.fromkeys(watch for each in detections.values() for watch in each.watches))
        self.recorder.detectors(watch.health.name for watch in watches)
        for watch in watches:
            watch.observe(self._detector_did)
        reviews = Reviews(_case_store(self.settings), self._append, self.recorder)
        ready: dict[str, Ready] = {}
        for model in self.models:
            self.recorder.adapters(model.adapters)
            own = Ready(model, composed[model], marker, reviews, self._links, watches)
            ready |= dict.fromkeys(own.limits.models, own)
        self._ready = ready
        reviews.start()
        self._sweeping.start()
        for model, detection in detections.items():
            detection.warm(composed[model].store.snapshot.reads & detection.reads)
        for model in self.models:
            model.follow()
            self.recorder.build(_version(), composed[model].limits.models[0])

    def _pools(self, detection: Detection) -> DetectorPools:
        """The threads of the detectors."""
        settings = self.settings
        return DetectorPools(
            detection.sense,
            detection.look,
            self.recorder,
            threads=settings.detector_threads,
            seconds=settings.detector_seconds,
        )

    def _detector_did(self, health: Health, seconds: float) -> None:
        """Called after every detector reading, on the thread that called the detector."""
        self.recorder.detector(health.name, seconds)
        self.recorder.breaker(health.name, health.state)
        if self._told.get(health.name) != health:
            self._told[health.name] = health
            self._publish()

    def _publish(self) -> None:
        with self._publishing:  # the starter, the polling thread and the event loop do; the latest state stays
            note: dict[str, Any] = {
                "state": self.state,
                "model": self.settings.model,
                "failure": str(self._error) if self._error else None,
                "mistake": _is_mistake(self._error),
            }
            if self._ready:
                first, *more = self._composed()
                note |= first.model.note()
                note |= {"detectors": detector_notes(watch.health for watch in first.watches)}
                if first.model.name is not None:
                    note |= {"models": {each.model.shown: each.model.note() for each in (first, *more)}}
            self._notes.publish(note)

    def _composed(self) -> list[Ready]:
        """What requests use for each model, the first model's first."""
        return list(dict.fromkeys(self._ready.values()))

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """The task that runs `work` in the background. It is referenced until it is done; otherwise it could be garbage
        collected.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _record(self, record: dict[str, Any], *, demanded: bool = True) -> None:
        """Writes an audit record. Raises `Unavailable` if that fails, the record is `demanded`, and the settings
        require it.
        """
        await asyncio.to_thread(self._append, record, demanded=demanded)

    def _append(self, record: Mapping[str, Any], *, demanded: bool = True) -> None:
        """As `_record`, but blocks."""
        if self._audit is None:
            return
        try:
            with self.recorder.stage("audit"):
                self._audit.append(record)
            self.recorder.audit("written")
        except OSError as error:
            self.recorder.audit("error")
            log.error("the audit record could not be written: %s", type(error).__name__)
            if demanded and self.settings.audit == "required":
                raise Unavailable("the audit record could not be written", code="audit_unavailable") from None


def _case_store(settings: Settings) -> CaseStore:
    """The store of held cases in the state folder. Raises `SettingsError` if this cannot be written."""
    try:
        quota = Quota(settings.review_cases, settings.review_bytes, settings.review_days * 86_400)
        return CaseStore(settings.state_folder, quota)
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(
            f"held cases cannot be kept in the state folder `{settings.state_folder}`: {error}"
        ) from None


def _is_mistake(error: BaseException | None) -> bool:
    """Whether a start failed because of what the operator gave: the model, the settings or the policies."""
    return isinstance(error, (SettingsError, PolicyError))


def _version() -> str:
    from importlib.metadata import version

    return version("palimpsest")
