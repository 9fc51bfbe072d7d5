"""Starts BentoML's server and waits for its workers.

Everything that can be checked without a worker is checked first. A mistake is then one clear line and an exit code,
instead of a worker that restarts again and again. The server runs in this process (BentoML's master). Every start has a
private BentoML home, because two servers with the same home destroy each other's metrics.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palimpsest_base.scratch import scratch_folder
from service.loading.source import is_factory
from service.settings import LISTS, OWN, PREFIX, Served, Settings, SettingsError
from service.worker.notes import WATCHED

__all__ = ["Started", "check", "environment", "serve"]

_ROOT = Path(__file__).resolve().parents[2]
Started = Callable[[list[dict[str, Any]]], None]


def check(settings: Settings) -> None:
    """Checks whether the service can start, as far as this is possible without loading the model.

    Raises `SettingsError` or `policies.PolicyError`.
    """
    from service.audit import load_keys
    from service.engine.adapters import check_adapters
    from service.engine.host import check_model
    from service.http.keys import load_keys_file
    from service.http.limits import shared_buckets
    from service.reading.detectors import Detectors
    from service.rules.policy_store import about, check_policies
    from service.rules.support import extra_packs
    from service.tracing import tracing_from_environment

    if not settings.loopback and not (settings.api_keys or settings.keys_file) and not settings.insecure:
        raise SettingsError(
            f"`host` is `{settings.host}`, which other machines can reach, and no API key is configured: make one with"
            f" `palimpsest keys new` and set `{PREFIX}KEYS_FILE`, bind 127.0.0.1, or pass `--insecure`"
        )
    if settings.console == "on" and not settings.loopback and settings.keys_file is None:
        raise SettingsError(
            f"`console` is `on` and `host` is `{settings.host}`, which other machines can reach: make a key with"
            f" `palimpsest keys new NAME --scopes console,generate,policy:read,metrics` and set `{PREFIX}KEYS_FILE`"
        )
    if "*" in settings.cors_origins and not (settings.api_keys or settings.keys_file):
        raise SettingsError(
            "`cors_origins` is `*` and no API key is configured: every page that somebody here opens could use the"
            f" service; name the origins, or make a key with `palimpsest keys new` and set `{PREFIX}KEYS_FILE`"
        )
    if settings.marking not in ("signed", "both"):
        for name in ("signing_certificate", "signing_key"):
            if getattr(settings, name) is not None:
                raise SettingsError(
                    f"`{name}` is set and `marking` is `{settings.marking}`, so no picture would be signed: set"
                    f" `marking` to `signed` or `both`, or leave `{name}` out"
                )
    if settings.keys_file is not None:
        load_keys_file(settings.keys_file)
    _check_state(settings)
    tracing_from_environment().close()
    shared_buckets(settings)
    _check_port(settings)
    keys = load_keys(settings.state_folder, settings.audit_key.get_secret_value() if settings.audit_key else None)
    models = settings.served()
    names = tuple(each.name for each in models if each.name)
    detectors = Detectors(settings)
    for each in models:
        with about(each.name):
            check_model(each.settings)
            extra_packs(each.settings)
            check_adapters(each.settings)
            check_policies(each.settings, detectors.of(each.settings), keys, host=each.name, others=names)


def serve(settings: Settings, *, started: Started) -> int:
    """Runs the server until it is stopped. Returns the exit code: 0, 2 if a worker could not start because of a mistake
    in the model, the settings or the policies, or 3 if it could not for another reason.

    `started` receives the notes of the workers once every worker is ready or one has failed.
    """
    run = scratch_folder()
    try:
        os.environ.update(environment(settings, run))
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # BentoML makes one in its home and tells its workers
        watch = _Watch(run / "bentoml" / "workers", settings.workers, started)
        watch.start()
        _bentoml(settings)
        watch.over.set()
        return (2 if watch.mistake else 3) if watch.failed else 0
    finally:
        shutil.rmtree(run, ignore_errors=True)


def environment(settings: Settings, run: Path) -> dict[str, str]:
    """The environment of the workers: every setting, a private BentoML home, and no model downloads."""
    values = {f"{PREFIX}{name}".upper(): value for name, value in _plain(settings).items()}
    return values | {
        WATCHED: "1",
        "BENTOML_HOME": str(run / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


class _Watch(threading.Thread):
    """Waits until every worker is ready or one has failed. A failure stops the server."""

    def __init__(self, folder: Path, workers: int, started: Started) -> None:
        super().__init__(name="palimpsest-watch", daemon=True)
        self.over = threading.Event()
        self.failed = False
        self.mistake = False
        self._folder = folder
        self._workers = workers
        self._tell = started

    def run(self) -> None:
        from service.worker.notes import WorkerNotes

        while not self.over.wait(0.1):
            notes = WorkerNotes(self._folder).read()
            failures = [note for note in notes if note["state"] == "failed"]
            self.failed = bool(failures)
            self.mistake = self.failed and all(note["mistake"] for note in failures)
            if self.failed or sum(note["state"] == "ready" for note in notes) >= self._workers:
                self._tell(notes)
                break
        if self.failed:
            os.kill(os.getpid(), signal.SIGTERM)


def _bentoml(settings: Settings) -> None:
    """Runs BentoML's server in this process until it is stopped."""
    from bentoml_cli.cli import cli

    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    arguments = ["serve", "service.bento:Palimpsest", "--host", host, "--port", str(settings.port)]
    arguments += ["--working-dir", str(_ROOT), "--timeout-graceful-shutdown", str(round(settings.grace_seconds))]
    with contextlib.suppress(SystemExit):
        cli(args=arguments, standalone_mode=False)


