"""The settings: one typed object, and the source of each value.

An option beats the environment (`PALIMPSEST_*`), which beats the TOML file, which beats the default. Names are checked
at each of these places: a mistyped `PALIMPSEST_POLCY` that was ignored would serve without policies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from palimpsest_base.suggest import did_you_mean

__all__ = ["PREFIX", "Loaded", "Settings", "SettingsError", "load_settings"]

PREFIX = "PALIMPSEST_"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Batching = Literal["fixed", "solo", "dynamic"]
Audit = Literal["off", "on", "required"]


class SettingsError(ValueError):
    """A setting is unknown or has a bad value; the message is one line a mistake."""


class Settings(BaseSettings):
    """Everything that may be configured; `palimpsest config` prints it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    model: str = Field("signpost-pixart", description="name of an embedded model, or a diffusers folder")
    policy: str = Field("shipped", description="`shipped`, `none`, or a file, folder or signed bundle of policies")
    policy_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="public keys that sign bundles: PEM files or `ed25519:...`; with any, policies must be signed"
    )
    packs: Path | None = Field(None, description="folder in which packs are looked for first")
    judge: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="folders of classifiers of pictures, beside the judge of the embedded models"
    )
    easyocr: Path | None = Field(None, description="folder of EasyOCR's weights; with it EasyOCR reads pictures too")
    detoxify: Path | None = Field(None, description="folder of Detoxify's weights; with it Detoxify scores texts too")
    semantic: Path | None = Field(
        None,
        description="folder of a sentence encoder and `anchors.json`; with it prompts' concepts are found by meaning",
    )
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="names of installed plug-ins that may be loaded: detectors, model families, fitting methods"
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="what the model computes in")
    threads: int = Field(0, ge=0, le=256, description="torch threads a worker; 0: the cores divided by the workers")

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(3000, ge=1, le=65535, description="port to bind")
    workers: int = Field(1, ge=1, le=64, description="worker processes, one model each")
    insecure: bool = Field(False, description="allow an address beyond loopback without keys")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="bearer keys; none: no key is asked for"
    )
    keys_file: Path | None = Field(
        None,
        description="file of named keys with scopes and ends, made by `palimpsest keys`; followed as it changes",
    )
    rate_per_minute: float = Field(
        0.0, ge=0, le=1e6, description="requests a key may send a minute, over all workers; 0: as many as it likes"
    )
    rate_burst: int = Field(20, ge=1, le=100_000, description="requests a key may send at once within its rate")
    drain_seconds: float = Field(
        1.0, ge=0, le=600, description="how long a worker that ends still answers its probes and turns requests away"
    )
    grace_seconds: float = Field(30.0, ge=0, le=3600, description="how long a shutdown waits for running requests")

    batching: Batching = Field(
        "dynamic", description="`fixed`: one padded shape; `solo`: one picture; `dynamic`: what waits"
    )
    max_batch: int = Field(8, ge=1, le=256, description="pictures that run together")
    queue_size: int = Field(64, ge=1, le=100_000, description="pictures that may wait; beyond it a request gets 429")
    deadline_seconds: float = Field(
        60.0, gt=0, le=3600, description="time a request has from its arrival to its answer"
    )

    max_n: int = Field(4, ge=1, le=64, description="pictures a request may ask for")
    max_steps: int = Field(100, ge=1, le=1000, description="denoising steps a request may ask for")
    max_prompt: int = Field(2000, ge=1, le=100_000, description="characters of a prompt")
    max_body: int = Field(65_536, ge=256, le=2**30, description="bytes of a request body")
    max_bundle: int = Field(8 << 20, ge=256, le=64 << 20, description="bytes of a bundle sent to `PUT /v1/policies`")

    detector_threads: int = Field(2, ge=1, le=64, description="threads that read prompts, and as many for pictures")
    detector_seconds: float = Field(10.0, gt=0, le=600, description="time one reading of a prompt or picture may take")
    policy_poll_seconds: float = Field(0.25, gt=0, le=60, description="how often the policy files are looked at")

    state: Path | None = Field(None, description="folder for the audit log and its key; none: the user's state folder")
    audit: Audit = Field("on", description="`required` refuses a request whose record could not be written")
    audit_key: SecretStr | None = Field(
        None, description="key of the audit hashes; none: made once in the state folder"
    )

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: Any) -> Any:
        """Several values are written with commas in the environment and as a list in TOML."""
        for name in ("api_keys", "policy_keys", "judge", "plugins"):
            if isinstance(values, dict) and isinstance(values.get(name), str):
                values = {**values, name: tuple(k.strip() for k in values[name].split(",") if k.strip())}
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_settings` merges the sources itself so that it can say where each value came from
        return (init_settings,)

    @property
    def state_folder(self) -> Path:
        """Where the audit log and its key stand."""
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return self.state or Path(base) / "palimpsest"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the bound address."""
        return self.host in _LOOPBACK or self.host.startswith("127.")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and, for each name, its source: `default`, `file ...`, `environment` or `option`."""

    settings: Settings
    sources: Mapping[str, str]

    def rows(self) -> list[dict[str, Any]]:
        """One row a setting, secrets hidden, ready to print."""
        shown = self.settings.model_dump(mode="json")
        return [
            {"name": name, "value": shown[name], "source": self.sources[name], "help": field.description}
            for name, field in Settings.model_fields.items()
        ]


def load_settings(options: Mapping[str, Any] | None = None, *, file: Path | None = None) -> Loaded:
    """The merged settings; `file` defaults to `PALIMPSEST_CONFIG`. Raises `SettingsError` that lists every mistake.

    Options whose value is `None` were not given.
    """
    file = file or (Path(os.environ["PALIMPSEST_CONFIG"]) if os.environ.get("PALIMPSEST_CONFIG") else None)
    layers = [
        (f"file {file}", _from_file(file) if file else {}),
        ("environment", _from_environment()),
        ("option", {k: v for k, v in (options or {}).items() if v is not None}),
    ]
    values: dict[str, Any] = {}
    sources = dict.fromkeys(Settings.model_fields, "default")
    for source, layer in layers:
        for name, value in layer.items():
            values[name] = value
            sources[name] = source
    try:
        return Loaded(Settings(**values), sources)
    except ValidationError as error:
        raise SettingsError("\n".join(_one_line(e, sources) for e in error.errors())) from None


def _from_environment() -> dict[str, Any]:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {f"{PREFIX}CONFIG"}
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    if unknown:
        raise SettingsError("\n".join(f"unknown environment variable `{n}`{_hint(n, known)}" for n in sorted(unknown)))
    return EnvSettingsSource(Settings)()


def _from_file(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise SettingsError(f"no settings file `{file}`")
    try:
        values = TomlConfigSettingsSource(Settings, toml_file=file)()
    except ValueError as error:
        raise SettingsError(f"`{file}` is not TOML: {error}") from None
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        lines = (f"unknown setting `{n}` in `{file}`{_hint(n, Settings.model_fields)}" for n in unknown)
        raise SettingsError("\n".join(lines))
    return values


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known, list_all=False)  # there are dozens


def _one_line(error: Any, sources: Mapping[str, str]) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    message = error["msg"][0].lower() + error["msg"][1:]
    if name not in Settings.model_fields:
        return f"unknown setting `{name}`{_hint(name, Settings.model_fields)}"
    secret = name in ("api_keys", "audit_key")
    got = "" if secret else f", got `{error['input']}`"
    return f"`{name}` (from {sources.get(name, 'option')}): {message}{got}"
