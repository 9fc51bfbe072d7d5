"""The law of the judged text on the families that people serve today, up to the first call of the denoiser.

Their templates, quoted parts and rewriters are diffusers' own; nothing here says what they are.

| law | mutation that turned it red |
|---|---|
| no family is refused its own prompts | wrappings never learned; cut texts are refused |
| words that a pipeline adds are found in its template | a template's middle may be anything |
| what a pipeline rewrites is told in order | texts that were decoded count as judged |
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import torch

from steering.attach import replaced
from steering.errors import UnjudgedText
from steering.run.judged_text import Asked, Judged, Wrappings, judged_call
from tests.steering.family_cases import GREEN, PINK, RED
from tests.steering.run.test_judged_text import HOSTILE
from tests.steering.today import zoo

SHORT = ("kolors", "ideogram4")  # raise for a prompt that is longer than they have room for
REWRITERS = {"longcat": "enable_prompt_rewrite", "ernie-image": "use_pe"}
every = pytest.mark.parametrize("name", zoo.NAMES)


class Enough(Exception):
    """The denoiser was asked."""


@cache
def built(name: str) -> tuple[Any, Wrappings]:
    return zoo.build(name), Wrappings()


def read(
    name: str, prompts: Sequence[str], judged: Sequence[str], on_rewritten: Any = None, **more: Any
) -> Sequence[str]:
    """The keys for which wrappings are known once the pipeline has read the prompts."""
    pipe, known = built(name)
    taken = inspect.signature(pipe.__call__).parameters

    def ask(texts: Sequence[str]) -> None:
        call = zoo.CALL[name] | more | {"prompt": list(texts)}
        if "generator" in taken:
            call["generator"] = torch.Generator("cpu").manual_seed(0)
        with suppress(Enough), replaced(getattr(pipe, "transformer", None) or pipe.unet, "forward", _enough):
            pipe(**call)
            raise AssertionError("the denoiser was not called")

    how = Asked(str(more), lambda prompt, _: ask([prompt]))
    judged_call([pipe], Judged(frozenset(judged), on_rewritten), how, known, lambda: ask(prompts))
    return sorted(map(str, known.learned))


def _enough(*_: Any, **__: Any) -> None:
    raise Enough


@every
def test_no_family_is_refused_its_own_prompts(name: str) -> None:
    harder = [] if name in SHORT else [[HOSTILE], [" ".join([GREEN] * 20)]]
    for prompts in [*harder, [RED, PINK]]:
        assert len(read(name, prompts, prompts)) <= 1


@every
def test_words_that_a_pipeline_adds_are_found_in_its_template(name: str) -> None:
    read(name, [RED], [RED])
    with pytest.raises(UnjudgedText) as found:
        read(name, ["a red gun star"], [RED])
    assert "gun" in found.value.text


@pytest.mark.parametrize("name", REWRITERS)
def test_what_a_pipeline_rewrites_is_told_in_order_and_is_an_error_when_nobody_listens(name: str) -> None:
    told: list[Sequence[str]] = []
    torch.manual_seed(0)
    read(name, [RED, GREEN], [RED, GREEN], told.append, **{REWRITERS[name]: True})
    assert [len(texts) for texts in told] == [2]
    with pytest.raises(UnjudgedText, match="switch its rewriter off") as found:
        read(name, [RED, GREEN], [RED, GREEN], **{REWRITERS[name]: True})
    assert found.value.rewritten
    read(name, [RED, GREEN], [RED, GREEN], **{REWRITERS[name]: False})


def test_a_template_of_the_rewriter_is_learned_although_the_same_call_without_it_was_before() -> None:
    from steering import Host

    host = Host(zoo.build("longcat"), self_test=False)
    call = zoo.CALL["longcat"] | {"output_type": "latent"}
    told: list[Sequence[str]] = []
    for on in (False, True, True):
        host.generate(
            [RED, GREEN],
            plans=[None] * 2,
            seeds=[1, 2],
            on_rewritten=told.append,
            **call | {"enable_prompt_rewrite": on},
        )
    assert [len(texts) for texts in told] == [2, 2]


def test_the_switches_are_arguments_of_diffusers_pipelines() -> None:
    import diffusers

    from steering.run.judged_text import rewriter_switches

    names = ("ErnieImagePipeline", "LongCatImagePipeline", "LTX2Pipeline", "Ideogram4Pipeline", "Flux2Pipeline")
    calls: list[Callable[..., Any]] = [getattr(diffusers, n).__call__ for n in names]
    switches = [rewriter_switches(inspect.signature(call).parameters) for call in calls]
    assert [len(found) for found in switches] == [1] * len(names)
    assert not any(value for found in switches for value in found.values())