def _plain(settings: Settings) -> Mapping[str, str]:
    """Every setting that has a value, as the value of its environment variable. Paths are absolute, because workers
    have another working directory, and not resolved: what a link leads to may change while the service runs.
    """
    values: dict[str, str] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name in LISTS:
            # JSON: a comma in a value would split it
            value = json.dumps([_plain_item(name, each) for each in value]) if value else None
        elif name == "models":
            value = json.dumps({each.name: _plain_entry(settings, each) for each in settings.served() if each.name})
            value = value if settings.models else None
        elif name in ("audit_key", "redis_url"):
            value = value.get_secret_value() if value else None
        elif name == "app_dir":
            value = settings.app_folder if is_factory(settings.model) else None
        elif isinstance(value, Path) or (name == "model" and not settings.models and Path(value).exists()):
            value = Path(value).absolute()
        if value not in (None, ""):
            values[name] = str(value)
    return values


def _plain_item(setting: str, value: Any) -> str:
    """A value of a list, as text."""
    match setting:
        case "api_keys":
            return str(value.get_secret_value())
        case "adapters":
            return str(value.model_copy(update={"path": value.path.absolute()}))
        case "policy_keys" if value.startswith("ed25519:"):
            return str(value)
        case "judge" | "policy_keys":
            return str(Path(value).absolute())
        case "policy" if Path(value).exists():
            return str(Path(value).absolute())
    return str(value)


def _plain_entry(settings: Settings, model: Served) -> dict[str, str]:
    """An entry of the table of models, its values as in environment variables."""
    values = _plain(model.settings)
    entry = {key: values.get(OWN[key], "") for key in ("source", "app_dir", *settings.models[model.name or ""])}
    return {key: value for key, value in entry.items() if value or key in settings.models[model.name or ""]}


def _check_state(settings: Settings) -> None:
    folder = settings.state_folder
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        said = f"`state` must be a folder that can be written, got `{folder}`: {error.strerror or error}"
        raise SettingsError(said) from None


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise SettingsError(f"cannot bind {where}: {error.strerror or error}; choose another `--port`") from None
