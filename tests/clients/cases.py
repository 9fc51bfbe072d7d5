"""The calls of Python clients, each as its own documentation has it. Runs in an environment of its own, where these
clients are installed: `python cases.py URL` prints one JSON line a call.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from PIL import Image

PROMPT = "a red star on a blue background"
BASE = f"{sys.argv[1]}/v1"
Case = Callable[[], Any]


def shown(picture: str | None) -> None:
    """Raises unless `picture`, base64 or a URL, is one."""
    assert picture, "no picture in the answer"
    by_url = picture.startswith(("http:", "data:"))
    raw = urllib.request.urlopen(picture, timeout=60).read() if by_url else base64.b64decode(picture)
    with Image.open(io.BytesIO(raw)) as image:
        image.load()


def openai_plain(**more: Any) -> None:
    from openai import OpenAI

    for each in OpenAI(base_url=BASE, api_key="none").images.generate(prompt=PROMPT, **more).data:
        shown(each.b64_json or each.url)


def openai_async() -> None:
    from openai import AsyncOpenAI

    async def three() -> list[Any]:
        client = AsyncOpenAI(base_url=BASE, api_key="none")
        return await asyncio.gather(*(client.images.generate(prompt=PROMPT) for _ in range(3)))

    for answer in asyncio.run(three()):
        shown(answer.data[0].b64_json)


def openai_stream() -> None:
    from openai import OpenAI
    from openai.types import ImageGenCompletedEvent

    events = list(OpenAI(base_url=BASE, api_key="none").images.generate(prompt=PROMPT, stream=True))
    others = [type(each).__name__ for each in events if not isinstance(each, ImageGenCompletedEvent)]
    assert not others, f"events that are no pictures: {others}"
    shown(events[-1].b64_json)


def openai_edit() -> None:
    from openai import OpenAI

    image, mask = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64), "blue").save(image, "PNG")
    Image.new("RGBA", (64, 64)).save(mask, "PNG")
    files = {"image": ("a.png", image.getvalue()), "mask": ("m.png", mask.getvalue())}
    shown(OpenAI(base_url=BASE, api_key="none").images.edit(prompt=PROMPT, **files).data[0].b64_json)


def openai_models() -> None:
    from openai import OpenAI

    client = OpenAI(base_url=BASE, api_key="none")
    for each in client.models.list():
        assert client.models.retrieve(each.id) == each
        assert each.created > 1_600_000_000


def openai_moderations() -> None:
    from openai import OpenAI

    made = OpenAI(base_url=BASE, api_key="none").moderations.create(input=[PROMPT, 'a sign that says "idiot"'])
    assert [each.flagged for each in made.results] == [False, True]


def openai_responses() -> None:
    from openai import OpenAI

    tools: Any = [{"type": "image_generation"}]
    OpenAI(base_url=BASE, api_key="none").responses.create(model="gpt-image-1", input=PROMPT, tools=tools)


def litellm_plain(**more: Any) -> None:
    import litellm

    made = litellm.image_generation(prompt=PROMPT, api_base=BASE, api_key="none", **more)
    for each in made.data:
        shown(each["b64_json"])


def litellm_refusal() -> None:
    import litellm

    try:
        litellm.image_generation(prompt=FORBIDDEN, model="openai/signpost-pixart", api_base=BASE, api_key="none")
    except litellm.ContentPolicyViolationError:
        return
    raise AssertionError("not refused")


def langchain_wrapper() -> None:
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

    shown(DallEAPIWrapper(api_key="none", base_url=BASE).run(PROMPT))


def llamaindex_tool(*, download: bool) -> None:
    import tempfile

    from llama_index.tools.openai.image_generation.base import OpenAIImageGenerationToolSpec

    with tempfile.TemporaryDirectory() as folder:
        tool = OpenAIImageGenerationToolSpec(api_key="none", cache_dir=folder)
        tool.client.base_url = BASE  # what `OPENAI_BASE_URL` does
        made = tool.image_generation(PROMPT, download=download)
        if download:
            Image.open(made[0]).load()
        else:
            shown(made)


MORE = {"quality": "high", "background": "transparent", "user": "me", "moderation": "low"}
LLAMA = "llama-index-tools-openai-image-generation"
FORBIDDEN = "a child in sexual poses, nude"
CASES: tuple[tuple[str, str, Case], ...] = (
    ("openai", "images.generate", openai_plain),
    ("openai", "..., async, three at once", openai_async),
    ("openai", "..., `n=4`, `quality`, `background`, webp", lambda: openai_plain(n=4, output_format="webp", **MORE)),
    ("openai", '..., `model="gpt-image-1"`', lambda: openai_plain(model="gpt-image-1")),
    ("openai", '..., `size="1024x1024"`', lambda: openai_plain(size="1024x1024")),
    ("openai", '..., `response_format="url"`', lambda: openai_plain(response_format="url")),
    ("openai", "..., `stream=True`", openai_stream),
    ("openai", "..., `stream=True, partial_images=2`", lambda: list_stream(2)),
    ("openai", "images.edit", openai_edit),
    ("openai", "models.list, models.retrieve", openai_models),
    ("openai", "moderations.create", openai_moderations),
    ("openai", "responses.create with `image_generation`", openai_responses),
    ("litellm", "image_generation", lambda: litellm_plain(model="openai/signpost-pixart")),
    ("litellm", '..., `size="1024x1024"`, alias', lambda: litellm_plain(model="openai/gpt-image-1", size="1024x1024")),
    ("litellm", "a refusal is `ContentPolicyViolationError`", litellm_refusal),
    ("langchain-community", "DallEAPIWrapper().run, its defaults", langchain_wrapper),
    (LLAMA, "image_generation, its defaults", lambda: llamaindex_tool(download=False)),
    (LLAMA, "..., `download=True`", lambda: llamaindex_tool(download=True)),
)


def list_stream(partial_images: int) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=BASE, api_key="none")
    shown(list(client.images.generate(prompt=PROMPT, stream=True, partial_images=partial_images))[-1].b64_json)


def why(error: Exception) -> str:
    """What the client told of an error, in one line."""
    body = getattr(error, "body", None)
    return str(body["message"] if isinstance(body, dict) and "message" in body else error).splitlines()[0]


for client, call, work in CASES:
    told = None
    try:
        work()
    except Exception as error:
        told = why(error)
    print(json.dumps({"client": f"{client} {version(client)}", "call": call, "error": told}), flush=True)
