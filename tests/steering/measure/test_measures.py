"""What localization measures inside a forward pass: blends of two texts, slopes, and what tokens write.

| law | mutation that turned it red |
|---|---|
| a blend of zeros and ones is the plan's swap | shares of sites in reverse order; pooled text left at the own |
| slopes are the differences of the predictions | slopes of sites in reverse order |
| slopes along the path add up to the whole change | slopes halved |
| writes without a map equal writes from the map | bias left in; gate left out; text's own queries counted |
| positions are where the encoder's tokens stand | each encoder's tokens taken to stand first |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

OWN, DONOR = 'sign "HI"', 'sign "NOPE"'  # short: tiny hosts read 24 tokens
_FAMILIES = ("sdxl", "if1", "sd3", "pixart-alpha", "flux-dev", "sana")


@pytest.fixture(scope="module", params=_FAMILIES)
def case(request: pytest.FixtureRequest) -> Any:
    """A host of the family, and a call in the middle of a run."""
    from steering import Host
    from tests.steering import zoo

    given = zoo.CALL[request.param] | zoo.extra(request.param)
    own = {k: v for k, v in given.items() if k in ("height", "width", "num_inference_steps", "guidance_scale")}
    more = {k: v for k, v in given.items() if k not in own}
    host = Host(zoo.build(request.param), defaults=own | {"call": more}, name=request.param, self_test=False)
    return host, host.capture(OWN, seed=3, at=(0.4,))[0]


def shares(host: Any, *rows: Any) -> torch.Tensor:
    """One row a set of units: 1 where the unit is in it."""
    return torch.tensor([[1.0 if u in row else 0.0 for u in host.units] for row in rows])


def test_a_blend_of_zeros_and_ones_is_the_swap(case: Any) -> None:
    from steering import Plan, Swap

    host, call = case
    sites = tuple(s.name for s in host.sites)
    source = host.usual_source
    got = host.blend(call, DONOR, shares(host, (), sites[1:2], sites, host.units)).predictions
    plans = [
        None,
        *(Plan(Swap(DONOR, sites=s, pooled="keep", source=source)) for s in (sites[1:2], sites)),
        Plan(Swap(DONOR, sites=sites, pooled="donor", source=source)),
    ]
    want = host.replay(call, plans)
    assert float((got - want).abs().max()) < 1e-5
    assert float((want[2] - want[0]).abs().max()) > 1e-3
    if host.global_sites:
        assert float((want[3] - want[2]).abs().max()) > 1e-3


def test_slopes_are_differences_of_predictions(case: Any) -> None:
    host, call = case
    ends = host.blend(call, DONOR, shares(host, (), host.units)).predictions
    direction = (ends[1] - ends[0]) / (ends[1] - ends[0]).square().sum()
    middle = torch.full((1, len(host.units)), 0.4)
    got = host.blend(call, DONOR, middle, direction=direction)
    for unit in (0, len(host.units) - 1):
        nudged = middle.repeat(2, 1)
        nudged[0, unit] += 0.01
        nudged[1, unit] -= 0.01
        a, b = host.blend(call, DONOR, nudged).predictions
        assert float(((a - b) * direction).sum() / 0.02) == pytest.approx(float(got.slopes[0, unit]), abs=2e-3)
    assert got.rows == 3 * (1 + host.joint)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in host._prepared[0].denoiser.modules())


def test_slopes_along_the_path_add_up_to_the_whole_change(case: Any) -> None:
    host, call = case
    ends = host.blend(call, DONOR, shares(host, (), host.units)).predictions
    direction = (ends[1] - ends[0]) / (ends[1] - ends[0]).square().sum()
    nodes, weights = (
        torch.tensor([0.04691, 0.23077, 0.5, 0.76923, 0.95309]),
        [0.11846, 0.23931, 0.28444, 0.23931, 0.11846],
    )
    slopes = host.blend(call, DONOR, nodes[:, None].repeat(1, len(host.units)), direction=direction).slopes
    total = sum(w * float(row.sum()) for w, row in zip(weights, slopes, strict=True))
    # where a mask is blended, weights of tokens that only one text has start with a steep slope
    assert total == pytest.approx(1.0, abs=0.1 if host.name == "sana" else 0.02)


class _Maps(TorchFunctionMode):
    """Attention computed through its map; keeps the map and values of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | named
            logits = given["query"] @ given["key"].transpose(-1, -2) / given["query"].shape[-1] ** 0.5
            if given.get("attn_mask") is not None:
                logits = logits + given["attn_mask"]
            self.kept.append((logits.softmax(-1), given["value"]))
        return func(*args, **named)


def test_what_tokens_write_equals_what_the_map_says(case: Any) -> None:
    """The naive way, for the middle site: map, times values, times weights, times gate, of the tokens alone."""
    from steering.measure.tokens import differing_tokens

    host, call = case
    prepared = host._prepared[0]
    tokens = differing_tokens(prepared, call, DONOR)
    for index in {0, len(prepared.sites) - 1}:
        placed = prepared.sites[index]
        rule, kept, gates = placed.rule, [], []
        mode = _Maps()
        handles = [
            placed.module.register_forward_pre_hook(lambda *_, mode=mode: mode.kept.clear()),
            placed.module.register_forward_hook(lambda *_, mode=mode, kept=kept: kept.extend(mode.kept[:1])),
        ]
        if rule.gate:
            norm = placed.block.get_submodule(rule.gate)
            handles.append(norm.register_forward_hook(lambda m, a, out, gates=gates: gates.append(out[1])))
        with torch.no_grad(), mode:
            prepared.denoiser(**call.kwargs)
        for handle in handles:
            handle.remove()
        ((weights, values),) = kept
        length = int(call.text.shape[1])
        picture = weights.shape[2]
        first = weights.shape[3] - length if host.name.startswith("sd3") else 0
        if placed.site.kind == "joint":
            start = 0 if first else length
            weights = weights[:, :, start : start + picture - length]
        columns = torch.tensor(tokens) + first
        part = (weights[..., columns] @ values[:, :, columns]).transpose(1, 2).flatten(2)[0]
        owner = placed.block if rule.out_of_block else placed.module
        matrix = owner.get_submodule(rule.out).weight[:, : part.shape[-1]].detach()
        out = part @ matrix.T / getattr(placed.module, "rescale_output_factor", 1.0)
        out = out * gates[0].reshape(1, -1) if gates else out
        naive = float(out.double().norm(dim=-1).mean())
        assert float(host.contributions(call, DONOR)[index]) == pytest.approx(naive, rel=1e-4)
        assert naive > 1e-3


def test_positions_are_where_the_encoders_own_tokens_stand(case: Any) -> None:
    """Texts of the encoder, shifted by a longer beginning, move the positions with them."""
    from steering.measure.tokens import differing_tokens

    host, call = case
    prepared = host._prepared[0]
    short = differing_tokens(prepared, call, DONOR)
    (later,) = host.capture("zz " + OWN, seed=3, at=(0.4,))
    longer = differing_tokens(prepared, later, "zz " + DONOR)
    spans = 2 if host.name == "sd3" else 1  # CLIP's text, then T5's
    assert len(short) == len(longer)
    assert len(short) == 2 * spans
    moved = {b - a for a, b in zip(short, longer, strict=True)}
    assert moved <= {2, 3}  # "zz" is two letters; byte tokenizers count the space as well
    with pytest.raises(ValueError, match="words that its donor does not"):
        differing_tokens(prepared, call, OWN)


@pytest.fixture(autouse=True)
def _no_grad_left() -> Iterator[None]:
    yield
    assert torch.is_grad_enabled()
