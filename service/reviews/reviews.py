"""What the API and the console do with held cases: list, look, decide. Each look and decision is in the audit log.

A record is written before what it records: nobody sees a picture, and nothing is decided, without one.
"""

from __future__ import annotations

import base64
import io
import logging
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.errors import BadRequest, CaseBroken, Conflict, NotFound
from service.metrics.recorder import Recorder
from service.periodic import Periodic
from service.reviews.cases import STATES, Case, Choice, Content, Reason, State
from service.reviews.store import CaseStore, Decided, Full, NoCase
from service.sealing import Tampered

__all__ = ["Reviews"]

log = logging.getLogger("bentoml.palimpsest.reviews")

_EVERY_SECONDS = 15.0
_PATCHES = 8  # along the longer side of a blurred picture
MOST_LISTED = 100


class Reviews:
    """The review queue of a service. `record` writes one audit record, or raises an `ApiError`. All methods block; they
    may be called from any thread.
    """

    def __init__(self, store: CaseStore, record: Callable[[Mapping[str, Any]], None], recorder: Recorder) -> None:
        self._store = store
        self._record = record
        self._recorder = recorder
        self._tending = Periodic("reviews", _EVERY_SECONDS, self._tend)

    def start(self) -> None:
        """Starts ending what is over, and measuring the queues, from time to time."""
        self._tending.start()

    def stop(self) -> None:
        """Ends that, and closes the store."""
        self._tending.stop()
        self._store.close()

    def keep(self, case_id: str, queue: str, tenant: str, rules: Sequence[str], content: Content) -> Case | None:
        """The case, now pending. None if there is no room for it, or it cannot be written."""
        try:
            case = self._store.keep(case_id, queue, tenant, tuple(rules), content)
        except Full:
            self._recorder.review_case("full")
            log.error("there is no room for another case: held requests are refused until cases are decided")
            return None
        except (OSError, sqlite3.Error) as error:
            self._recorder.review_case("error")
            log.error("a case could not be kept, so its request is refused: %s", type(error).__name__)
            return None
        self._recorder.review_case("kept")
        self._measure()
        return case

    def drop(self, case_id: str) -> None:
        """Removes a case that could not be announced to its caller."""
        self._store.drop(case_id)
        self._measure()

    def outcome(self, case_id: str, *, tenant: str) -> dict[str, Any]:
        """What the caller who asked for the pictures may know of the case. Raises `NotFound` also for the cases of
        others.
        """
        case = self._find(case_id)
        if case.tenant != tenant:
            raise _no_case()
        told: dict[str, Any] = {"object": "review", "id": case.id, "status": case.state}
        told |= {"created": int(case.created), "expires": int(case.expires), "answer": None}
        reason = self._opened(lambda: self._store.reason(case.id))
        told["reason"] = reason.text if reason and reason.told else None
        if case.state == "released":
            content = self._content(case)
            body = content.mended if case.chosen else content.answer
            assert body is not None  # INVARIANT: `decide` asks for it
            told["answer"] = _with_files(body, content.repaired if case.chosen else content.files)
        return told

    def list(
        self,
        *,
        state: str | None = "pending",
        queue: str | None = None,
        tenant: str | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> dict[str, Any]:
        """A page of cases, the oldest first. `after` is the id of the last case of the page before."""
        if state is not None and state not in STATES:
            raise BadRequest(f"`state` must be one of {', '.join(STATES)} or `all`, got `{state[:32]}`", param="state")
        if not 1 <= limit <= MOST_LISTED:
            raise BadRequest(f"`limit` must be from 1 to {MOST_LISTED}, got `{limit}`", param="limit")
        known: State | None = next((each for each in STATES if each == state), None)
        try:
            found = self._store.page(state=known, queue=queue, tenant=tenant, after=after, limit=limit + 1)
        except NoCase:
            raise NotFound("`after` must be the id of a case", param="after", code="review_not_found") from None
        data = [case.to_dict() for case in found[:limit]]
        return {"object": "list", "data": data, "has_more": len(found) > limit}

    def waiting(self) -> dict[str, int]:
        """How many cases wait in each queue that has one."""
        return {queue: count for queue, (count, _) in self._store.depths().items() if count}

    def case(self, case_id: str, *, reviewer: str) -> dict[str, Any]:
        """The case with its prompt, the grounds on which it is held, and what was done to its pictures. It counts as a
        look.
        """
        case = self._live(case_id)
        content = self._content(case)
        self._record(_event("review-look", case, reviewer, {"at": "prompt"}))
        mended = content.mended and content.mended["steering"]
        done = {"steering": content.answer["steering"], "repaired_steering": mended}
        return {"object": "review.case", **case.to_dict(), **content.about, **done}

    def look(self, case_id: str, picture: int, *, reviewer: str, clear: bool = False, repaired: bool = False) -> bytes:
        """A picture of the case as a PNG file, blurred beyond recognition unless it is to be `clear`."""
        case = self._live(case_id)
        content = self._content(case)
        files = content.repaired if repaired else content.files
        if not 0 <= picture < len(files):
            kind = "repaired picture" if repaired else "picture"
            raise NotFound(f"the case has {len(files)} {kind}{'' if len(files) == 1 else 's'}; they count from 0")
        shown = _png(files[picture], blurred=not clear)
        seen = {"at": "picture", "picture": picture, "clear": clear, "repaired": repaired}
        self._record(_event("review-look", case, reviewer, seen))
        self._recorder.review_look("clear" if clear else "blurred")
        return shown

    def decide(
        self, case_id: str, decision: Choice, *, reviewer: str, reason: str | None = None, tell: bool = False
    ) -> dict[str, Any]:
        """The decided case. `reason` is kept with it, and the caller gets it if `tell`. Raises `Conflict` for a case
        that is not pending.
        """
        if tell and not reason:
            raise BadRequest("`reason` must be given if `tell` is true", param="reason")
        case = self._find(case_id)
        if case.state != "pending":
            raise _decided(case.state)
        if decision == "release-repaired" and not case.repaired:
            raise BadRequest("this case has no repaired pictures: release it or reject it", param="decision")
        if decision != "reject":
            self._content(case)  # a file that does not open cannot be released
        self._record(_event("review-decision", case, reviewer, {"decision": decision, "told": tell}))
        state: State = "rejected" if decision == "reject" else "released"
        try:
            chosen = decision == "release-repaired"
            kept = Reason(reason, tell) if reason else None
            case = self._store.decide(case_id, state, chosen=chosen, reason=kept)
        except Decided as late:
            self._record(_event("review-decision", case, reviewer, {"decision": decision, "late": True}))
            raise _decided(late.args[0]) from None
        self._recorder.review_decision(decision)
        self._measure()
        return {"object": "review.case", **case.to_dict()}

    def _tend(self) -> None:
        try:
            for _ in range(self._store.sweep()):
                self._recorder.review_decision("expire")
            self._measure()
        except (OSError, sqlite3.Error) as error:
            log.error("the review queue cannot be read: %s", type(error).__name__)

    def _measure(self) -> None:
        depths = self._store.depths()
        oldest = min((since for _, since in depths.values() if since is not None), default=math.inf)
        self._recorder.review_queues({queue: count for queue, (count, _) in depths.items()}, oldest)

    def _find(self, case_id: str) -> Case:
        try:
            return self._store.find(case_id)
        except NoCase:
            raise _no_case() from None

    def _live(self, case_id: str) -> Case:
        """A case that still has its pictures."""
        case = self._find(case_id)
        if case.state not in ("pending", "released"):
            raise NotFound(f"the case is {case.state}: nothing of it is kept", code="review_over")
        return case

    def _content(self, case: Case) -> Content:
        return self._opened(lambda: self._store.content(case))

    def _opened(self, work: Callable[[], Any]) -> Any:
        """What `work` opens. A file that is gone or was changed is an error of this case alone."""
        try:
            return work()
        except (Tampered, NoCase) as error:
            log.error("a sealed case cannot be opened: %s", error)
            raise CaseBroken from None


def _event(event: str, case: Case, reviewer: str, more: Mapping[str, Any]) -> dict[str, Any]:
    return {"event": event, "review": case.id, "reviewer": reviewer, **more}


def _no_case() -> NotFound:
    return NotFound("there is no such case", code="review_not_found")


def _decided(state: str) -> Conflict:
    return Conflict(f"the case is {state} already", code="review_decided")


def _with_files(body: Mapping[str, Any], files: Sequence[bytes]) -> dict[str, Any]:
    """The answer with its pictures. Cases of earlier versions have no `data`."""
    items = body.get("data") or [{} for _ in files]
    encoded = [{"b64_json": base64.b64encode(file).decode()} for file in files]
    return {**body, "data": [picture | item for picture, item in zip(encoded, items, strict=True)]}


def _png(file: bytes, *, blurred: bool) -> bytes:
    """The picture in `file` as PNG. Blurred, it has a few coarse patches, which tell hue and layout at most."""
    from PIL import Image

    with Image.open(io.BytesIO(file)) as opened:
        image = opened.convert("RGB")
    if blurred:
        scale = _PATCHES / max(image.size)
        coarse = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(coarse, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()
