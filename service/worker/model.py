"""One model of a worker: its engine and queue, and what requests for it are answered with.

The model itself may be put out of memory and loaded again; everything else stays, so that its policies are followed and
its requests are checked all the time. What was found when it was first loaded holds for later loads: a model that came
back as another one would be answered for under rules, packs and limits that nobody checked.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from policies import Snapshot, Store, StoreState
from service.audit import AuditKeys
from service.engine.adapters import Adapter, load_adapters
from service.engine.closed_loop import ClosedLoop, Drawing
from service.engine.host import limits_of
from service.engine.queue import Queue
from service.engine.thread import Engine
from service.engine.turns import Turns
from service.engine.weights import bytes_of, free_caches
from service.errors import Unavailable
from service.loading.placing import facts_of
from service.loading.source import source_of, written_at
from service.marking.marker import Marker
from service.metrics.recorder import Recorder
from service.order import Limits
from service.reading.detectors import Detection
from service.reading.pools import DetectorPools
from service.rules.bundle_upload import BundleUpload, bundle_place
from service.rules.policy_store import about, follow, make_loader, public_note, told_change
from service.rules.support import PackIndex, RuleRow, extra_packs, rule_table, unmet
from service.settings import Served, Settings, SettingsError

if TYPE_CHECKING:
    from steering import Host, HostFacts

__all__ = ["Model", "Parts"]

log = logging.getLogger("bentoml.palimpsest.model")

_STUCK_SECONDS = 120.0  # if a denoising step takes longer, the engine counts as dead
_LOADING_SECONDS = 1800.0  # and so if loading does


@dataclass(frozen=True, slots=True)
class Parts:
    """What requests for a model use, in memory or not."""

    limits: Limits
    packs: PackIndex
    store: Store
    readers: DetectorPools
    loop: ClosedLoop
    upload: BundleUpload


class Model:
    """One model of a worker. `others`: the names of all models of the table; `changed` is called when its policies or
    its place changed.
    """

    def __init__(
        self,
        served: Served,
        recorder: Recorder,
        turns: Turns,
        load: Callable[[Settings], Host],
        *,
        others: Collection[str] = (),
        changed: Callable[[], None],
    ) -> None:
        self.name = served.name
        self.shown = served.shown
        self.settings = served.settings
        self.recorder = recorder.of(served.name or "")
        self.recorder.model = served.name
        self.queue = Queue(self.settings.queue_size, self.recorder)
        self.adapters: dict[str, Adapter] = {}
        self.rows: tuple[RuleRow, ...] = ()
        self.created = 0  # when its files were written
        self.bytes = 0  # of its weights, known once it was loaded
        self.seconds = 0.0  # that the last load took
        self.facts: HostFacts | None = None
        self._line = ""  # on the loaded model
        self.parts: Parts | None = None
        self._turns = turns
        self._load = load
        self._others = others
        self._changed = changed
        self._engine: Engine | None = None
        self._began = 0.0
        self._followed: Snapshot | None = None  # the policies that the log told of last

    @property
    def host(self) -> Host:
        """The loaded model. Raises `Unavailable` while it is not in memory."""
        host = None if self._engine is None else self._engine.host
        if host is None:
            raise Unavailable(f"the model `{self.shown}` is not loaded", code="model_loading", retry_after=1)
        return host

    def begin(self) -> None:
        """Begins to load the model, on a new engine thread."""
        settings = self.settings
        self._began = time.monotonic()
        self._engine = Engine(
            self._loaded,
            self.queue,
            self.recorder,
            batching=settings.batching,
            max_batch=settings.max_batch,
            turns=self._turns,
        )
        self._engine.start()

    def settle(self) -> None:
        """Waits until the model is loaded. Raises the error if it could not be, with the model's name before a mistake
        of the operator's.
        """
        engine = self._engine
        assert engine is not None  # INVARIANT: `begin` came before
        engine.settled.wait()
        with about(self.name):
            try:
                if engine.failure is not None:
                    raise engine.failure
                self._measure(self.host)
            except BaseException as error:
                if self.name is not None and not isinstance(error, SettingsError):
                    log.error("the model `%s` cannot be loaded", self.name)
                self.recorder.loaded("failed")
                self.release()
                raise
        self.seconds = time.monotonic() - self._began
        self.recorder.loaded("ok")

    def release(self) -> None:
        """Puts the model out of memory, once its running batch is done. Its queue stays."""
        engine, self._engine = self._engine, None
        if engine is not None and engine.failure is None:
            engine.retire()
        free_caches()

    def stop(self, timeout: float) -> None:
        """Ends the engine, and what follows the policies."""
        if self._engine is not None:
            self._engine.stop(timeout)
        if self.parts is not None:
            self.parts.store.close()

    def turn_away(self) -> None:
        """Rejects jobs that have not started, and new ones."""
        if self._engine is None:
            self.queue.close()
        else:
            self._engine.turn_away()

    def alive(self) -> bool:
        """Whether the engine lives; one that is put away does."""
        engine = self._engine
        if engine is None:
            return True
        return engine.alive(within=_STUCK_SECONDS if engine.settled.is_set() else _LOADING_SECONDS)

    def compose(
        self, detection: Detection, readers: DetectorPools, keys: AuditKeys, drawing: Drawing, marker: Marker
    ) -> Parts:
        """Everything that requests use, once the model was loaded. Raises `SettingsError` or `PolicyError`."""
        settings, facts, host = self.settings, self.facts, self.host
        assert facts is not None  # INVARIANT: `settle` came before
        with about(self.name):
            limits = _markable(self._limits(host), marker)
            packs = PackIndex(facts, extra_packs(settings))
            name = self.name or facts.name
            loader = make_loader(settings, detection, keys, host=name, packs=packs, others=self._others)
            store = follow(
                settings,
                detection,
                loader,
                accept=partial(unmet, packs),
                on_reload=self._reloaded,
                on_poll=self.recorder.polled,
                model=self.name,
            )
        loop = ClosedLoop(
            self.queue,
            readers,
            packs,
            self.recorder,
            without_lettering=detection.without_lettering,
            deadline_seconds=settings.deadline_seconds,
            adapters=self.adapters,
            rewrites=settings.rewriters == "judge" and bool(host.rewriter_off),
            drawing=drawing,
            marker=marker,
        )
        upload = BundleUpload(bundle_place(settings.policy), loader, store, partial(unmet, packs))
        self.created = written_at(source_of(settings))
        self.parts = Parts(limits, packs, store, readers, loop, upload)
        return self.parts

    def follow(self) -> None:
        """Tells of the policies that the model starts with."""
        assert self.parts is not None  # INVARIANT: `compose` came before
        store = self.parts.store
        if store.state.source != "live":
            self._reloaded(store.state)
        self._policies_changed(store.state, store.snapshot)
        if store.snapshot.floor == "none":
            log.warning("no floor is in force%s: `floor` is false, and no policy is called `floor`", self._of())

    def note(self) -> dict[str, Any]:
        """What the worker's note says of the model."""
        assert self.parts is not None  # INVARIANT: as above
        return {
            "host": self._line,
            "policy": public_note(self.parts.store.state, self.parts.store.snapshot),
            "rules": [row.to_dict() for row in self.rows],
            "adapters": [each.to_dict() for each in self.adapters.values()],
            "loaded": self._engine is not None and self._engine.ready.is_set(),
        }

    def _loaded(self) -> Host:
        """The host with its adapters loaded and off. Called on the engine thread, which owns the model."""
        host = self._load(self.settings)
        adapters = load_adapters(host, self.settings)
        if self.facts is not None and adapters != self.adapters:
            raise SettingsError("`adapters`: a file has changed since the service started; start it again")
        self.adapters.update(adapters)
        return host

    def _measure(self, host: Host) -> None:
        """Keeps what is known of the model. Raises `SettingsError` if it has become another one."""
        from steering import HostFacts

        facts = HostFacts.of(host)
        if self.facts is not None and facts != self.facts:
            raise SettingsError("`model`: its files have changed since the service started; start it again")
        self.facts, self.bytes, self._line = facts, bytes_of(host), facts_of(host, self.settings)
        self.recorder.model = self.name or facts.name

    def _limits(self, host: Host) -> Limits:
        limits = limits_of(host, self.settings, self.adapters)
        if self.name is None:
            return limits
        return replace(limits, models=(self.name, *self.settings.model_aliases))

    def _of(self) -> str:
        return "" if self.name is None else f" of `{self.name}`"

    def _reloaded(self, state: StoreState) -> None:
        """Called after every attempt to load changed policy files, on the polling thread."""
        good = state.source == "live"
        self.recorder.reload("ok" if good else "failed", codes=[p.code for p in state.last_problems])
        told = state.last_error
        if self.parts is not None:
            snapshot = self.parts.store.snapshot
            told = told or told_change(state, self._followed, snapshot)
            self._policies_changed(state, snapshot)
        level = logging.INFO if good else logging.ERROR
        log.log(level, "policies%s: %s", self._of(), told or f"now {state.digest}")

    def _policies_changed(self, state: StoreState, snapshot: Snapshot) -> None:
        assert self.parts is not None  # INVARIANT: only called with a model that is composed
        if snapshot.strikes is not None and self.settings.redis_url and not self.settings.audit_key:
            log.warning("strikes are shared by servers with the same `audit_key` only, and it is not set")
        self._followed = snapshot
        self.rows = rule_table(snapshot, self.parts.packs, self.adapters.values())
        self.recorder.policies(
            generation=state.generation,
            digest=state.digest,
            loaded=state.loaded_at.timestamp(),
            unfit=sum(row.unfit is not None for row in self.rows),
            rules=[(row.rule, row.mode) for row in self.rows],
            floor=snapshot.floor != "none",
            expires=state.origin.not_after.timestamp() if state.origin else math.inf,
        )
        self._changed()


def _markable(limits: Limits, marker: Marker) -> Limits:
    """The limits with the sizes that can be marked. Raises `SettingsError` if there are none."""
    sizes = marker.markable(limits.sizes)
    default = limits.default_size if limits.default_size in sizes else sizes[0]
    return replace(limits, sizes=sizes, default_size=default)
