"""Errors as callers meet them, on a U-Net with pooled text and a joint host; those of PixArt stand in `test_host`.

| law | mutation that turned it red |
|---|---|
| two hosts that share a module | holders not compared |
| an unknown site names the nearest | the first site named |
| a donor of another width | widths not compared |
"""

from __future__ import annotations

import threading

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, RED, asked

hosts = pytest.mark.parametrize("name", ["sdxl", "flux-dev"])


@hosts
def test_two_hosts_that_share_a_module_are_refused(name: str) -> None:
    from steering import Host, HostShared

    it = asked(name)
    with pytest.raises(HostShared, match=f"belongs to host `{name}`.*use that host, or close it"):
        Host(it.pipe)
    other = zoo.build(name, seed=9)
    shared = "unet" if hasattr(other, "unet") else "transformer"
    other.register_modules(**{shared: getattr(it.pipe, shared)})
    with pytest.raises(HostShared, match=f"`{shared}` belongs to host `{name}`"):
        Host(other)


@hosts
def test_an_unknown_site_names_the_nearest(name: str) -> None:
    from steering import UnknownSite

    it = asked(name)
    wrong = it.names[2].replace("attn", "atn").replace("attentions", "attention")
    with pytest.raises(UnknownSite, match=rf"unknown site `{wrong}` for host `{name}`; nearest: `{it.names[2]}`"):
        it.steered([RED], [it.swap(GREEN, [wrong])])


@hosts
def test_a_donor_of_another_width_is_refused_with_both(name: str) -> None:
    from steering import BadDonor, Donor

    it = asked(name)
    width = {"sdxl": 32, "flux-dev": 16}[name]
    donor = Donor(torch.ones(24, width + 1), None, torch.ones(32))
    says = f"donor text must be {width} wide like the host's encoded text, got {width + 1}"
    with pytest.raises(BadDonor, match=says):
        it.steered([RED], [it.swap(donor)])
    assert torch.equal(it.steered([RED], [None]), it.stock([RED]))


@hosts
def test_a_donor_that_is_not_finite_is_never_made(name: str) -> None:
    from steering import BadDonor, Donor

    text = torch.ones(24, 16)
    text[3, 5] = torch.nan
    with pytest.raises(BadDonor, match="donor text must be finite, got 1 values of nan or inf"):
        Donor(text)
    with pytest.raises(BadDonor, match="donor pooled must be finite, got 2 values"):
        Donor(torch.ones(24, 16), None, torch.tensor([1.0, torch.inf, -torch.inf]))


@pytest.mark.parametrize("name", ["sdxl", "flux-dev"])
def test_a_donor_without_pooled_text_is_refused_where_it_is_wanted(name: str) -> None:
    from steering import BadDonor, Donor

    it = asked(name)
    width = 16 if name == "flux-dev" else 32
    with pytest.raises(BadDonor, match=r"pooled text; give `Donor\(text, mask, pooled\)`"):
        it.steered([RED], [it.swap(Donor(torch.ones(24, width)))])


@hosts
def test_a_plan_made_for_another_host_is_refused(name: str) -> None:
    from steering import BadPlan, Plan

    it = asked(name)
    act = it.swap(GREEN).interventions[0]
    with pytest.raises(BadPlan, match=f"was made for another host than `{name}`; use a pack for this one"):
        it.steered([RED], [Plan(act, made_for="0" * 64)])
    it.steered([RED], [Plan(act, made_for=it.host.fingerprint.digest)])


@hosts
def test_an_operator_of_another_width_is_refused_with_both(name: str) -> None:
    from steering import BadPlan, Edit, Operator, Plan

    it = asked(name)
    q = torch.eye(5)[:1].contiguous()
    with pytest.raises(BadPlan, match=rf"operator must be \d+ wide for the text of site `{it.names[0]}`, got 5"):
        it.steered([RED], [Plan(Edit(it.names[:1], Operator(q, q, q * 0)))])


@hosts
def test_a_second_call_waits_for_its_turn_or_its_timeout(name: str) -> None:
    from steering import HostBusy

    it = asked(name)
    failed: list[BaseException] = []
    inside = threading.Event()

    def call() -> None:
        try:
            it.steered([RED], [None], timeout=0.05)
        except HostBusy as error:
            failed.append(error)

    def busy(i: int, n: int) -> None:
        if not inside.is_set():
            inside.set()
            other = threading.Thread(target=call)
            other.start()
            other.join(10)

    it.steered([RED], [it.swap(GREEN)], on_step=busy)
    assert str(failed[0]) == f"host `{name}` is in use by another call, waited 0.05 s"
    it.steered([RED], [None], timeout=0.05)
