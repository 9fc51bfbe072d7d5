"""What is measured at sites of text and picture in one sequence: captured calls, blends, contributions.

| law | mutation that turned it red |
|---|---|
| a replayed call is the captured one; a blend at 1 is the donor | rows of lists left as they are; no room for donors |
| what tokens write is measured at every site | queries of text left among those of the picture |
"""

from __future__ import annotations

import pytest
import torch

from tests.steering.family_cases import GREEN, RED, Asked, apart
from tests.steering.today import zoo

NAMES = ("z-image", "qwen-image-21", "qwen-image", "flux2")
OTHER = "a green star"


@pytest.fixture(scope="module", params=NAMES)
def it(request: pytest.FixtureRequest) -> Asked:
    name = request.param
    return Asked(name, zoo.build(name), call=zoo.CALL[name], self_test=False)


def test_a_replayed_call_is_the_captured_one_and_a_blend_at_one_is_the_donors(it: Asked) -> None:
    taken = it.host.capture(RED, seed=7, at=(0.0, 0.5), **it.options(1))
    for call in taken:
        assert apart(it.host.replay(call, [None])[0], call.prediction) < it.tolerance
        plain, steered = it.host.replay(call, [None, it.swap(GREEN)])
        blended = it.host.blend(call, GREEN, torch.ones(1, len(it.host.units))).predictions[0]
        assert apart(blended, steered) < it.tolerance
        assert apart(blended, plain) > it.different / 10


def test_what_the_prompts_own_words_write_is_measured_at_every_site(it: Asked) -> None:
    (call,) = it.host.capture(RED, seed=7, at=(0.5,), **it.options(1))
    written = it.host.contributions(call, OTHER)
    assert written.shape == (len(it.names),)
    into_picture = torch.tensor([site.kind != "text" for site in it.host.sites])
    assert (written[into_picture] > 0).all()
    assert written[~into_picture].isnan().all()
