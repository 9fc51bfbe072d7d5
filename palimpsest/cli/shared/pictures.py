"""Generates pictures for the command line with a worker's runtime, without HTTP.

Each picture runs in its own batch, so that a plain and a steered picture differ only by the steering.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.cli.shared.sheets import Row, sheet
from policies import no_policy
from service.errors import ApiError
from service.http.answers import generation_answer
from service.http.requests import GenerationRequest
from service.metrics.recorder import Recorder
from service.order import Order
from service.settings import Settings
from service.worker.runtime import Ready, Runtime

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Shot", "difference", "in_worker", "name_of", "problem", "repaired", "save", "shoot"]

_HEADS = ("plain", "steered", "difference")


@dataclass(frozen=True, slots=True)
class Shot:
    """The result for one prompt: the steering or the refusal, the picture, and the plain picture if requested.

    `files`: the image files of the two pictures, with their marks.
    """

    prompt: str
    seed: int
    steering: dict[str, Any]
    image: Image | None
    plain: Image | None
    files: tuple[bytes | None, bytes | None] = (None, None)


@contextmanager
def in_worker(settings: Settings) -> Iterator[Ready]:
    """The parts of a worker that runs in this process. Raises the runtime's error if it cannot start."""
    runtime = Runtime(settings.model_copy(update={"batching": "solo", "audit": "off"}), Recorder.apart(), alone=True)
    runtime.start()
    try:
        runtime.wait()
        yield runtime.ready()
    finally:
        runtime.stop()


def shoot(settings: Settings, asked: Sequence[GenerationRequest], *, compare: bool) -> list[Shot]:
    """One result per request, in order. Raises the runtime's error if it cannot start, and `BadRequest`."""
    with in_worker(settings) as ready:
        orders = [a.within(ready.limits) for a in asked]
        return asyncio.run(_shoot(ready, orders, compare=compare))


def repaired(ready: Ready, order: Order) -> Shot:
    """The result for a given picture under the worker's policies; `plain` is the picture as it was given."""
    assert order.given is not None  # INVARIANT: by the caller
    return asyncio.run(_shot(ready, order, order.given.image))


async def _shoot(ready: Ready, orders: Sequence[Order], *, compare: bool) -> list[Shot]:
    shots = []
    for order in orders:
        plain = await ready.loop.answer(order, no_policy(), uuid.uuid4().hex) if compare else None
        shot = await _shot(ready, order, plain.pictures[0].image if plain else None)
        if plain is not None:
            shot = replace(shot, files=(shot.files[0], (await ready.loop.finish(plain, order)).files[0]))
        shots.append(shot)
    return shots


async def _shot(ready: Ready, order: Order, plain: Image | None) -> Shot:
    decision_id = uuid.uuid4().hex
    outcome = await ready.loop.answer(order, ready.store.snapshot, decision_id)
    if outcome.refused:
        steering = {"verdict": outcome.verdict, "refused": outcome.refused, "rules": list(outcome.decision.rules)}
        return Shot(order.prompt, order.seed, steering, None, plain)
    finished = await ready.loop.finish(outcome, order)
    answer = generation_answer(finished, order, (), decision_id)
    # the user of the command line owns the policies, so all rules are named, also those hidden from API callers
    steering = answer["steering"] | {"rules": list(outcome.decision.rules)}
    return Shot(order.prompt, order.seed, steering, outcome.pictures[0].image, plain, (finished.files[0], None))


def difference(a: Image, b: Image) -> Image:
    """The difference of two pictures: black where they are equal, brighter the more the colours differ."""
    from PIL import ImageChops

    return ImageChops.difference(a.convert("RGB"), b.convert("RGB"))


def save(shots: Sequence[Shot], folder: Path) -> list[dict[str, Any]]:
    """Writes the pictures of each shot into `folder`, and returns one row per shot with the file names.

    Of comparisons each has a sheet, and all together are on one, `compare.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, compared = [], []
    for number, shot in enumerate(shots):
        row: dict[str, Any] = {"prompt": shot.prompt, "seed": shot.seed, **shot.steering, "files": {}}
        pictures = _pictures(shot)
        if "difference" in pictures:
            compared.append(Row(shot.prompt, f"seed {shot.seed}", tuple(pictures.values())))
            pictures["compare"] = sheet(_HEADS, compared[-1:])
        for name, image in pictures.items():
            path = folder / f"{name_of(number, shot.seed)}-{name}.png"
            file = dict(zip(("image", "plain"), shot.files, strict=True)).get("image" if name == "steered" else name)
            if file is None:
                image.save(path)
            else:
                path.write_bytes(file)
            row["files"][name] = str(path)
        rows.append(row)
    if compared:
        sheet(_HEADS, compared).save(folder / "compare.png")
    return rows


def name_of(number: int, seed: int) -> str:
    """What the files of a shot begin with."""
    return f"{number:03d}-seed{seed}"


def _pictures(shot: Shot) -> dict[str, Image]:
    """The pictures of a shot by name; of a comparison, those of `_HEADS`."""
    if shot.image is None:
        return {"plain": shot.plain} if shot.plain is not None else {}
    if shot.plain is None:
        return {"image": shot.image}
    return dict(zip(_HEADS, (shot.plain, shot.image, difference(shot.plain, shot.image)), strict=True))


def problem(error: Exception) -> str | None:
    """The message for a bad request or setting. None for an internal error."""
    from policies import PolicyError
    from service.settings import SettingsError

    if isinstance(error, OSError) and error.filename is not None:  # of the state folder or of `--out`
        return f"`{error.filename}`: {error.strerror}"
    return str(error) if isinstance(error, (ApiError, PolicyError, SettingsError)) else None
