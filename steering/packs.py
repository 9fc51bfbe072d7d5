"""Owns packs: one `.safetensors` file that says where a concept sits in one host, and how to steer it there.

Tensors (scores, an operator's vectors) stand in the file as tensors, all else as one JSON object in its metadata.
Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import BadPack, BadPlan, PackMismatch
from .fingerprint import Fingerprint
from .host import Host
from .plans import WHOLE, Edit, Mode, Plan, Pooled, Rows, Source, Swap, Window
from .values import Donor, Operator

__all__ = ["SCHEMA", "CalibrationPoint", "Choice", "Pack", "read_header"]

SCHEMA = "palimpsest.pack/v1"
_CONCEPT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?")


@dataclass(frozen=True, slots=True)
class Choice:
    """How many sites were chosen: `k`, the share of all sites' effect that they reach together, and its interval.

    `target` is the share that was asked for; `share` below it means that no compact set was found.
    """

    k: int
    share: float
    low: float
    high: float
    target: float = 0.9


@dataclass(frozen=True, slots=True)
class CalibrationPoint:
    """At `strength` (the dose), the measured erasure and drift, both in [0, 1]."""

    strength: float
    erasure: float
    drift: float


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """The artefact of localizing, fitting and verifying one concept on one host.

    * `sites`: the chosen set; `wider`: a second one, for the ladder; both over names of `site_names`.
    * `scores` [len(site_names), len(bins)]: effect of each site alone in each part of the trajectory.
    * `strength`, `window`: what `pack.plan()` uses when it is not told otherwise (`auto`).
    * `operator`: None for a pack that swaps text, else the operator of an `Edit`.
    * `phrases`, `neutral`: how to make a donor when the caller gives none: in a prompt each of the `phrases` becomes
      `neutral`; alone, `neutral` is a donor prompt. None (lettering) means that the caller must give one.
    * `evidence`: JSON. `kind` is `measured` or `published`; then controls, digests of prompts, seeds, figures.

    Raises: BadPack, when the parts do not fit each other.
    """

    concept: str
    host: Fingerprint
    sites: tuple[str, ...]
    wider: tuple[str, ...]
    site_names: tuple[str, ...]
    scores: torch.Tensor
    bins: tuple[Window, ...]
    choice: Choice
    strength: float = 1.0
    window: Window = WHOLE
    pooled: Pooled = "keep"
    rows: Rows = "cond"
    source: Source = "text"
    mode: Mode = "kv"
    operator: Operator | None = None
    phrases: tuple[str, ...] = ()
    neutral: str | None = None
    calibration: tuple[CalibrationPoint, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("sites", "wider", "site_names", "bins", "phrases", "calibration"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("evidence", "versions"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if not _CONCEPT.fullmatch(self.concept):
            raise BadPack(f"concept must be kebab-case like `lettering` or `animal/cat`, got `{self.concept}`")
        _check_sets(self)
        _check_numbers(self)

    def save(self, path: str | Path) -> Path:
        """The path of the written file, which replaces an older one in one move."""
        target = Path(path)
        if target.suffix != ".safetensors":
            raise BadPack(f"a pack's file must end in `.safetensors`, got `{target.name}`")
        tensors = {"scores": self.scores.to(torch.float32).contiguous()}
        if self.operator is not None:
            vectors = {"e": self.operator.e, "d": self.operator.d, "m": self.operator.m}
            tensors |= {f"operator.{n}": t.to("cpu", torch.float32).clone().contiguous() for n, t in vectors.items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        header = json.dumps(_to_json(self), ensure_ascii=False, sort_keys=True)
        save_file(tensors, fresh, metadata={"palimpsest.pack": header})
        fresh.replace(target)
        return target

    @classmethod
    def load(cls, path: str | Path, *, host: Host) -> Pack:
        """The pack in a file, when it was made for `host` as it is now.

        Raises: BadPack, when the file is none; PackMismatch, naming what differs.
        """
        header = read_header(path)
        try:
            with safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            pack = _from_json(header, tensors)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadPack(f"`{path}` is no whole pack: {error}") from error
        pack.check(host, str(path))
        return pack

    def check(self, host: Host, where: str = "") -> None:
        """Nothing, when the pack was made for this host. Raises: PackMismatch."""
        what = f"pack `{self.concept}`" + (f" in `{where}`" if where else "")
        different = self.host.differences(host.fingerprint)
        if different:
            raise PackMismatch(f"{what} was made for another host than `{host.name}`: {'; '.join(different)}")
        if self.host.weights is None and self.evidence.get("kind") != "published":
            raise PackMismatch(f"{what} names no weights; only packs with `evidence: published` may leave them open")
        names = {s.name for s in host.sites}
        missing = [s for s in (*self.sites, *self.wider) if s not in names]
        if missing:
            raise PackMismatch(f"{what} names site `{missing[0]}`, which host `{host.name}` does not have")

    def donor_for(self, prompt: str) -> str | None:
        """A donor prompt for `prompt`: each of its `phrases` replaced by `neutral`, whole words, in any case.

        Where none of them stands in the prompt, `neutral` alone; None for a pack without a neutral phrase (lettering).
        """
        if self.neutral is None:
            return None
        words = sorted(self.phrases, key=len, reverse=True)
        if not words:
            return self.neutral
        pattern = rf"(?<!\w)(?:{'|'.join(re.escape(w) for w in words)})(?!\w)"
        donor, found = re.subn(pattern, lambda _: str(self.neutral), prompt, flags=re.IGNORECASE)
        return donor if found else self.neutral

    def plan(
        self,
        toward: str | Donor | None = None,
        strength: float | Literal["auto"] = "auto",
        window: Window | None = None,
        *,
        wider: bool = False,
    ) -> Plan:
        """The plan that steers with this pack; the only way from a pack to a plan.

        `toward`: the donor prompt or `Donor` of a pack that swaps; None takes `neutral`. `wider` is the ladder's rung:
        the second site set over the whole trajectory (a swap at full strength), so `strength` and `window` must be
        left alone.

        Raises: BadPlan, when the pack needs a donor and has none, or takes none and is given one.
        """
        if wider and (strength != "auto" or window is not None):
            raise BadPlan("a wider plan is the whole trajectory at full strength; leave `strength` and `window` out")
        sites = self.wider if wider else self.sites
        when = WHOLE if wider else window or self.window
        amount = self.strength if strength == "auto" else strength
        bound = self.host.digest if self.host.weights is not None else None
        if self.operator is not None:
            if toward is not None:
                raise BadPlan(f"pack `{self.concept}` edits and takes no donor; leave `toward` out")
            edit = Edit(sites, self.operator, window=when, strength=amount, rows=self.rows)
            return Plan(edit, made_for=bound)
        donor = toward if toward is not None else self.neutral
        if donor is None:
            raise BadPlan(f"pack `{self.concept}` has no neutral phrase; give a donor prompt as `toward`")
        amount = 1.0 if wider else amount
        swap = Swap(
            donor,
            sites=sites,
            pooled=self.pooled,
            source=self.source,
            mode=self.mode,
            window=when,
            strength=amount,
            rows=self.rows,
        )
        return Plan(swap, made_for=bound)


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON metadata of a pack, without its tensors. Raises: BadPack."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata["palimpsest.pack"])
    except FileNotFoundError as error:
        raise BadPack(f"there is no pack at `{path}`") from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadPack(f"`{path}` is no pack: {type(error).__name__} {error}") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        got = header.get("schema") if isinstance(header, dict) else header
        raise BadPack(f"schema of `{path}` must be `{SCHEMA}`, got `{got}`")
    return header


def _check_sets(pack: Pack) -> None:
    for name in ("sites", "wider"):
        chosen = getattr(pack, name)
        if not chosen or len(set(chosen)) != len(chosen):
            raise BadPack(f"{name} of pack `{pack.concept}` must be different names, at least one, got `{chosen}`")
        strange = [s for s in chosen if s not in pack.site_names]
        if strange:
            raise BadPack(f"{name} of pack `{pack.concept}` must be among its site_names, got `{strange[0]}`")
    want = (len(pack.site_names), len(pack.bins))
    if tuple(pack.scores.shape) != want:
        raise BadPack(f"scores must be [sites, bins] = {list(want)}, got {list(pack.scores.shape)}")
    if not pack.bins:
        raise BadPack("bins must hold at least one window of the trajectory")


def _check_numbers(pack: Pack) -> None:
    if pack.choice.k != len(pack.sites):
        raise BadPack(f"choice.k must be the number of sites, {len(pack.sites)}, got {pack.choice.k}")
    top = 1.0 if pack.operator is None else math.inf
    if not 0.0 < pack.strength <= top:
        raise BadPack(f"strength must be in (0, {top:g}], got `{pack.strength}`")
    if not bool(torch.isfinite(pack.scores).all()):
        raise BadPack("scores must be finite, got nan or inf")
    if pack.evidence.get("kind") == "published" and pack.operator is not None:
        raise BadPack("a published pack swaps only; an operator needs evidence of our own")


def _to_json(pack: Pack) -> dict[str, Any]:
    operator = None if pack.operator is None else {"gate": pack.operator.gate, "where": pack.operator.where}
    return {
        "schema": SCHEMA,
        "concept": pack.concept,
        "host": pack.host.to_json(),
        "sites": list(pack.sites),
        "wider": list(pack.wider),
        "site_names": list(pack.site_names),
        "bins": [[b.start, b.end] for b in pack.bins],
        "choice": {
            "k": pack.choice.k,
            "share": pack.choice.share,
            "low": pack.choice.low,
            "high": pack.choice.high,
            "target": pack.choice.target,
        },
        "strength": pack.strength,
        "window": [pack.window.start, pack.window.end],
        "pooled": pack.pooled,
        "rows": pack.rows,
        "source": pack.source,
        "mode": pack.mode,
        "operator": operator,
        "phrases": list(pack.phrases),
        "neutral": pack.neutral,
        "calibration": [[c.strength, c.erasure, c.drift] for c in pack.calibration],
        "evidence": dict(pack.evidence),
        "versions": dict(pack.versions),
    }


def _from_json(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Pack:
    operator = None
    if header["operator"] is not None:
        e, d, m = (tensors[f"operator.{n}"] for n in ("e", "d", "m"))
        operator = Operator(e, d, m, gate=header["operator"]["gate"], where=header["operator"]["where"])
    plain = ("concept", "sites", "wider", "site_names", "strength", "pooled", "rows", "source", "phrases", "neutral")
    return Pack(
        host=Fingerprint.from_json(header["host"]),
        scores=tensors["scores"],
        bins=tuple(Window(*b) for b in header["bins"]),
        choice=Choice(**header["choice"]),
        window=Window(*header["window"]),
        operator=operator,
        calibration=tuple(CalibrationPoint(*c) for c in header["calibration"]),
        evidence=header["evidence"],
        versions=header["versions"],
        mode=header.get("mode", "kv"),
        **{name: header[name] for name in plain},
    )
