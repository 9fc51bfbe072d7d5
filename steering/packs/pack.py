"""Packs: one `.safetensors` file that says where a concept sits in one host, and how to steer it there.

Tensors (scores, an operator's vectors) are stored as tensors, everything else as one JSON object in the file's
metadata. Nothing is unpickled.

Most packs are measured on the very host that they are bound to. A published one repeats what a paper reports of a model
that was not at hand. It is bound to a likeness, has no scores and no share, because papers print none that could be
checked, and swaps only. Who steers with it must verify the picture (`Pack.published`). A tuned one holds an adapter,
trained at its sites, and says what it was trained on (`Pack.tuned`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from steering.errors import BadPack, BadPlan, PackMismatch
from steering.families.fingerprint import Fingerprint, HostFacts, Likeness, bound_to, differences
from steering.host import Host
from steering.packs.checks import check_pack
from steering.packs.parts import CalibrationPoint, Choice
from steering.packs.sentinels import sentinel_from, sentinel_header, sentinel_tensors
from steering.plans import WHOLE, Edit, Mode, Plan, Pooled, Rows, Source, Swap, Window
from steering.sentinel import Sentinel
from steering.values import Donor, Operator, digest_of

__all__ = ["SCHEMA", "Pack", "read_header", "serves"]

SCHEMA = "palimpsest.pack/v1"
_MOST_BINS = 1000
_MOST_HEADER = 4 << 20
_FIELDS = frozenset(
    [
        "schema",
        "concept",
        "host",
        "sites",
        "wider",
        "site_names",
        "bins",
        "choice",
        "strength",
        "window",
        "pooled",
        "rows",
        "source",
        "mode",
        "operators",
        "phrases",
        "neutral",
        "calibration",
        "evidence",
        "versions",
        "sentinel",
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """The artefact of localizing, fitting and verifying one concept on one host.

    * `concept`: `*` for the part after the slash means any of the category; `about` makes it one of them.
    * `sites`: the chosen set; `wider`: a second one, for the ladder; both over names of `site_names`.
    * `scores` [len(site_names), len(bins)]: effect of each site alone in each part of the trajectory. They and `choice`
      are None in a published pack, and may be in a tuned one.
    * `strength`, `window`: what `pack.plan()` uses by default (`auto`). A strength of None says that
      none was found that erases enough while drift stays in bounds; `calibration` shows what was tried.
    * `operators`: empty for a pack that swaps text; else for each of its sites one operator, or one for each of several
      places (the keys and values of an adapter), and for global sites where pooled text is edited as well.
    * `phrases`, `neutral`: how to make a donor when the caller gives none: in a prompt each of the `phrases` becomes
      `neutral`; alone, `neutral` is a donor prompt. None (lettering) means that the caller must give one; empty, that
      the phrases are taken out. `*` in a phrase is the concept's own name, in a pack of a category.
    * `sentinel`: the probes that tell the concept before it is drawn; None in a pack that has none. Its tensors are
      stored as float16.
    * `evidence`: JSON. `kind` is `measured`, `published` or `tuned`; then controls, digests of prompts, seeds, figures;
      of a published pack, the `source`; of a tuned one, the `data` that it was trained on.

    Raises: BadPack, when the parts do not fit each other.
    """

    concept: str
    host: Fingerprint | Likeness
    sites: tuple[str, ...]
    wider: tuple[str, ...]
    site_names: tuple[str, ...]
    scores: torch.Tensor | None = None
    bins: tuple[Window, ...] = ()
    choice: Choice | None = None
    strength: float | None = 1.0
    window: Window = WHOLE
    pooled: Pooled = "keep"
    rows: Rows = "cond"
    source: Source = "text"
    mode: Mode = "kv"
    operators: Mapping[str, tuple[Operator, ...]] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()
    neutral: str | None = None
    calibration: tuple[CalibrationPoint, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sentinel: Sentinel | None = None

    def __post_init__(self) -> None:
        for name in ("sites", "wider", "site_names", "bins", "phrases", "calibration"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("operators", "evidence", "versions"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        check_pack(self)

    @property
    def published(self) -> bool:
        """True when its sites come from a paper: steer with it only where the picture is verified."""
        return bool(self.evidence.get("kind") == "published")

    @property
    def tuned(self) -> bool:
        """True when it holds what was trained at its sites: it may have no scores and no share."""
        return bool(self.evidence.get("kind") == "tuned")

    @property
    def kind(self) -> Literal["swap", "edit", "adapter"]:
        """What its plans are made of: swaps of text, edits of activations, or edits at projections alone, a LoRA."""
        if not self.edits:
            return "swap"
        return "adapter" if all(o.adapts for own in self.operators.values() for o in own) else "edit"

    @property
    def edits(self) -> bool:
        """True when it edits activations, and takes no donor; else it swaps text."""
        return bool(self.operators)

    @property
    def digest(self) -> str:
        """Sha256 over all that it says, however its file is laid out."""
        tensors = {} if self.sentinel is None else sentinel_tensors(self.sentinel)
        tensors |= {} if self.scores is None else {"scores": self.scores.to("cpu", torch.float32)}
        plain = {name: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for name, t in tensors.items()}
        return digest_of([_to_json(self), plain, [o.digest for o in _sites_of(self.operators)]])

    def save(self, path: str | Path) -> Path:
        """The path of the written file, which replaces an older one in one move."""
        target = Path(path)
        if target.suffix != ".safetensors":
            raise BadPack(f"a pack's file must end in `.safetensors`, got `{target.name}`")
        tensors = {} if self.scores is None else {"scores": self.scores.to(torch.float32).contiguous()}
        for i, operator in enumerate(_sites_of(self.operators)):
            for name, vectors in (("e", operator.e), ("d", operator.d), ("m", operator.m)):
                if not (name == "m" and operator.adapts and not vectors.any()):  # of a LoRA it is zero
                    tensors[f"operators.{i}.{name}"] = vectors.to("cpu", torch.float32).clone().contiguous()
        if self.sentinel is not None:
            tensors |= sentinel_tensors(self.sentinel)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        header = json.dumps(_to_json(self), ensure_ascii=False, sort_keys=True)
        save_file(tensors, fresh, metadata={"palimpsest.pack": header})
        fresh.replace(target)
        return target

    @classmethod
    def load(cls, path: str | Path, *, host: Host | HostFacts) -> Pack:
        """The pack in a file, when it was made for `host` as it is now.

        Raises: BadPack, when the file is not a pack; PackMismatch, naming what differs.
        """
        header = read_header(path)
        try:
            with safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            pack = _from_json(header, tensors)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadPack(f"`{path}` is not a whole pack: {error}") from error
        pack.check(host, str(path))
        return pack

    def check(self, host: Host | HostFacts, where: str = "") -> None:
        """Nothing, when the pack was made for this host. Raises: PackMismatch."""
        what = f"pack `{self.concept}`" + (f" in `{where}`" if where else "")
        different = differences(self.host, host)
        if different:
            raise PackMismatch(f"{what} was made for another host than `{host.name}`: {'; '.join(different)}")
        names = [s.name for s in host.sites]
        pooled = [s.name for s in host.global_sites]
        watched = self.sentinel.sites if self.sentinel is not None else ()
        missing = [s for s in (*self.sites, *self.wider, *self.operators, *watched) if s not in (*names, *pooled)]
        if missing:
            raise PackMismatch(f"{what} names site `{missing[0]}`, which host `{host.name}` does not have")
        first = tuple(n for n in names if "/" not in n)
        if self.published and self.site_names != first:
            raise PackMismatch(
                f"{what} counts {len(self.site_names)} sites in execution order, and those of host `{host.name}` are"
                f" others, {len(first)}"
            )

    def about(self, concept: str) -> Pack:
        """The pack for one concept of the category that it is for: named so, the concept's name in its phrases.

        Raises: BadPack, when it is not for this concept.
        """
        if self.concept == concept:
            return self
        if not serves(self.concept, concept):
            raise BadPack(f"pack `{self.concept}` is not for concept `{concept}`")
        name = concept.partition("/")[2].replace("-", " ")
        return replace(self, concept=concept, phrases=tuple(p.replace("*", name) for p in self.phrases))

    def donor_for(self, prompt: str) -> str | None:
        """A donor prompt for `prompt`: each of its `phrases` replaced by `neutral`, whole words, in any case.

        When none of them is in the prompt, `neutral` alone. None for a pack without a neutral phrase (lettering),
        and where taking phrases out finds none, or leaves nothing.
        """
        if self.neutral is None:
            return None
        words = sorted(self.phrases, key=len, reverse=True)
        if not words:
            return self.neutral or None
        pattern = rf"(?<!\w)(?:{'|'.join(re.escape(w) for w in words)})(?!\w)"
        if not self.neutral:
            pattern = rf"\s*{pattern}"  # the space before goes with the words
        donor, found = re.subn(pattern, lambda _: str(self.neutral), prompt, flags=re.IGNORECASE)
        return (donor.strip() if found else self.neutral) or None

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
        if amount is None:
            raise BadPlan(
                f"pack `{self.concept}` has no strength of its own: none that was tried erased enough with drift in"
                " bounds; give a `strength`, and see its calibration"
            )
        bound = self.host.digest if isinstance(self.host, Fingerprint) else None
        if self.edits:
            if toward is not None:
                raise BadPlan(f"pack `{self.concept}` edits and takes no donor; leave `toward` out")
            acts = (
                Edit(names, operator, window=when, strength=amount, rows=self.rows)
                for operator, names in self._by_operator(sites)
            )
            return Plan(*acts, made_for=bound)
        donor = toward if toward is not None else self.neutral or None
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

    def _by_operator(self, sites: Sequence[str]) -> list[tuple[Operator, tuple[str, ...]]]:
        """Each operator with those of `sites`, and the global ones, that it is for."""
        pooled = [name for name in self.operators if name not in self.site_names]
        groups: dict[Operator, list[str]] = {}
        for name in (*sites, *pooled):
            for operator in self.operators[name]:
                groups.setdefault(operator, []).append(name)
        return [(operator, tuple(names)) for operator, names in groups.items()]


def serves(theirs: str, concept: str) -> bool:
    """True when a pack of the name `theirs` is for `concept`: of that name, or of its category."""
    return theirs == concept or (theirs.endswith("/*") and concept.startswith(theirs[:-1]))


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON metadata of a pack, without its tensors. Raises: BadPack."""
    try:
        with open(path, "rb") as start:
            size = int.from_bytes(start.read(8), "little")  # safetensors: the size of its header comes first
        if size > _MOST_HEADER:
            raise ValueError(f"its header may have {_MOST_HEADER} bytes at most, got {size}")
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata["palimpsest.pack"])
    except FileNotFoundError as error:
        raise BadPack(f"there is no pack at `{path}`") from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadPack(f"`{path}` is not a pack: {type(error).__name__} {error}") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        got = header.get("schema") if isinstance(header, dict) else header
        raise BadPack(f"schema of `{path}` must be `{SCHEMA}`, got `{got}`")
    return header


