"""The status answers of a service: its model, and the policies and detectors of all workers, from the workers' notes.

A note may contain paths, process ids and failure reasons. The answers contain none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from service.order import Limits

if TYPE_CHECKING:
    from detectors.running import Health

__all__ = ["detector_notes", "models_answer", "policies_answer", "status_answer"]

_Note = dict[str, Any]
_KEPT = ("state", "policy", "rules")


def models_answer(served: Iterable[tuple[Limits, str, int]]) -> dict[str, Any]:
    """The body of `GET /v1/models`: each model and its request limits, once under each of its names. `served`: the
    limits of a model, its batching, and when it was made, in Unix time.
    """
    return {"object": "list", "data": [entry for each in served for entry in _entries(*each)]}


def _entries(limits: Limits, batching: str, created: int) -> list[dict[str, Any]]:
    model = {
        "object": "model",
        "created": created,
        "owned_by": "palimpsest",
        "root": limits.models[0],
        "sizes": list(limits.sizes),
        "defaults": {
            "size": limits.default_size,
            "num_inference_steps": limits.default_steps,
            "guidance_scale": limits.default_guidance,
        },
        "limits": {"n": limits.max_n, "num_inference_steps": limits.max_steps, "prompt": limits.max_prompt},
        "adapters": {name: lora.scale for name, lora in limits.adapters.items()},
        "batching": batching,
    }
    return [{"id": name, **model} for name in limits.models]


def policies_answer(notes: Sequence[_Note]) -> dict[str, Any]:
    """The body of `GET /v1/policies`: the policies of each worker, and whether all workers use the same ones."""
    workers = [{"worker": k, **_policies(note)} for k, note in enumerate(notes, 1)]
    digests = {tuple(policy["digest"] if policy else None for policy in _in_use(w)) for w in workers}
    return {"object": "policies", "converged": len(digests) == 1, "workers": workers}


def status_answer(notes: Sequence[_Note]) -> dict[str, Any]:
    """The body of `GET /v1/status`: the state of each worker and of its detectors."""
    workers = [
        {"worker": k, "state": note["state"], "detectors": note.get("detectors", [])}
        | ({"loaded": [name for name, own in note["models"].items() if own["loaded"]]} if "models" in note else {})
        for k, note in enumerate(notes, 1)
    ]
    well = all(w["state"] == "ready" and all(d["circuit"] == "closed" for d in w["detectors"]) for w in workers)
    return {"object": "status", "degraded": not well, "workers": workers}


def detector_notes(health: Iterable[Health]) -> list[_Note]:
    """The state of the detectors for the worker's note. The text of an error contains nothing that was read."""
    return [
        {
            "name": h.name,
            "circuit": h.state,
            "failures": h.failures,
            "stuck": h.stuck,
            "opened": h.opened,
            "last_error": h.last_error or None,
        }
        for h in health
    ]


def _policies(note: _Note) -> _Note:
    kept = {name: note[name] for name in _KEPT if name in note}
    if "rules" in kept:
        kept["rules"] = [row | {"why_unfit": row["why_unfit"] and _public_why(row)} for row in kept["rules"]]
    if "models" in note:
        kept["models"] = {name: _policies(own) for name, own in note["models"].items()}
    return kept


def _in_use(worker: _Note) -> list[_Note | None]:
    """The policies of each model of a worker."""
    models = worker.get("models") or {"": worker}
    return [own.get("policy") for own in models.values()]


def _public_why(row: _Note) -> str:
    """Why a rule is unfit, without paths. The reason of a rule that has a pack contains none."""
    return str(row["why_unfit"]) if row["pack"] else "no pack of this concept was made for this model"
