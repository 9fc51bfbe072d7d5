"""The runtime of one worker: its parts, and the order in which they start.

The engine thread loads the model while the worker already answers health checks: it is alive, but not ready. Policies
are loaded after the model, because a rule may require a pack that fits the model. If the start fails, the reason is in
the log and in the worker's note, and the worker is no longer alive.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from policies import PolicyError, Request, Snapshot, Store, StoreState, no_policy
from service.audit import AuditKeys, AuditLog, load_keys
from service.engine.adapters import Adapter, load_adapters
from service.engine.closed_loop import ClosedLoop
from service.engine.host import limits_of, load_host
from service.engine.outcome import Held as HeldPictures
from service.engine.outcome import Outcome, count
from service.engine.queue import Queue
from service.engine.thread import Engine
from service.errors import ApiError, Held, Unavailable, without_message
from service.http.answers import (
    audit_record,
    evaluation_answer,
    generation_answer,
    held_content,
    refusal,
    unanswered_record,
)
from service.http.limits import RateLimiter, limits_folder, shared_buckets
from service.http.requests import EvaluateRequest
from service.http.status import detector_notes, models_answer, policies_answer, status_answer
from service.marking.marker import Marker
from service.metrics.recorder import Recorder
from service.model_names import written_at
from service.order import Limits, Order, Progress
from service.periodic import Periodic
from service.picture_links import PictureLinks
from service.reading.detectors import Detection, build_detection
from service.reading.pools import DetectorPools
from service.reviews.reviews import Reviews
from service.reviews.store import CaseStore, Quota, new_id
from service.rules.bundle_upload import BundleUpload, bundle_place
from service.rules.policy_store import follow, make_loader, public_note, told_change
from service.rules.support import PackIndex, RuleRow, rule_table, unmet
from service.settings import Settings, SettingsError
from service.worker.notes import WorkerNotes, notes_folder

if TYPE_CHECKING:
    from detectors.running import Health, Watch
    from steering import Host

__all__ = ["Ready", "Runtime"]

log = logging.getLogger("bentoml.palimpsest.runtime")

WorkerState = Literal["starting", "ready", "failed", "stopping"]
_SWEEP_SECONDS = 15.0  # between looks for pictures behind links whose time is over
_STUCK_SECONDS = 120.0  # if a denoising step takes longer, the engine counts as dead


@dataclass(frozen=True, slots=True)
class Ready:
    """The parts that exist once the worker is ready."""

    host: Host
    limits: Limits
    packs: PackIndex
    store: Store
    readers: DetectorPools
    loop: ClosedLoop
    marker: Marker
    upload: BundleUpload
    reviews: Reviews
    links: PictureLinks
    watches: tuple[Watch, ...]


class Runtime:
    """The model, policies, detectors, audit log and metrics of one worker. `start` returns at once; `stop` ends
    everything.
    """

    def __init__(self, settings: Settings, recorder: Recorder, *, load: Callable[[Settings], Host] = load_host) -> None:
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
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._publishing = threading.Lock()
        self._told: dict[str, Health] = {}  # of each detector, what the notes say
        self._error: BaseException | None = None
        self._notes = WorkerNotes(notes_folder())
        self._audit: AuditLog | None = None
        self._ready: Ready | None = None
        self._rows: tuple[RuleRow, ...] = ()
        self._followed: Snapshot | None = None  # the policies that the log told of last
        self._adapters: dict[str, Adapter] = {}
        self._created = 0  # when the model's files were written
        links = settings.state_folder / "pictures"
        self._links = PictureLinks(links, settings.picture_url_seconds, settings.picture_url_bytes)
        self._sweeping = Periodic("links", _SWEEP_SECONDS, self._links.sweep)
        self._queue = Queue(settings.queue_size, recorder)
        self._engine = Engine(
            lambda: self._adapted(load(settings)),
            self._queue,
            recorder,
            batching=settings.batching,
            max_batch=settings.max_batch,
        )
        self._starter = threading.Thread(target=self._start, name="palimpsest-starter", daemon=True)

    def start(self) -> None:
        """Starts loading in the background. `is_ready` tells when it is done."""
        self.recorder.start()
        self._publish()
        self._engine.start()
        self._starter.start()

    def wait(self) -> None:
        """Waits until the worker is ready. Raises the error if it could not start."""
        self._starter.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stops the engine after its running batch, then policy polling and the audit log. The worker becomes unready
        first, so that readiness probes fail.
        """
        self.state = "stopping"
        self._engine.stop(timeout=self.settings.grace_seconds)
        if self._ready is not None:
            self._ready.store.close()
            self._ready.readers.close()
            self._ready.reviews.stop()
            self._sweeping.stop()
        if self._audit is not None:
            self._audit.close()
        self.recorder.tracing.close()
        self._notes.withdraw()

    def drain(self) -> None:
        """Makes the worker unready: requests that have not started are rejected, the others are answered. May be called
        twice.
        """
        if self.state in ("ready", "starting"):
            self.state = "stopping"
            self.recorder.ready(False)
            log.info("draining: %d requests in flight", self._in_flight)
            self._engine.turn_away()
            self._publish()

    def is_alive(self) -> bool:
        """Whether the worker runs or can still become ready."""
        if self.state == "starting":
            return self._starter.is_alive()
        return self.state in ("ready", "stopping") and self._engine.alive(within=_STUCK_SECONDS)

    def is_ready(self) -> bool:
        """Whether the worker answers requests."""
        return self.state == "ready" and self._engine.alive(within=_STUCK_SECONDS)

    def ready(self) -> Ready:
        """The parts that requests use. Raises `Unavailable` before the worker is ready."""
        if self._ready is None or self.state != "ready":
            raise Unavailable("the worker is not ready", retry_after=2)
        return self._ready

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
        snapshot = self.ready().store.snapshot
        return await self._generate(order, ignored, decision_id, tenant, progress, snapshot)

    async def plain(
        self, order: Order, decision_id: str, *, tenant: str = "", progress: Progress | None = None
    ) -> dict[str, Any]:
        """The body of a 200 answer with what the model draws without any policy, to compare with. A prompt that the
        policies in use refuse is refused here, too. The audit log has these pictures as `plain`; decisions and pictures
        that left are counted without them. Raises as `generate` does.
        """
        ready = self.ready()
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
        ready, started = self.ready(), time.perf_counter()
        about = {"decision_id": decision_id, "tenant": tenant}
        self._in_flight += 1
        try:
            outcome = await ready.loop.answer(order, snapshot, decision_id, tenant=tenant, progress=progress)
            finished = None if outcome.refused else await ready.loop.finish(outcome, order)
            outcome = outcome if finished is None else finished.outcome
            held = None if outcome.held is None else await self._hold(outcome, outcome.held, order, ignored, about)
            if not plain:
                count(outcome, self.recorder, order.lora)
        except BaseException as error:
            ended = unanswered_record(error, order, self.keys, snapshot.digest, time.perf_counter() - started)
            # not awaited: a cancelled request must not wait, and the record is written anyway
            self._later(self._record(about | ended, demanded=False))
            raise
        finally:
            self._in_flight -= 1
        record = audit_record(outcome, order, self.keys, seconds=time.perf_counter() - started)
        if plain:
            record |= {"event": "plain"}
        try:
            await self._record(about | record | ({"review": held} if held else {}))
        except Unavailable:
            if held is not None:
                await asyncio.get_running_loop().run_in_executor(None, ready.reviews.drop, held)
            raise
        if finished is None:
            refused = refusal(outcome, order, decision_id)
            raise refused if held is None else Held(refused, held)
        return generation_answer(finished, order, ignored, decision_id)

    async def _hold(
        self, outcome: Outcome, held: HeldPictures, order: Order, ignored: Sequence[str], about: dict[str, Any]
    ) -> str | None:
        """The id of the case that keeps the pictures of a held request. None if it cannot be kept: the request is then
        refused.
        """
        ready, decision_id = self.ready(), about["decision_id"]
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

    async def put_policies(self, content: bytes, decision_id: str, *, tenant: str) -> dict[str, Any]:
        """Stores a signed bundle where every worker finds it, and returns the body of a 202 answer. Raises an
        `ApiError` if the bundle is not accepted.
        """
        ready = self.ready()
        about = {"event": "policies-put", "decision_id": decision_id, "tenant": tenant}
        try:
            answer = await asyncio.get_running_loop().run_in_executor(None, ready.upload.take, content)
        except ApiError as error:
            await self._record(about | {"refused": error.code}, demanded=False)
            raise
        await self._record(about | {"policy": answer["digest"], "bundle": answer["bundle"]}, demanded=False)
        return answer

    async def evaluate(self, asked: EvaluateRequest, decision_id: str, *, tenant: str = "") -> dict[str, Any]:
        """The body of an evaluation. No picture is generated, and nothing is counted or recorded."""
        ready = self.ready()
        request = Request(asked.prompt, asked.negative_prompt or "", tenant, id=decision_id, now=datetime.now(UTC))
        _, decision = await ready.loop.judge_prompt(request, ready.store.snapshot)
        return evaluation_answer(decision, decision_id)

    def models(self) -> dict[str, Any]:
        """The body of `GET /v1/models`."""
        return models_answer(self.ready().limits, self.settings.batching, self._created)

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
            log.info("ready: model `%s`, policies %s", self.settings.model, self._policy_note()["digest"])
        except BaseException as error:
            self._error = error
            self.state = "failed"
            # nothing was asked yet, so no prompt can be in the message
            where = "" if _is_mistake(error) else f"\n{without_message(error)}"
            log.critical("the worker cannot start: %s%s", error, where)
            self._engine.stop(timeout=0)
        self._publish()

    def _adapted(self, host: Host) -> Host:
        """The host with its adapters loaded and off. Called on the engine thread, which owns the model."""
        self._adapters = load_adapters(host, self.settings)
        return host

    def _load(self) -> None:
        detection = build_detection(self.settings)
        marker = Marker(self.settings, self.recorder)
        self._engine.settled.wait()
        if self._engine.failure is not None:
            raise self._engine.failure
        host = self._engine.host
        assert host is not None  # INVARIANT: settled without a failure
        self._created = written_at(self.settings.model)
        if self.settings.audit != "off":
            self._audit = AuditLog(self.settings.state_folder / "audit", self.keys)
        if self.state != "starting":  # it was stopped while the model loaded, and `stop` may have seen no log to close
            if self._audit is not None:
                self._audit.close()
            return
        packs = PackIndex(host, [self.settings.packs] if self.settings.packs else [])
        self.recorder.adapters(self._adapters)
        self.recorder.detectors(health.name for health in detection.health)
        for watch in detection.watches:
            watch.observe(self._detector_did)
        loader = make_loader(self.settings, detection, self.keys, host=host.name, packs=packs)
        store = follow(
            self.settings,
            detection,
            loader,
            accept=partial(unmet, packs),
            on_reload=self._reloaded,
            on_poll=self.recorder.polled,
        )
        upload = BundleUpload(bundle_place(self.settings.policy), loader, store, partial(unmet, packs))
        self._ready = self._compose(host, packs, store, detection, upload, marker)
        self._ready.reviews.start()
        self._sweeping.start()
        detection.warm(store.snapshot.reads & detection.reads)
        if store.state.source != "live":
            self._reloaded(store.state)
        self._policies_changed(store.state, store.snapshot)
        if store.snapshot.floor == "none":
            log.warning("no floor is in force: `floor` is false, and no policy is called `floor`")
        self.recorder.build(_version(), host.name)

    def _compose(
        self, host: Host, packs: PackIndex, store: Store, detection: Detection, upload: BundleUpload, marker: Marker
    ) -> Ready:
        settings = self.settings
        readers = DetectorPools(
            detection.sense,
            detection.look,
            self.recorder,
            threads=settings.detector_threads,
            seconds=settings.detector_seconds,
        )
        loop = ClosedLoop(
            self._queue,
            readers,
            packs,
            self.recorder,
            without_lettering=detection.without_lettering,
            deadline_seconds=settings.deadline_seconds,
            adapters=self._adapters,
            rewrites=settings.rewriters == "judge" and bool(host.rewriter_off),
            marker=marker,
        )
        reviews = Reviews(_case_store(settings), self._append, self.recorder)
        limits = limits_of(host, settings, self._adapters)
        sizes = marker.markable(limits.sizes)
        default = limits.default_size if limits.default_size in sizes else sizes[0]
        limits = replace(limits, sizes=sizes, default_size=default)
        return Ready(host, limits, packs, store, readers, loop, marker, upload, reviews, self._links, detection.watches)

    def _detector_did(self, health: Health, seconds: float) -> None:
        """Called after every detector reading, on the thread that called the detector."""
        self.recorder.detector(health.name, seconds)
        self.recorder.breaker(health.name, health.state)
        if self._told.get(health.name) != health:
            self._told[health.name] = health
            self._publish()

    def _reloaded(self, state: StoreState) -> None:
        """Called after every attempt to load changed policy files, on the polling thread."""
        good = state.source == "live"
        self.recorder.reload("ok" if good else "failed", codes=[p.code for p in state.last_problems])
        told = state.last_error
        if self._ready is not None:
            snapshot = self._ready.store.snapshot
            told = told or told_change(state, self._followed, snapshot)
            self._policies_changed(state, snapshot)
        log.log(logging.INFO if good else logging.ERROR, "policies: %s", told or f"now {state.digest}")

    def _policies_changed(self, state: StoreState, snapshot: Snapshot) -> None:
        assert self._ready is not None  # INVARIANT: only called with a runtime that is composed
        self._followed = snapshot
        self._rows = rule_table(snapshot, self._ready.packs, self._adapters.values())
        unfit = sum(row.unfit is not None for row in self._rows)
        rules = [(row.rule, row.mode) for row in self._rows]
        self.recorder.policies(
            generation=state.generation,
            digest=state.digest,
            loaded=state.loaded_at.timestamp(),
            unfit=unfit,
            rules=rules,
            floor=snapshot.floor != "none",
            expires=state.origin.not_after.timestamp() if state.origin else math.inf,
        )
        self._publish()

    def _publish(self) -> None:
        with self._publishing:  # the starter, the polling thread and the event loop do; the latest state stays
            note: dict[str, Any] = {
                "state": self.state,
                "model": self.settings.model,
                "failure": str(self._error) if self._error else None,
                "mistake": _is_mistake(self._error),
            }
            if self._ready is not None:
                note |= {"policy": self._policy_note(), "rules": [row.to_dict() for row in self._rows]}
                note |= {"adapters": [each.to_dict() for each in self._adapters.values()]}
                note |= {"detectors": detector_notes(watch.health for watch in self._ready.watches)}
            self._notes.publish(note)

    def _policy_note(self) -> dict[str, Any]:
        assert self._ready is not None  # INVARIANT: as above
        return public_note(self._ready.store.state, self._ready.store.snapshot)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` in the background. The task is referenced until it is done; otherwise it could be garbage
        collected.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
