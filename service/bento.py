"""The BentoML service: a class that starts a runtime in its worker and answers the health checks from it.

BentoML imports this module in its master, in every worker and at build time. So nothing heavy is imported or loaded
here.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml

from service.http.app import access, make_app
from service.http.guard import Guard
from service.http.keys import KeyRing
from service.settings import load_settings
from service.worker.accepting import Acceptance
from service.worker.draining import drain_on_signals, end_when_dead
from service.worker.notes import notes_folder

__all__ = ["Palimpsest", "app"]

_settings = load_settings().settings

app = make_app()


@bentoml.service(
    name="palimpsest",
    workers=_settings.workers,
    # our own deadline answers first, in OpenAI's shape; this one only ends what hangs outside of our code
    traffic={"timeout": _settings.deadline_seconds + 30.0},
    # BentoML's series and log lines carry raw paths, so scanning grows them without bound: ours are bounded
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
        self.runtime = Runtime(_settings, Recorder())
        app.state.runtime = self.runtime
        self.runtime.start()

    @bentoml.on_startup
    async def watch_over(self) -> None:
        """Drains when the worker is told to end, and ends it when its engine is dead, so that another is started.

        BentoML takes connections after this, so it returns when the worker should.
        """
        drain_on_signals(self.runtime.drain, _settings.drain_seconds)
        end_when_dead(self.runtime)
        await Acceptance(notes_folder()).wait(lambda: self.runtime.state)

    def __is_alive__(self) -> bool:
        return self.runtime.is_alive()

    def __is_ready__(self) -> bool:
        return self.runtime.is_ready()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Ends the runtime after BentoML has answered what was in flight."""
        self.runtime.stop()


# the decorator makes a `bentoml.Service` of the class, which its type does not say
Palimpsest.add_asgi_middleware(  # type: ignore[attr-defined]
    Guard,
    access=access(),
    keys=KeyRing([key.get_secret_value() for key in _settings.api_keys], _settings.keys_file),
)
