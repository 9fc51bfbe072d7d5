"""The settings, and the source of each value.

An option overrides the environment (`PALIMPSEST_*`), which overrides the TOML file, which overrides the default. Names
are checked in every source: a mistyped `PALIMPSEST_POLCY` that was silently ignored would start a service without
protection.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from palimpsest_base.hub import COMMIT
from palimpsest_base.suggest import did_you_mean

__all__ = ["LISTS", "MAX_LORA_SCALE", "MOST_MODELS", "OWN", "PREFIX", "AdapterSetting", "Loaded", "Served", "Settings"]
__all__ += ["SettingsError", "load_settings"]

PREFIX = "PALIMPSEST_"
MAX_LORA_SCALE = 2.0
MOST_MODELS = 8  # in one service

# what an entry of `models` may say of its model, by the setting that it takes the place of
OWN: Mapping[str, str] = {"source": "model", "aliases": "model_aliases"} | {
    name: name
    for name in (
        *("revision", "base", "app_dir", "variant", "dtype", "quantization", "offload", "compile", "vae_tiling"),
        *("vae_slicing", "attention_backend", "policy", "floor", "policy_keys", "start_expired", "packs", "adapters"),
        *("judge", "batching", "max_batch", "queue_size", "sizes", "max_n", "max_steps", "rewriters"),
    )
}

# the settings that are lists. As text: values separated by commas, or a JSON list
LISTS: tuple[str, ...] = ("policy", "policy_keys", "api_keys", "judge", "plugins", "adapters", "model_aliases")
LISTS += ("allowed_hosts", "cors_origins")

Quantization = Literal["int8", "int8-dynamic", "float8", "float8-dynamic", "int4"]
Offload = Literal["none", "model", "sequential"]
Batching = Literal["fixed", "solo", "dynamic"]
Rewriters = Literal["judge", "refuse"]
Audit = Literal["off", "on", "required"]
Console = Literal["auto", "on", "off"]
LogFormat = Literal["text", "json"]
Marking = Literal["off", "signed", "watermark", "both"]
Sizes = Literal["refuse", "nearest"]
PictureUrls = Literal["off", "data", "files"]
_ORIGIN = r"^(\*|https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?)$"
Origin = Annotated[str, Field(pattern=_ORIGIN)]
_ALIAS = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"
Alias = Annotated[str, Field(pattern=_ALIAS)]
# names of hosts, and addresses without brackets, as they are compared with the header `Host` without its port
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f]*(:[0-9A-Fa-f.]*){2,}")
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?")


def _host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise PydanticCustomError(
            "host_name", "must be host names such as `pictures.example`, without scheme, port or wildcard"
        )
    return value


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        said = "must be `auto`, `cpu`, `cuda`, the GPU of a number such as `cuda:0`, `mps` or `xpu`"
        raise PydanticCustomError("device", said)
    return value


def _api_key(value: SecretStr) -> SecretStr:
    """A key that a caller can send: `Authorization` takes visible ASCII, and blanks around it are lost."""
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise PydanticCustomError("api_key", "must be visible ASCII characters without blanks, at least one")
    return value


def _secret(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().strip():
        raise PydanticCustomError("blank", "must not be blank; leave it out for the default")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]


class SettingsError(ValueError):
    """A setting is unknown or has an invalid value. The message has one line per mistake."""


class AdapterSetting(BaseModel):
    """An adapter that requests may name. As text: `name=path`, or `name=path@scale`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    path: Path
    scale: float = Field(1.0, gt=0, le=MAX_LORA_SCALE, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name, equals, rest = value.partition("=")
        if not equals or not name.strip() or not rest.strip():
            raise PydanticCustomError("adapter", "must be `name=path` or `name=path@scale`")
        path, _, scale = rest.rpartition("@")
        try:
            return {"name": name.strip(), "path": path.strip(), "scale": float(scale)}
        except ValueError:  # no scale: what follows the last `@`, if there is one, is a part of the path
            return {"name": name.strip(), "path": rest.strip()}

    def __str__(self) -> str:
        return f"{self.name}={self.path}@{self.scale:g}"


def _of_different_names(adapters: tuple[AdapterSetting, ...]) -> tuple[AdapterSetting, ...]:
    names = [each.name for each in adapters]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PydanticCustomError("adapter", "names must differ, and `{name}` is given twice", {"name": twice})
    return adapters


@dataclass(frozen=True, slots=True)
class Served:
    """A model of the service: its name in the table `models` (None without one), and the settings that hold for it."""

    name: str | None
    settings: Settings

    @property
    def shown(self) -> str:
        """What the model is called in logs and errors."""
        return self.name or self.settings.model


class Settings(BaseSettings):
    """All settings. `palimpsest config` prints them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    model: str = Field(
        "signpost-pixart",
        description="embedded model, diffusers folder, hub id `owner/name` at a `revision`, `.safetensors` checkpoint"
        " with a `base`, or `module:function` that returns a pipeline",
    )
    revision: str | None = Field(
        None,
        pattern=f"^{COMMIT.pattern}$",
        description="commit of a hub model, 40 digits; `palimpsest models fetch` downloads it",
    )
    base: Path | None = Field(
        None, description="diffusers folder with the configurations of a `.safetensors` checkpoint"
    )
    app_dir: Path | None = Field(
        None, description="folder that `module:function` is imported from; default: the working directory"
    )
    model_aliases: Annotated[tuple[Alias, ...], NoDecode] = Field(
        (), max_length=32, description="further names of the model, for clients that cannot send its own"
    )
    models: dict[str, dict[str, Any]] = Field(
        {},
        max_length=MOST_MODELS,
        description="table of several models by name, `[models.NAME]`: each has a `source` (what `model` takes;"
        " default: its name) and may have `aliases` and settings of its own, such as `policy`, `packs` and `adapters`;"
        " `model` then names the one for requests that name none, by default the first",
    )
    model_memory: int | None = Field(
        None,
        ge=1,
        le=2**50,
        description="most bytes that the weights of loaded models may take in each worker; further models of the table"
        " are loaded when they are asked for, in place of those that were not asked for longest; default: no limit",
    )
    variant: str | None = Field(
        None, description="variant of the model's weight files, such as `fp16`; default: the files without one"
    )
    policy: Annotated[tuple[str, ...], NoDecode] = Field(
        ("shipped",),
        min_length=1,
        description="`shipped`, `none`, files and folders of policies that are joined, or one signed bundle",
    )
    floor: bool = Field(
        True, description="add the shipped policy `floor` to policies that have none of that name; false: no floor"
    )
    policy_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="public keys that sign bundles: PEM files or `ed25519:...`; if set, policies must be signed"
    )
    start_expired: bool = Field(
        False,
        description="start with a signed bundle that has expired when no earlier one is remembered, as a pod with fresh"
        " state does; an alert fires all the same",
    )
    packs: Path | None = Field(None, description="folder that is searched first for packs")
    adapters: Annotated[tuple[AdapterSetting, ...], NoDecode, AfterValidator(_of_different_names)] = Field(
        (),
        max_length=32,
        description="adapters that requests may name as `lora`, each `name=path` or `name=path@scale`: LoRA files"
        " (safetensors, or the folder with one) and packs that edit",
    )
    judge: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="folders of picture classifiers, in addition to the judge of the embedded models"
    )
    easyocr: Path | None = Field(None, description="folder of EasyOCR's weights; if set, EasyOCR also reads pictures")
    detoxify: Path | None = Field(None, description="folder of Detoxify's weights; if set, Detoxify also scores texts")
    semantic: Path | None = Field(
        None,
        description="folder of a sentence encoder and `anchors.json`; if set, concepts are also found by meaning",
    )
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="names of installed plug-ins that may be loaded: detectors, model families, fitting methods"
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="`auto`, `cpu`, `cuda` or `cuda:N`; torch's `mps` and `xpu` were not tried"
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        description="precision of the model's weights and computation; `auto`: that of its weights, but on a CPU"
        " float32 for float16",
    )
    quantization: Quantization | None = Field(
        None,
        description="the denoiser's weights in fewer bits, by torchao: `int8`, `float8`, `int4`; with `-dynamic` its"
        " computation, too",
    )
    offload: Offload = Field(
        "none",
        description="where weights wait until a GPU needs them: `none`: on the GPU; on the CPU by component (`model`)"
        " or by layer (`sequential`)",
    )
    compile: bool = Field(False, description="compile the denoiser by torch; the first pictures are slow")
    attention_backend: str | None = Field(
        None, description="attention of the denoiser, one of diffusers' backends, such as `flash` or `sage`"
    )
    vae_tiling: bool = Field(False, description="decode large pictures by tiles, which takes less memory")
    vae_slicing: bool = Field(False, description="decode batches one picture at a time, which takes less memory")
    threads: int = Field(0, ge=0, le=256, description="torch threads per worker; 0: CPU cores divided by workers")

    host: str = Field("127.0.0.1", description="address to bind")
    allowed_hosts: Annotated[tuple[HostName, ...], NoDecode] = Field(
        (),
        description="host names that requests may be sent to, as in the header `Host`, without ports; default: any,"
        " but on loopback without keys only those of this machine",
    )
    port: int = Field(3000, ge=1, le=65535, description="port to bind")
    workers: int = Field(1, ge=1, le=64, description="worker processes, one model each")
    insecure: bool = Field(False, description="allow a non-loopback address without API keys")
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        (), description="API keys (bearer tokens); empty, and no `keys_file`: no key is required"
    )
    keys_file: Path | None = Field(
        None,
        description="file of named API keys with scopes and expiry, made by `palimpsest keys`; reloaded on change",
    )
    console: Console = Field(
        "auto",
        description="the web console at `/`: `auto` is on for a loopback address, elsewhere once a key of `keys_file`"
        " has the scope `console`; `on`; `off`",
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        (),
        max_length=64,
        description="origins whose pages may call the API from a browser, such as `https://app.example`; `*`: any",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="address under which callers reach the service, for URLs in answers; default: the one they asked",
    )
    rate_per_minute: float = Field(
        0.0, ge=0, le=1e6, description="rate limit: requests per minute and key, over all workers; 0: no limit"
    )
    rate_burst: int = Field(20, ge=1, le=100_000, description="rate limit: requests that a key may send in one burst")
    redis_url: SecretStr | None = Field(
        None,
        description="Redis in which all servers behind one address keep rate limits and strikes together,"
        " `redis://host:port/0`",
    )
    drain_seconds: float = Field(
        1.0,
        ge=0,
        le=600,
        description="seconds that a stopping worker fails health checks and still takes requests",
    )
    grace_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="seconds that a shutdown waits for requests; after half of them those that wait for an engine are"
        " told to come back",
    )

    batching: Batching = Field(
        "dynamic",
        description="`fixed`: batches padded to one size; `solo`: one picture per batch; `dynamic`: all that wait",
    )
    max_batch: int = Field(8, ge=1, le=256, description="most pictures in one batch")
    queue_size: int = Field(64, ge=1, le=100_000, description="most pictures in the queue; further requests get 429")
    deadline_seconds: float = Field(
        60.0, gt=0, le=3600, description="deadline of a request in seconds, from arrival to answer"
    )

    sizes: Sizes = Field(
        "refuse",
        description="what becomes of a `size` that the model does not have: `refuse` it, or draw the `nearest` one and"
        " say so",
    )
    picture_urls: PictureUrls = Field(
        "off",
        description="what answers `response_format: url`: `off` refuses it, `data` puts the picture into the URL, and"
        " `files` keeps it for a while behind a link that needs no key",
    )
    picture_url_seconds: float = Field(3600.0, gt=0, le=604_800, description="seconds that such a link works")
    picture_url_bytes: int = Field(256 << 20, ge=0, le=2**50, description="most bytes of pictures behind links on disk")
    max_n: int = Field(4, ge=1, le=64, description="most pictures per request")
    max_steps: int = Field(100, ge=1, le=1000, description="most denoising steps per request")
    max_prompt: int = Field(2000, ge=1, le=100_000, description="most characters in a prompt")
    max_body: int = Field(65_536, ge=256, le=2**30, description="most bytes in a request body")
    max_upload: int = Field(
        16 << 20,
        ge=256,
        le=2**30,
        description="most bytes in a request that uploads pictures, all of its parts together",
    )
    max_pixels: int = Field(1 << 22, ge=256, le=2**26, description="most pixels of an uploaded picture")
    max_bundle: int = Field(8 << 20, ge=256, le=64 << 20, description="most bytes in a bundle for `PUT /v1/policies`")

    marking: Marking = Field(
        "off",
        description="marks on every picture that leaves: `signed` C2PA credentials, an invisible `watermark`, `both`,"
        " or `off`; what cannot be marked is not sent",
    )
    watermark: str = Field(
        "spread", min_length=1, description="the watermark: `spread`, or the name of a plug-in that `plugins` allows"
    )
    marking_key: Path | None = Field(
        None,
        description="file with the secret of the watermark, the same for all servers that should find each other's;"
        " default: created once in the state folder",
    )
    signing_certificate: Path | None = Field(
        None, description="certificate chain that signs credentials, the signer's own first: a PEM file"
    )
    signing_key: Path | None = Field(None, description="private key of that certificate: a PEM file without a password")
    trust_anchors: Path | None = Field(
        None, description="certificates that make credentials `trusted` in provenance checks: a PEM file"
    )

    rewriters: Rewriters = Field(
        "judge",
        description="where the pipeline rewrites prompts with a language model: `judge` what it wrote as if it had been"
        " asked for, or `refuse` it and draw the prompts as they are",
    )
    detector_threads: int = Field(2, ge=1, le=64, description="detector threads for prompts, and as many for pictures")
    detector_seconds: float = Field(10.0, gt=0, le=600, description="most seconds for reading one prompt or picture")
    policy_poll_seconds: float = Field(0.25, gt=0, le=60, description="seconds between checks for changed policy files")

    state: Path | None = Field(
        None,
        description="folder for the audit log, held cases, pictures behind links and keys; default: the user's state"
        " folder",
    )
    audit: Audit = Field("on", description="`off`, `on`, or `required`: refuse requests whose record cannot be written")
    review_days: float = Field(
        14.0, gt=0, le=3650, description="days that a held case is kept; one that nobody decided is then rejected"
    )
    review_cases: int = Field(
        1000, ge=0, le=1_000_000, description="most held cases that wait for a reviewer; further ones are refused"
    )
    review_bytes: int = Field(2 << 30, ge=0, le=2**50, description="most bytes of held cases on disk")
    log_format: LogFormat = Field("text", description="`text`, or `json`: one JSON object a line")
    verbose: bool = Field(
        False, description="at the start, show every rule with its reasons, and the traceback of a factory's error"
    )
    audit_key: Annotated[SecretStr | None, AfterValidator(_secret)] = Field(
        None, description="secret for the audit log's hashes; default: created once in the state folder"
    )

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """A list from text: separated by commas, or JSON, which keeps commas that belong to a value."""
        if isinstance(value, str) and value.strip():
            with contextlib.suppress(ValueError):  # a name that begins with a bracket
                value = json.loads(value) if value.lstrip().startswith("[") else value
        if isinstance(value, str):
            parts = tuple(part.strip() for part in value.split(",") if part.strip())
            if value and not parts:
                raise PydanticCustomError("nothing", "must not be blank; leave it out to set nothing")
            return parts
        if isinstance(value, list | tuple) and any(isinstance(each, str) and not each.strip() for each in value):
            raise PydanticCustomError("blank", "holds a blank value; remove it")
        return value

    @model_validator(mode="before")
    @classmethod
    def _first_of_table(cls, values: Any) -> Any:
        """Reads a table that is JSON, as in the environment, and lets `model` name its first entry by default."""
        if not isinstance(values, dict) or not values.get("models"):
            return values
        table = values["models"]
        if isinstance(table, str):
            try:
                table = json.loads(table)
            except ValueError as error:
                said = "`models` must be a table, as JSON: {why}"
                raise PydanticCustomError("models", said, {"why": str(error)}) from None
        first = {"model": next(iter(table))} if isinstance(table, dict) and table else {}
        return {**first, **values, "models": table}

    @model_validator(mode="after")
    def _check_table(self) -> Settings:
        if self.models and (problems := _problems_of(self)):
            raise PydanticCustomError("models", "{problems}", {"problems": "\n".join(problems)})
        return self

    def served(self) -> tuple[Served, ...]:
        """The models of the service, the one for requests that name none first. Without a table it is one."""
        if not self.models:
            return (Served(None, self),)
        names = sorted(self.models, key=lambda name: name != self.model)
        return tuple(Served(name, self._of(name)) for name in names)

    def _of(self, name: str) -> Settings:
        """The settings that hold for a model of the table."""
        own = _own_settings(name, self.models[name])
        changed = {field: getattr(own, field) for field in own.model_fields_set}
        return self.model_copy(update={"models": {}, **changed})

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
    def app_folder(self) -> Path:
        """The folder that a factory is imported from."""
        return (self.app_dir or Path()).absolute()

    @property
    def state_folder(self) -> Path:
        """The folder that contains the audit log and its key."""
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return self.state or Path(base) / "palimpsest"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the bound address."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:  # a name
            return False


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and the source of each: `default`, `file ...`, `environment` or `option`."""

    settings: Settings
    sources: Mapping[str, str]

    def rows(self) -> list[dict[str, Any]]:
        """One row per setting, ready to print. Secrets are hidden."""
        shown = self.settings.model_dump(mode="json")
        return [
            {"name": name, "value": shown[name], "source": self.sources[name], "help": field.description}
            for name, field in Settings.model_fields.items()
        ]


def _own_settings(name: str, entry: Mapping[str, Any]) -> Settings:
    """Settings of which those are set that an entry of `models` sets. Raises `ValidationError`."""
    return Settings(**{"model": name, **{OWN[key]: value for key, value in entry.items()}})


def _problems_of(settings: Settings) -> list[str]:
    """What is wrong with the table of models, a line each."""
    problems: list[str] = []
    if settings.model not in settings.models:
        known = ", ".join(f"`{name}`" for name in settings.models)
        problems.append(f"`model` must be a name of the table `models`, {known}, got `{settings.model}`")
    if settings.model_aliases:
        problems.append("`model_aliases` must be empty beside a table `models`, whose entries have `aliases`")
    taken: dict[str, str] = {name: name for name in settings.models}
    for name, entry in settings.models.items():
        where = f"`models.{name}`"
        if not re.fullmatch(_ALIAS, name):
            problems.append(f"{where}: a name must match {_ALIAS}")
        if settings.model_memory is not None and (entry.get("compile") or settings.compile):
            problems.append(f"{where}: `compile` does not go with `model_memory`: it would run at every load")
        unknown = [f"{where}: unknown setting `{key}`{did_you_mean(key, OWN)}" for key in entry if key not in OWN]
        problems += unknown
        try:
            own = None if unknown else _own_settings(name, entry)
        except ValidationError as error:
            own = None
            back = {field: key for key, field in OWN.items()}
            for each in error.errors():
                key = back.get(str(each["loc"][0]), "settings") if each["loc"] else "settings"
                problems.append(f"{where}: `{key}`: {each['msg'][0].lower()}{each['msg'][1:]}, got `{each['input']}`")
        for alias in own.model_aliases if own is not None else ():
            if taken.setdefault(alias, name) != name:
                problems.append(f"{where}: the alias `{alias}` belongs to `{taken[alias]}`")
    return problems


def load_settings(options: Mapping[str, Any] | None = None, *, file: Path | None = None) -> Loaded:
    """The merged settings. `file` defaults to `PALIMPSEST_CONFIG`.

    Options with the value `None` count as not given. Raises `SettingsError` that lists every mistake.
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
    part = "".join(f" `{each}`" for each in error["loc"][2:])  # of an entry of a list
    if error["type"] == "models":
        return str(error["msg"])
    if name not in Settings.model_fields:
        return f"unknown setting `{name}`{_hint(name, Settings.model_fields)}"
    secret = name in ("api_keys", "audit_key", "redis_url")
    got = "" if secret else f", got `{error['input']}`"
    return f"`{name}`{part} (from {sources.get(name, 'option')}): {message}{got}"
