"""The order of strictness of settings: which override counts, and which change loosens a rule.

The loader, the decision and the difference of two policies all use this order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from policies.format.actions import OnError
from policies.format.model import RuleModel, SettingModel, SteerModel

__all__ = ["ON_ERRORS", "ON_STALE", "UNFITS", "extent", "loosening", "strength_rank", "strictest_of"]

ON_ERRORS: tuple[OnError, ...] = ("allow", "apply", "block")
ON_STALE = ("serve", "tighten", "refuse")
UNFITS = ("swap-prompt", "block", "refuse-load")

_T = TypeVar("_T")


def extent(mode: str, percent: float | None) -> float:
    """How far a rule with this rollout is in force: -1 disabled, 0 shadow, up to 1 for everybody."""
    return {"disabled": -1.0, "shadow": 0.0, "canary": (percent or 0.0) / 100, "enforce": 1.0}[mode]


def strength_rank(strength: float | str) -> float:
    """A strength as a number; `auto`, which is calibrated, ranks above every number except 1."""
    return 1.0 - 1e-9 if isinstance(strength, str) else strength


def strictest_of(settings: Iterable[SettingModel]) -> SettingModel | None:
    """One setting with the strictest value of each field; None without settings. Their order does not matter."""
    given = list(settings)
    if len(given) < 2:
        return given[0] if given else None
    modes = [(extent(s.mode, s.percent), s.mode, s.percent) for s in given if s.mode is not None]
    strengths = [s.strength for s in given if s.strength is not None]
    on_errors = [s.on_error for s in given if s.on_error is not None]
    _, mode, percent = max(modes, key=lambda m: m[0], default=(0.0, None, None))
    return SettingModel.model_construct(
        mode=mode,
        percent=percent,
        strength=max(strengths, key=strength_rank, default=None),
        on_error=max(on_errors, key=ON_ERRORS.index, default=None),
    )


def loosening(setting: SettingModel, rule: RuleModel) -> list[str]:
    """The fields by which `setting` makes `rule` milder than it is."""
    found = []
    if setting.mode is not None:
        own = rule.rollout
        if extent(setting.mode, setting.percent) < extent(own.mode, own.percent):
            found.append("mode")
    if setting.on_error is not None and ON_ERRORS.index(setting.on_error) < ON_ERRORS.index(rule.on_error):
        found.append("on_error")
    if setting.strength is not None:
        steers = [a.strength for a in rule.then if isinstance(a, SteerModel)]
        if any(strength_rank(setting.strength) < strength_rank(s) for s in steers):
            found.append("strength")
    return found
