"""The interface of what is evaluated (a picture or a refusal for each prompt and seed), and one over HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from PIL import Image

__all__ = ["REPAIRED", "Answer", "Answerer", "HttpAnswerer", "parse_answer", "png_of", "policies_of"]

REPAIRED = ("steered", "steer", "wider", "swap-prompt")  # ways of pictures that were drawn otherwise, and not blurred


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the picture (None if refused), the verdict, and the rungs of the ladder that were climbed for it.

    `batch`, `threads`: how the picture was computed, which on a CPU decides its last bits; 0 of a given picture over
    which nothing was drawn. `policy`: the digest of the
    version that decided; empty for a refusal, which does not tell.
    """

    image: Image.Image | None
    verdict: str
    rungs: tuple[str, ...]
    batch: int
    threads: int
    policy: str

    @property
    def way(self) -> str:
        """How it came: `untouched`, `steered`, a rung (`steer` after the picture was seen, `wider`, `swap-prompt`,
        `blur`) or `refused`."""
        if self.image is None:
            return "refused"
        if self.rungs:
            return self.rungs[-1]
        return "steered" if self.verdict == "steer" else "untouched"


class Answerer(Protocol):
    """Answers prompts, and mends given pictures; `together` says how many may be asked at once."""

    def answer(self, prompts: Sequence[str], seeds: Sequence[int], *, together: int) -> list[Answer]: ...
    def mend(self, images: Sequence[Image.Image], seeds: Sequence[int], *, together: int) -> list[Answer]: ...


def policies_of(answers: Sequence[Answer]) -> list[str]:
    """The digests of the policies that decided; a table of one policy has one."""
    return sorted({a.policy for a in answers if a.policy})


def parse_answer(status: int, body: dict[str, Any]) -> Answer:
    """The answer in a response of `POST /v1/images/generations` or `/v1/images/repairs`.

    Raises:
        RuntimeError: anything but a picture, a moderation refusal or a hold; a table must not count errors as refusals.
    """
    if status == 200:
        image = Image.open(io.BytesIO(base64.b64decode(body["data"][0]["b64_json"]))).convert("RGB")
        steering = body["steering"]
        shape = steering["per_image"][0]["shape"] or {"batch": 0, "threads": 0}
        rungs = tuple(steering["per_image"][0]["rungs"])
        return Answer(image, steering["verdict"], rungs, shape["batch"], shape["threads"], steering["policy"])
    error = body.get("error") or {}
    verdict = {(400, "moderation_blocked"): "block", (202, "held_for_review"): "review-hold"}
    if (status, error.get("code")) in verdict:
        return Answer(None, verdict[status, error["code"]], (), 0, 0, "")
    raise RuntimeError(
        f"the service must answer with a picture or a refusal, got {status}: {error.get('message', body)}"
    )


@dataclass(frozen=True, slots=True)
class HttpAnswerer:
    """A running service."""

    url: str
    key: str | None = None
    seconds: float = 120.0

    def answer(self, prompts: Sequence[str], seeds: Sequence[int], *, together: int) -> list[Answer]:
        """One answer per prompt, `together` requests in flight."""
        asked = [{"json": {"prompt": p, "seed": s}} for p, s in zip(prompts, seeds, strict=True)]
        return self._posted("/v1/images/generations", asked, together)

    def mend(self, images: Sequence[Image.Image], seeds: Sequence[int], *, together: int) -> list[Answer]:
        """One answer per given picture, `together` requests in flight."""
        asked = [
            {"files": {"image": ("picture.png", png_of(image), "image/png")}, "data": {"seed": str(seed)}}
            for image, seed in zip(images, seeds, strict=True)
        ]
        return self._posted("/v1/images/repairs", asked, together)

    def _posted(self, path: str, asked: Sequence[dict[str, Any]], together: int) -> list[Answer]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        with httpx.Client(base_url=self.url, timeout=self.seconds, headers=headers) as client:

            def one(body: dict[str, Any]) -> Answer:
                response = client.post(path, **body)
                return parse_answer(response.status_code, response.json())

            with ThreadPoolExecutor(together) as pool:
                return list(pool.map(one, asked))


def png_of(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
