"""Makes a pack that edits out of a pack that says where a concept sits: fit, calibrate, verify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from localization.calibrate import Asked, Curve, Setup, calibrate, measure_dose
from localization.fit import FitRecipe, fit_edit, usual_place
from steering import CalibrationPoint, Host, NotSupported, Pack

__all__ = ["Fitted", "calibrated", "fit_pack", "with_edit"]

_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A pack that edits, its curve, and what its strength did on prompts that it was not chosen on (None: it has none,
    or there were no such prompts)."""

    pack: Pack
    curve: Curve
    verified: CalibrationPoint | None


def with_edit(
    host: Host, pack: Pack, pairs: Sequence[Asked], *, recipe: FitRecipe | None = None, preserve: Sequence[str] = ()
) -> Pack:
    """The pack with an edit in its swap's place, at the same sites, of strength 1; not yet calibrated.

    pairs: prompts with the concept, `donor` without it. Sites come in two sets, and both get operators; those that lack
    the place (the last block of SD3 gives no text on) are left out.
    """
    how = recipe or FitRecipe()
    how = replace(how, pooled=how.pooled and pack.pooled != "keep")  # as the search for sites found it
    sites = tuple(dict.fromkeys((*pack.sites, *pack.wider)))
    operators = fit_edit(
        host,
        [p.prompt for p in pairs],
        [p.donor for p in pairs],
        sites,
        seeds=[p.seed for p in pairs],
        recipe=how,
        preserve=preserve,
    )
    chosen, wider = ([s for s in names if s in operators] for names in (pack.sites, pack.wider))
    if not chosen:
        raise NotSupported(f"no chosen site of pack `{pack.concept}` has the place that `{how.method}` edits")
    fit = how.to_json() | {"where": how.where or usual_place(how.fitter, host), "pairs": len(pairs)}
    fit |= {"rank": max(len(o.e) for o in operators.values()), "seeds": [p.seed for p in pairs]}
    return replace(
        pack,
        sites=tuple(chosen),
        wider=tuple(wider),
        choice=None if pack.choice is None else replace(pack.choice, k=len(chosen)),
        operators={site: (operator,) for site, operator in operators.items()},
        strength=1.0,
        calibration=(),
        evidence={**pack.evidence, "fit": fit},
        versions={**pack.versions, "fit": _VERSION, "torch": torch.__version__},
    )


def fit_pack(
    host: Host,
    pack: Pack,
    pairs: Sequence[Asked],
    setup: Setup,
    *,
    recipe: FitRecipe | None = None,
    preserve: Sequence[str] = (),
    check: Setup | None = None,
    doses: Sequence[float] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """The pack as an edit, fitted on `pairs`, calibrated on `setup`, verified on `check`: three sets of prompts.

    When no dose does, its strength is None, and the curve says why.
    """
    progress(f"fitting `{(recipe or FitRecipe()).method}` on {len(pairs)} pairs")
    edited = with_edit(host, pack, pairs, recipe=recipe, preserve=preserve)
    return calibrated(host, edited, setup, check=check, doses=doses, progress=progress)


def calibrated(
    host: Host,
    pack: Pack,
    setup: Setup,
    *,
    check: Setup | None = None,
    doses: Sequence[float] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Any pack, with its curve, the strength that `auto` means, and what that does on other prompts."""
    progress("measuring erasure and drift against the dose")
    curve = calibrate(host, pack, setup, doses=doses, progress=progress)
    progress(curve.why)
    found = replace(pack, strength=curve.strength, calibration=curve.points)
    verified = None
    if check is not None and curve.strength is not None:
        progress("verifying on other prompts")
        verified = measure_dose(host, found, check, curve.strength)
    said = {
        "target": setup.target,
        "drift bound": setup.drift,
        "answer": curve.why,
        "verified": None if verified is None else verified.to_json(),
    }
    return Fitted(replace(found, evidence={**found.evidence, "calibration": said}), curve, verified)
