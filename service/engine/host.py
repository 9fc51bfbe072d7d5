"""Which model a name means, where its packs are, and which rules of the policies they fit."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest_base.plugins import BadPlugin, load_plugins
from service.engine.planner import why_unverified
from service.http.requests import Limits
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from policies import Snapshot
    from steering import Host, Pack

__all__ = [
    "PackShelf",
    "RuleRow",
    "embedded_models",
    "limits_of",
    "load_host",
    "resolve_model",
    "rule_table",
    "threads_of",
]

_Parameters = Mapping[str, inspect.Parameter]
_ROOM = Path(__file__).resolve().parents[2] / "reference" / "models"


def embedded_models() -> tuple[str, ...]:
    """Names of the models that come with the repository."""
    return tuple(sorted(p.parent.name for p in _ROOM.glob("*/model_index.json")))


def resolve_model(name: str) -> tuple[str, str | None]:
    """The folder or hub id that `name` means, and the revision: an embedded name, a folder, or `owner/model@revision`.

    Raises `SettingsError` when it means nothing.
    """
    for folder in (Path(name), _ROOM / name):
        if (folder / "model_index.json").is_file():
            return str(folder.resolve()), None
    hub, at, revision = name.partition("@")
    if hub.count("/") == 1 and not Path(hub).exists():
        if at and revision:
            return hub, revision
        raise SettingsError(f"a hub model needs a pinned revision: `{hub}@<commit>`, got `{name}`")
    known = ", ".join(f"`{m}`" for m in embedded_models()) or "none in this installation"
    raise SettingsError(f"`{name}` is no diffusers folder and no embedded model; embedded: {known}")


def load_host(settings: Settings) -> Host:
    """The host that the settings name, on its device, its self-test run; what failed it is not steered."""
    import torch

    from steering import Host

    torch.set_num_threads(threads_of(settings))
    where, revision = resolve_model(settings.model)
    try:
        families = tuple(load_plugins("palimpsest.families", settings.plugins).values())
    except BadPlugin as error:
        raise SettingsError(str(error)) from error
    host = Host.load(
        where,
        device=device_of(settings),
        dtype=getattr(torch, settings.dtype),
        revision=revision,
        digests=_kept(settings),
        families=families,
    )
    _keep_prompts_out_of_logs()
    return host


def _keep_prompts_out_of_logs() -> None:
    """Silences diffusers' warnings: of a prompt that is too long it quotes what was cut off."""
    from diffusers.utils import logging

    logging.set_verbosity_error()


def threads_of(settings: Settings) -> int:
    """How many threads a worker computes with; on a CPU the last bits of a picture depend on it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings.threads or max(1, cores // settings.workers)


def _kept(settings: Settings) -> Path:
    """The file of weights' digests, so that a large model is read once and not at every start."""
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    return settings.state_folder / "digests.json"


def device_of(settings: Settings) -> str:
    """The torch device of this worker; several workers share the GPUs by turns."""
    import bentoml
    import torch

    if settings.device not in ("auto", "cuda"):
        return settings.device
    if not torch.cuda.is_available():
        if settings.device == "cuda":
            raise SettingsError("`device` is `cuda`, but torch sees no GPU; use `auto` or `cpu`")
        return "cpu"
    # the index grows when workers are replaced, and is None outside `bentoml serve`
    worker = bentoml.server_context.worker_index or 1
    return f"cuda:{(worker - 1) % torch.cuda.device_count()}"


def limits_of(host: Host, settings: Settings) -> Limits:
    """What requests may ask of `host`: its `defaults.json`, else what its pipeline says by itself."""
    defaults = host.defaults
    call = inspect.signature(type(host.pipe).__call__).parameters
    rows, columns = _size(host)
    size = f"{columns}x{rows}"
    negative = host.negative_prompts
    return Limits(
        models=(host.name,),
        sizes=tuple(defaults.sizes) or (size,),
        default_size=size,
        default_steps=defaults.num_inference_steps or int(call["num_inference_steps"].default),
        default_guidance=_guidance(host, call),
        max_n=settings.max_n,
        max_steps=settings.max_steps,
        max_prompt=settings.max_prompt,
        min_steps=host.fewest_steps,
        negative=negative.possible,
        negative_above=negative.above,
    )


