"""The adapters that a service offers: packs that edit, which ride in any batch, and ordinary LoRA files, which are
switched on for a batch of their own.

Rules were verified on the model alone. A pack may steer a request with an adapter only where the adapter's evidence
has `verified_with`: the digests of packs that were verified again with it, and at which scale. The evidence of a pack
is in the pack; that of a LoRA file is in `<file>.card.json` beside it. What was verified at one scale holds at lower
ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.order import Lora
from service.settings import MAX_LORA_SCALE, AdapterSetting, Settings, SettingsError

if TYPE_CHECKING:
    from steering import Host, Pack, Plan

__all__ = ["Adapter", "check_adapters", "load_adapters"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter at a scale. `verified`: by digest of a pack, the highest scale at which it was verified with this
    adapter. `pack` is None for a LoRA file.
    """

    lora: Lora
    verified: Mapping[str, float] = field(default_factory=dict)
    pack: Pack | None = None

    @property
    def plan(self) -> Plan | None:
        """What it does in a mixed batch; None for a LoRA file, which is switched on for a whole batch."""
        return None if self.pack is None else self.pack.plan(strength=self.lora.scale)

    @property
    def switched(self) -> Lora | None:
        """What must be switched on for its batch, or None."""
        return self.lora if self.pack is None else None

    def at(self, scale: float) -> Adapter:
        """This adapter at another scale."""
        return replace(self, lora=replace(self.lora, scale=scale))

    def vouches_for(self, pack: Pack) -> bool:
        """Whether its evidence says that a pack works with it, at this scale."""
        return self.lora.scale <= self.verified.get(pack.digest, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The adapter for the table at start."""
        kind = "LoRA file" if self.pack is None else "pack"
        lora = self.lora
        return {"adapter": lora.name, "kind": kind, "scale": lora.scale, "sha256": lora.digest[:12]}


def check_adapters(settings: Settings) -> None:
    """Checks the files as far as this is possible without the model. Raises `SettingsError`."""
    from steering import SteeringError, check_lora, is_pack, read_header

    for given in settings.adapters:
        try:
            file = _file_at(given.path)
            if is_pack(file):
                read_header(file)
            else:
                check_lora(file)
                _card(file)
        except SteeringError as error:
            raise _mistake(given, str(error)) from error


def load_adapters(host: Host, settings: Settings) -> dict[str, Adapter]:
    """The adapters by name, loaded and off. Raises `SettingsError`."""
    from steering import SteeringError, is_pack

    found: dict[str, Adapter] = {}
    for given in settings.adapters:
        try:
            file = _file_at(given.path)
            found[given.name] = _from_pack(host, given, file) if is_pack(file) else _from_lora(host, given, file)
        except SteeringError as error:
            raise _mistake(given, str(error)) from error
    return found


def _file_at(path: Path) -> Path:
    """The file of an adapter: `path`, or the one in this folder. Where a LoRA file and its pack lie together, as `tune`
    writes them, it is the pack, which rides in any batch. Raises: BadLora."""
    from steering import find_lora, is_pack

    packs = [file for file in path.glob("*.safetensors") if is_pack(file)]
    return packs[0] if len(packs) == 1 else find_lora(path)


def _from_pack(host: Host, given: AdapterSetting, file: Path) -> Adapter:
    from steering import Pack

    pack = Pack.load(file, host=host)
    if not pack.edits:
        raise _mistake(given, f"pack `{file}` swaps text, and an adapter edits; name a pack that edits, or a LoRA file")
    if not host.trusted:
        raise _mistake(given, f"a pack needs a model that passed its self-test, and `{host.name}` did not")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Adapter(Lora(given.name, given.scale, digest), _verified(pack.evidence, given, file), pack)


def _from_lora(host: Host, given: AdapterSetting, file: Path) -> Adapter:
    verified = _verified(_card(file), given, file)
    loaded = host.load_lora(given.name, file)
    return Adapter(Lora(given.name, given.scale, loaded.digest), verified)


def _card(file: Path) -> Mapping[str, Any]:
    """What the card beside a LoRA file says; nothing without a card."""
    card = file.with_name(f"{file.name}.card.json")
    if not card.is_file():
        return {}
    try:
        told = json.loads(card.read_text("utf-8"))
    except ValueError as error:
        raise SettingsError(f"`adapters`: `{card}` must be JSON: {error}") from None
    if not isinstance(told, dict):
        raise SettingsError(f"`adapters`: `{card}` must be a JSON object, got `{type(told).__name__}`")
    return told


def _verified(evidence: Mapping[str, Any], given: AdapterSetting, file: Path) -> dict[str, float]:
    told = evidence.get("verified_with", {})
    try:
        found = {str(digest): float(figures.get("scale", 1.0)) for digest, figures in told.items()}
    except (AttributeError, TypeError, ValueError):
        found = None
    if found is None or not all(0 < scale <= MAX_LORA_SCALE for scale in found.values()):
        raise _mistake(
            given,
            f"`verified_with` of `{file}` must map digests of packs to objects with a `scale` in"
            f" (0, {MAX_LORA_SCALE:g}], got `{told}`",
        )
    return found


def _mistake(given: AdapterSetting, why: str) -> SettingsError:
    return SettingsError(f"`adapters`: `{given.name}`: {why}")
