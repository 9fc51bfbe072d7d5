"""A given picture in the place of a drawn one: what it shows, which part of it is drawn anew, and what comes back.

The model draws at its own size, so the picture is scaled for it, and the part that changed is scaled back. All other
pixels are the given ones, bit for bit, at their own size. Where nothing says which part may change, the picture is
drawn anew as a whole, and its first steps are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from policies import Box, Decision, Request, Signals, Steer
from service.engine.queue import Source
from service.order import Order

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from steering import Pack

__all__ = ["GivenPicture", "boxes_in", "shown"]

_KEPT = 0.3  # of the steps, where the whole picture is drawn anew
_OWN_NOISE = 0.5  # of the noise of an edit is its seed's, so that other seeds give other pictures
_LONGEST = 120  # characters of lettering that a prompt spells


class GivenPicture:
    """The given picture of an order. `image`: as it was given; `marked` [h, w]: where an edit may change it."""

    def __init__(self, order: Order) -> None:
        assert order.given is not None  # INVARIANT: only made for such orders
        self.image: Image = order.given.image
        self.kind = order.given.kind
        self.marked: np.ndarray | None = order.given.mask
        self.prompt = ""  # what it shows, once it was read
        self.asked: tuple[Request, Decision] | None = None  # a request for it, and the judgement: what a repair goes by
        self._boxes: dict[Box, None] = {}
        self._placed = True
        self._order = order
        self._sources: dict[tuple[str, int, int], Source] = {}

    @cached_property
    def small(self) -> Image:
        """The picture at the size that the model draws."""
        from PIL.Image import Resampling

        size = self._order.width, self._order.height
        return self.image if self.image.size == size else self.image.resize(size, Resampling.LANCZOS)

    def mark(self, boxes: Iterable[Box]) -> None:
        """Lets an edit change what is around these boxes, if there are any."""
        around = self._around(tuple(boxes))
        self.marked = around if around.any() else None

    def mask(self, decision: Decision | None = None) -> np.ndarray | None:
        """What may be drawn anew [h, w], at the picture's own size: what is marked, and where this decision, and those
        of earlier calls, found something at fault. None: everything, as where something has no place in the picture.
        """
        if decision is not None:
            self._boxes |= dict.fromkeys(decision.ladder.boxes if decision.ladder else ())
            self._placed &= all(any(r.box for r in v.reasons) for v in decision.violations)
        if self.kind == "repair" and not self._placed:
            return None
        if not self._boxes or (self.kind == "edit" and self.marked is None):
            return self.marked
        around = self._around(tuple(self._boxes))
        return around if self.marked is None else around | self.marked

    def _around(self, boxes: Sequence[Box]) -> np.ndarray:
        from steering import mask_of

        around: np.ndarray = mask_of([(b.left, b.top, b.right, b.bottom) for b in boxes], self.image.size) > 0
        return around

    def over(self, mask: np.ndarray | None, seed: int) -> tuple[Source, np.ndarray | None]:
        """What a job with this mask and seed draws over, and the mask, both at the size that the model draws. The same
        source comes back where its way is the same, so that this is found once.
        """
        from steering import scaled

        start = max(1, round(_KEPT * self._order.steps)) if mask is None else 1
        own = _OWN_NOISE if self.kind == "edit" else 0.0
        key = (self.prompt, start, seed if own else 0)
        if key not in self._sources:
            self._sources[key] = Source(self.small, self.prompt, start, own, key[2])
        small = None if mask is None else scaled(mask, (self._order.width, self._order.height))
        return self._sources[key], small

    def pasted(self, drawn: Image, mask: np.ndarray | None) -> Image:
        """The given picture with what was drawn inside of the mask, at its own size."""
        import numpy as np
        from PIL.Image import Resampling

        from steering import paste

        if mask is not None:
            return paste(self.image, drawn, mask.astype(np.float32))
        return drawn if drawn.size == self.image.size else drawn.resize(self.image.size, Resampling.LANCZOS)


def boxes_in(signals: Signals) -> tuple[Box, ...]:
    """Where lettering was read in a picture."""
    return tuple(s.box for s in signals.of("picture", "lettering") if s.box is not None)


def shown(
    prompt: str, signals: Signals, boxes: Iterable[Box], steers: Iterable[Steer], packs: Mapping[str, Pack]
) -> str:
    """A prompt that says what a given picture shows: the caller's, if any, and the lettering read at `boxes` and the
    steered concepts, as far as it does not name them.
    """
    at = set(boxes)
    read = dict.fromkeys(s.text for s in signals.of("picture", "lettering") if s.text and s.box in at)
    texts = [t for t in read if not any(t != other and t in other for other in read)]
    lettering = " ".join(texts).replace('"', "'")[:_LONGEST]
    said = [prompt] if prompt else []
    if lettering and lettering.casefold() not in prompt.casefold():
        said.append(f'a sign that says "{lettering}"')
    found = (packs[s.concept].phrases for s in steers if s.concept in packs)
    said += dict.fromkeys(p[0] for p in found if p and not any(each.casefold() in prompt.casefold() for each in p))
    return " with ".join(said)