def _guidance(host: Host, call: _Parameters) -> float | None:
    """The guidance scale of a request that names none; None for a pipeline without one."""
    if "guidance_scale" not in call:
        return None
    given = host.defaults.guidance_scale
    return float(call["guidance_scale"].default or 0.0) if given is None else given


def _size(host: Host) -> tuple[int, int]:
    """Rows and columns, in pixels, of a request that names no size. Raises: SettingsError."""
    size = host.native_size
    if size is None:
        raise SettingsError(
            f"`{type(host.pipe).__name__}` does not say how large its pictures are; write `height` and `width` into"
            " `defaults.json` beside `model_index.json`"
        )
    return size


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One line of the start table: what a rule steers, and what stands behind it on this host."""

    rule: str
    policy: str
    mode: str
    concept: str | None = None
    pack: str | None = None
    evidence: str | None = None
    unfit: str | None = None
    why_unfit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        return asdict(self)


class PackShelf(Mapping[str, "Pack"]):
    """The packs of one host by concept, loaded when first asked for; what is missing is looked for once a change."""

    def __init__(self, host: Host, extra: Sequence[Path]) -> None:
        from reference.folders import packs_of
        from steering import pack_roots

        self._host = host
        self._roots = pack_roots([*extra, packs_of(host.name)])
        self._found: dict[str, Pack] = {}
        self._missing: dict[str, str] = {}

    def __getitem__(self, concept: str) -> Pack:
        if concept not in self._found:
            if concept in self._missing:
                raise KeyError(concept)
            self._look(concept)
        return self._found[concept]

    def __contains__(self, concept: object) -> bool:
        try:
            self[str(concept)]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def why_missing(self, concept: str) -> str | None:
        """Why there is no pack for `concept`, or None."""
        return None if concept in self else self._missing[concept]

    def look_again(self) -> None:
        """Forgets what was missing, or published only: a changed policy may come with a new pack."""
        self._missing.clear()
        self._found = {concept: pack for concept, pack in self._found.items() if not pack.published}

    def _look(self, concept: str) -> None:
        from steering import PackError, find_pack

        try:
            self._found[concept] = find_pack(concept, self._host, self._roots)
        except PackError as error:
            self._missing[concept] = str(error)
            raise KeyError(concept) from error


def rule_table(snapshot: Snapshot, shelf: PackShelf) -> tuple[RuleRow, ...]:
    """One row for each rule and concept that it steers; a rule that steers nothing has one row without a concept."""
    rows = []
    for rule in snapshot.rules:
        bare = RuleRow(rule.id, rule.policy, rule.model.rollout.mode)
        concepts = dict.fromkeys(a.concept for a in rule.model.then if a.do == "steer")
        reads = {a.read for a in rule.model.then if a.do == "verify"}
        rows += [_supported(bare, concept, rule.model.unfit, reads, shelf) for concept in concepts] or [bare]
    return tuple(rows)


def _supported(row: RuleRow, concept: str, unfit: str, reads: Collection[str], shelf: PackShelf) -> RuleRow:
    """The row with what stands behind steering `concept` on this host, or what the rule does without."""
    why = shelf.why_missing(concept)
    if why is not None:
        return replace(row, concept=concept, unfit=unfit, why_unfit=why)
    pack = shelf[concept]
    sites = f"{len(pack.sites)} of {len(pack.site_names)} sites"
    row = replace(row, concept=concept, pack=sites, evidence=str(pack.evidence.get("kind", "none")))
    why = why_unverified(pack, reads)
    return row if why is None else replace(row, unfit=unfit, why_unfit=why)
