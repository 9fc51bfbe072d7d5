"""Asks hosts of every family alike: steered, and the stock pipeline in the same execution shape beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from tests.steering import zoo

RED, GREEN, PINK = "a red star", "green ring, sign 42", 'pink "moon"'


class Asked:
    """A tiny host of a family, on `pipe` where a test brings its own. `tolerance`: what rounding may move; pictures of
    different prompts lie a hundred times further apart."""

    tolerance = 1e-4
    different = 100 * tolerance

    def __init__(
        self, name: str, pipe: Any = None, *, self_test: bool = True, call: Mapping[str, Any] | None = None
    ) -> None:
        from steering import Host

        self.name = name
        self.call = zoo.CALL[name] if call is None else call
        self.pipe = zoo.build(name) if pipe is None else pipe
        self.host = Host(self.pipe, name=name, self_test=self_test)
        self.names = tuple(s.name for s in self.host.sites)
        self.joint, self.pooled = self.host.joint, bool(self.host.global_sites)
        taken = set(_arguments(self.pipe))
        self.guided = "negative_prompt" in taken
        self.output = "latent" if hasattr(self.pipe, "vae") else "pt"

    def options(self, rows: int, **more: Any) -> dict[str, Any]:
        """The arguments of a call for `rows` prompts."""
        guided = {"true_cfg_scale": 2.0} if "true_cfg_scale" in _arguments(self.pipe) else {}
        return {"output_type": self.output} | guided | self.call | zoo.extra(self.name, count=rows) | more

    def steered(self, prompts: Sequence[str], plans: Sequence[Any], seed: int = 7, **more: Any) -> torch.Tensor:
        """What `Host.generate` gives for prompts of one seed."""
        return torch.as_tensor(self.output_of(prompts, plans, seed, **more).images)

    def output_of(self, prompts: Sequence[str], plans: Sequence[Any], seed: int = 7, **more: Any) -> Any:
        """The whole output of `Host.generate`."""
        seeds = more.pop("seeds", [seed] * len(prompts))
        return self.host.generate(prompts, plans=plans, seeds=seeds, **self.options(len(prompts), **more))

    def stock(self, prompts: Sequence[str], seed: int = 7, **more: Any) -> torch.Tensor:
        """What the pipeline itself gives, called as its documentation says."""
        count = more.get("num_images_per_prompt", 1)
        seeds = more.pop("seeds", [seed] * len(prompts))
        generators = [torch.Generator("cpu").manual_seed(s + k) for s in seeds for k in range(count)]
        call = {"prompt": list(prompts), "generator": generators, **self.options(len(prompts), **more)}
        return torch.as_tensor(getattr(self.pipe(**call), self.host.family.result))

    def beside(self, prompts: Sequence[str], *donors: str) -> list[str]:
        """The prompts of a stock call in the shape of a steered one: on joint hosts each donor is a row of its own."""
        return [*prompts, *(donors if self.joint else ())]

    def swap(self, donor: Any, sites: Any = None, **more: Any) -> Any:
        """A plan with one swap, at all sites unless told which, the donor's pooled text with it."""
        from steering import Plan, Swap

        how = {"source": "twin"} if self.joint else {}
        return Plan(Swap(donor, sites=sites or self.names, **({"pooled": "donor"} | how | more)))


def apart(a: Any, b: Any) -> float:
    """The greatest difference of two pictures."""
    return float((torch.as_tensor(a) - torch.as_tensor(b)).abs().max())


@cache
def asked(name: str) -> Asked:
    """The tiny host of a family, built once."""
    return Asked(name)


def _arguments(pipe: Any) -> Any:
    import inspect

    return inspect.signature(pipe.__call__).parameters
