"""Prompt-to-Prompt on tiny real pipelines: laws of attention replacement.

| break | red |
|---|---|
| replace nothing | the target attends as its source |
| replace values as well | an edit stays an edit |
| leave the hooks on, or off when `tau` ends late | tau 0, nothing is left |
| exchange rows of the other pair, or rows without the prompt | the target attends as its source |
| leave PixArt's mask alone | a target whose text is shorter |
| edit words of other lengths, or take the sources' pictures for the edits | the table of edits |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import Judges
from evaluation.p2p import _attending, prompt_to_prompt
from evaluation.tables.editing import edit_cases, edit_rows
from palimpsest.cli.shared.in_process import LocalAnswerer
from reference.folders import packs_of
from steering import BadPlan, Host, find_pack
from steering.attach import after, before
from tests.steering.zoo import CALL, build

SOURCES, TARGETS, SEEDS = ("a red star", "ring"), ("a red moon", "fish"), (3, 4)


@pytest.fixture(scope="module", params=["sdxl", "pixart-sigma", "sd3", "flux-dev"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    made = Host(build(request.param), defaults={"call": {}}, self_test=False, name=request.param)
    yield made
    made.close()


def call(host: Host) -> dict[str, Any]:
    return CALL[host.name] | {"output_type": "np"}


def stock(host: Host, prompts: Any, seeds: Any) -> np.ndarray[Any, Any]:
    return np.asarray(host.generate(prompts, plans=[None] * len(prompts), seeds=seeds, **call(host)).images)


def test_the_same_prompt_twice_is_the_plain_picture(host: Host) -> None:
    edited = prompt_to_prompt(host, SOURCES, SOURCES, SEEDS, **call(host))
    plain = stock(host, [*SOURCES, *SOURCES], [*SEEDS, *SEEDS])
    assert np.abs(np.asarray(edited.sources + edited.targets) - plain).max() < 1e-5
    assert np.abs(plain[0] - plain[1]).max() > 1e-2


def test_with_tau_0_it_is_the_plain_target_and_sources_are_always_plain(host: Host) -> None:
    plain = stock(host, [*SOURCES, *TARGETS], [*SEEDS, *SEEDS])
    none = prompt_to_prompt(host, SOURCES, TARGETS, SEEDS, tau=0.0, own=0.0, **call(host))
    assert (np.asarray(none.sources + none.targets) == plain).all()
    half, whole = (
        prompt_to_prompt(host, SOURCES, TARGETS, SEEDS, tau=tau, own=0.0, **call(host)) for tau in (0.5, 1.0)
    )
    for edited in (half, whole):
        assert (np.asarray(edited.sources) == plain[:2]).all()
        assert np.abs(np.asarray(edited.targets) - plain[2:]).max() > 1e-4  # an edit that does something
        assert np.abs(np.asarray(edited.targets) - plain[:2]).max() > 1e-4  # and stays an edit
    assert np.abs(np.asarray(half.targets) - np.asarray(whole.targets)).max() > 1e-5
    assert (stock(host, [*SOURCES, *TARGETS], [*SEEDS, *SEEDS]) == plain).all()  # nothing is left


def test_the_target_attends_as_its_source_in_the_first_steps_only(host: Host) -> None:
    shorter, steps = ("a red sea", "fi"), int(call(host)["num_inference_steps"])
    site, seen = host.prepared.sites[-1], list[dict[str, tuple[float, float]]]()

    def look(name: str, rows: torch.Tensor | None) -> None:
        if rows is not None:
            cond = rows[-4:].float()  # two sources, two targets
            seen[-1][name] = (float((cond[2:] - cond[:2]).abs().max()), float((cond[0] - cond[1]).abs().max()))

    def begin(mask: torch.Tensor | None) -> None:
        seen.append({})
        look("mask", mask)

    with (
        _attending(host, 2, 1 / steps, 0.0) as step,  # the looks come after it, and see what it did
        before(site.module, lambda module, args, kwargs: begin(kwargs.get("attention_mask"))),
        after(site.module.get_submodule(site.rule.keys[0]), lambda module, args, output: look("keys", output)),
        after(site.module.get_submodule(site.rule.keys[1]), lambda module, args, output: look("values", output)),
    ):
        host.generate([*SOURCES, *shorter], plans=[None] * 4, seeds=[*SEEDS, *SEEDS], on_step=step, **call(host))
    assert len(seen) == steps
    assert ("mask" in seen[0]) == (host.name == "pixart-sigma")
    for name, (source_to_target, pair_to_pair) in seen[0].items():
        assert pair_to_pair > 0.0, name
        assert (source_to_target == 0.0) == (name != "values"), name
    assert all(apart > 0.0 for later in seen[1:] for apart, _ in later.values())


def test_an_error_in_a_call_leaves_no_hook(host: Host) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in host.denoiser.modules())

    before_it = hooks()
    with _attending(host, 2, 0.8, 0.4):
        assert hooks() > before_it
    with pytest.raises(BadPlan, match="no_such_argument"):  # raised by the call, with the hooks on
        prompt_to_prompt(host, SOURCES, TARGETS, SEEDS, no_such_argument=1, **call(host))
    assert hooks() == before_it


def test_what_cannot_be_edited_is_refused(host: Host) -> None:
    with pytest.raises(ValueError, match="equally many, got 2, 1 and 2"):
        prompt_to_prompt(host, SOURCES, TARGETS[:1], SEEDS)
    with pytest.raises(ValueError, match=r"tau must be a share of the steps, 0 to 1, got 1\.5"):
        prompt_to_prompt(host, SOURCES, TARGETS, SEEDS, tau=1.5)


def test_the_table_of_edits_has_it_for_words_of_the_same_length(unet_service: LocalAnswerer, judges: Judges) -> None:
    host = unet_service.host
    pack = find_pack("lettering", host, [packs_of("signpost-sdxl")])
    asked: dict[str, Any] = {"count": 8, "start": 1, "methods": ("Prompt-to-Prompt", "prompt swapped")}
    rows = edit_rows(host, pack, judges, made="generated", **asked)
    as_long = [c for c in edit_cases(8, seed=0) if len(c.word) == len(c.scene.lettering)]
    replaced, swapped = rows["Prompt-to-Prompt"], rows["prompt swapped"]
    assert 0 < replaced["old word gone"]["n"] <= len(as_long) < swapped["old word gone"]["n"]
    assert replaced["old word gone"]["share"] == 1.0
    assert replaced["new word exact, reader"]["hits"] > 0
    assert replaced["SSIM outside"]["mean"] > 0.8
    given = edit_rows(host, pack, judges, made="given", **(asked | {"count": 1, "methods": ("Prompt-to-Prompt",)}))
    assert given["Prompt-to-Prompt"] == {"n": 0}
