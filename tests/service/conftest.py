"""A tiny host with random weights, packs for it, and policies: a whole service in which only meaning is missing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pytest

from tests.hosts import LOADING
from tests.running import lettering_pack, save_lora
from tests.service.serving import HOLDING, POLICY

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from service.settings import Settings
    from steering import Host

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parent.parent / "tiny.py")
assert _spec is not None
assert _spec.loader is not None
tiny = sys.modules.setdefault("tiny", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(tiny)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with four blocks."""
    return tiny.save_pixart(tmp_path_factory.mktemp("models") / "tiny-pixart")


@pytest.fixture(scope="session")
def host(model: Path) -> Host:
    """The host of that folder."""
    from steering import Host

    return Host.load(model)


@pytest.fixture(scope="session")
def packs(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lettering pack: the second and third site of four; the wider set has the first, too."""
    return lettering_pack(model, tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="session")
def loud(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA file for that host, which changes its pictures a lot."""
    from steering import Host

    return save_lora(Host.load(model).denoiser, tmp_path_factory.mktemp("loras") / "loud.safetensors")


@pytest.fixture(scope="session")
def editing(host: Any, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack that edits."""
    from dataclasses import replace

    import torch

    from steering import Operator, Pack

    first = Pack.load(packs / "lettering.safetensors", host=host)
    rank, width = 4, 16
    towards = torch.randn(rank, width, generator=torch.Generator().manual_seed(0))
    operator = Operator(e=towards, d=2 * towards, m=torch.zeros(rank, width))
    pack = replace(first, concept="subject/zub", operators=dict.fromkeys(first.site_names, (operator,)))
    return pack.save(tmp_path_factory.mktemp("adapters") / "zub.safetensors")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A file with one rule that steers and one that refuses."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "test.yaml").write_text(POLICY)
    return folder / "test.yaml"


@pytest.fixture
def settings(model: Path, packs: Path, policy: Path, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a service on the tiny host; keywords go over them."""
    from service.settings import Settings

    def make(**options: Any) -> Settings:
        values = {"model": str(model), "packs": packs, "policy": str(policy), "state": tmp_path / "state", "threads": 1}
        return Settings(**{**values, "policy_poll_seconds": 0.05, **options})

    return make


@pytest.fixture(scope="session")
def recorder() -> Any:
    """A recorder on a registry of its own."""
    from prometheus_client import CollectorRegistry

    from service.metrics.recorder import Recorder

    return Recorder(CollectorRegistry())


class Hosts:
    """Loaded hosts of the tiny model. Each serves one service at a time, and the next one when that has ended. A
    service whose settings change how a model is loaded, or what is loaded on it, gets a host of its own.
    """

    def __init__(self, common: Settings) -> None:
        self._common = common
        self._idle: list[Host] = []
        self._loaded: WeakSet[Host] = WeakSet()  # what a service puts out of memory has to go

    def load(self, settings: Settings) -> Host:
        from service.engine.host import load_host

        if self._shared(settings) and self._idle:
            return self._idle.pop()
        host = load_host(settings)
        if self._shared(settings):
            self._loaded.add(host)
        return host

    def give_back(self, runtime: Any) -> None:
        """Keeps the host of a service that has ended, if it is one of these and its engine runs no more."""
        (engine,) = (model._engine for model in runtime.models[:1])
        if engine is not None and not engine.is_alive() and engine.host in self._loaded:
            self._idle.append(engine.host)

    def _shared(self, settings: Settings) -> bool:
        return all(getattr(settings, name) == getattr(self._common, name) for name in LOADING)


@pytest.fixture(scope="session")
def hosts(model: Path) -> Hosts:
    """The hosts that services of the tiny model use."""
    from service.settings import Settings

    return Hosts(Settings(model=str(model), threads=1))


@pytest.fixture
def serve(settings: Callable[..., Any], hosts: Hosts) -> Iterator[Callable[..., Any]]:
    """Starts the app with its guard on a runtime of its own; keywords are settings."""
    from prometheus_client import CollectorRegistry
    from starlette.testclient import TestClient

    from service.console import Console
    from service.hosts import host_names
    from service.http.app import access, make_app
    from service.http.guard import Guard
    from service.http.keys import KeyRing
    from service.metrics.recorder import Recorder
    from service.worker.runtime import Runtime

    running: list[Runtime] = []

    def start(*, wait: bool = True, **options: Any) -> TestClient:
        chosen = settings(**options)
        runtime = Runtime(chosen, Recorder(CollectorRegistry()), load=hosts.load)
        app = make_app()
        app.state.runtime = runtime
        keys = KeyRing([k.get_secret_value() for k in chosen.api_keys], chosen.keys_file, local=chosen.loopback)
        console = Console(chosen, keys)
        console.app.state.runtime = runtime
        guard = Guard(app, access(), keys, console, cors=chosen.cors_origins, hosts=host_names(chosen))
        client = TestClient(guard, raise_server_exceptions=False)
        client.headers["Host"] = "localhost"
        client.runtime = runtime  # type: ignore[attr-defined]
        if wait:
            runtime.start()
            runtime.wait()
            running.append(runtime)
        return client

    yield start
    for runtime in running:
        runtime.stop()
        hosts.give_back(runtime)


@pytest.fixture
def holding(policy: Path, serve: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a service whose rules hold; keywords are settings."""
    policy.write_text(HOLDING)
    return serve
