"""The BentoML service: one class that starts the runtime of its worker and answers health checks.

BentoML imports this module in its master process, in every worker and at build time, so importing it loads nothing
heavy.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml

from service.console import Console
from service.hosts import host_names
from service.http.app import access, make_app
from service.http.guard import Guard
from service.http.keys import KeyRing
from service.logs import log_as_json
from service.settings import load_settings
from service.tracing import tracing_from_environment
from service.worker.accepting import Acceptance
from service.worker.draining import drain_on_signals, end_when_dead
from service.worker.notes import notes_folder
from service.worker.protocol import use_strict_protocol

__all__ = ["Palimpsest", "app"]

_settings = load_settings().settings
if _settings.log_format == "json":
    log_as_json()
use_strict_protocol()  # BentoML makes the server itself, and lets nobody choose

app = make_app()
keys = KeyRing([key.get_secret_value() for key in _settings.api_keys], _settings.keys_file, local=_settings.loopback)
console = Console(_settings, keys)


@bentoml.service(
    name="palimpsest",
    workers=_settings.workers,
    # the service's own deadline answers first, in OpenAI's shape; this timeout only ends what hangs outside of it
    traffic={"timeout": _settings.deadline_seconds + 30.0},
    # BentoML's metrics and log lines contain raw paths, so scanners could grow them without bound; ours are bounded
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class Palimpsest:
    """A safety service for text-to-image diffusion models that repairs pictures instead of refusing them."""

    def __init__(self) -> None:
        from service.metrics.recorder import Recorder, forget_dead_workers
        from service.worker.runtime import Runtime

        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            forget_dead_workers(Path(folder))
        self.runtime = Runtime(_settings, Recorder(tracing=tracing_from_environment()))
        app.state.runtime = self.runtime
        console.app.state.runtime = self.runtime
        self.runtime.start()

    @bentoml.on_startup
    async def watch_over(self) -> None:
        """Starts draining on SIGTERM and SIGINT, and the watchdog that ends the worker when its engine is dead.

        BentoML accepts connections after this hook returns, so it waits until the worker may accept them.
        """
        runtime, own = self.runtime, _settings
        drain_on_signals(runtime.drain, runtime.turn_away, seconds=own.drain_seconds, grace=own.grace_seconds)
        end_when_dead(self.runtime)
        console.watch()
        await Acceptance(notes_folder()).wait(lambda: self.runtime.state)

    def __is_alive__(self) -> bool:
        return self.runtime.is_alive()

    def __is_ready__(self) -> bool:
        return self.runtime.is_ready()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Stops the runtime after BentoML has answered the requests in flight."""
        self.runtime.stop()


# the decorator makes a `bentoml.Service` of the class, which its type does not say
Palimpsest.add_asgi_middleware(  # type: ignore[attr-defined]
    Guard,
    access=access(),
    keys=keys,
    console=console,
    cors=_settings.cors_origins,
    hosts=host_names(_settings),
)