def _sites_of(operators: Mapping[str, Sequence[Operator]]) -> dict[Operator, list[str]]:
    """The sites of each operator, in the order of the file."""
    found: dict[Operator, list[str]] = {}
    for name, own in operators.items():
        for operator in own:
            found.setdefault(operator, []).append(name)
    return found


def _to_json(pack: Pack) -> dict[str, Any]:
    operators = [{"gate": o.gate, "where": o.where, "sites": names} for o, names in _sites_of(pack.operators).items()]
    sentinel = {} if pack.sentinel is None else {"sentinel": sentinel_header(pack.sentinel)}
    return sentinel | {
        "schema": SCHEMA,
        "concept": pack.concept,
        "host": pack.host.to_json(),
        "sites": list(pack.sites),
        "wider": list(pack.wider),
        "site_names": list(pack.site_names),
        "bins": [[b.start, b.end] for b in pack.bins],
        "choice": None if pack.choice is None else asdict(pack.choice),
        "strength": pack.strength,
        "window": [pack.window.start, pack.window.end],
        "pooled": pack.pooled,
        "rows": pack.rows,
        "source": pack.source,
        "mode": pack.mode,
        "operators": operators,
        "phrases": list(pack.phrases),
        "neutral": pack.neutral,
        "calibration": [c.to_json() for c in pack.calibration],
        "evidence": dict(pack.evidence),
        "versions": dict(pack.versions),
    }


def _from_json(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Pack:
    if unknown := sorted(set(header) - _FIELDS):
        raise BadPack(f"it has a field `{unknown[0]}`, which packs of this version do not have")
    if len(header["bins"]) > _MOST_BINS:
        raise BadPack(f"a pack may have {_MOST_BINS} bins at most, got {len(header['bins'])}")
    operators: dict[str, tuple[Operator, ...]] = {}
    for i, held in enumerate(header.get("operators", ())):
        e, d = (tensors[f"operators.{i}.{n}"] for n in ("e", "d"))
        m = tensors.get(f"operators.{i}.m", torch.zeros_like(e))
        operator = Operator(e, d, m, gate=held["gate"], where=held["where"])
        for site in held["sites"]:
            operators[site] = (*operators.get(site, ()), operator)
    plain = ("concept", "sites", "wider", "site_names", "strength", "pooled", "rows", "source", "phrases", "neutral")
    return Pack(
        host=bound_to(header["host"]),
        scores=None if header["choice"] is None else tensors["scores"],
        bins=tuple(Window(*b) for b in header["bins"]),
        choice=None if header["choice"] is None else Choice(**header["choice"]),
        window=Window(*header["window"]),
        operators=operators,
        calibration=tuple(CalibrationPoint.from_json(c) for c in header["calibration"]),
        evidence=header["evidence"],
        versions=header["versions"],
        mode=header.get("mode", "kv"),
        sentinel=sentinel_from(header, tensors, bound_to(header["host"])),
        **{name: header[name] for name in plain},
    )
