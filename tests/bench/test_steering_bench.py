"""What steering costs beside the stock pipeline and beside peers, eager and compiled: ratios of one run.

Run by `make bench`; the exact counts in it are also in `make test` (`tests/steering/test_counts.py`). Results stay in
`tests/bench/results`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.bench.steering_cases import Case, Graphs, Subject, cases, signpost, tiny
from tests.bench.steering_report import Line, measure, table, write
from tests.bench.steering_stats import hardware

TINY = ("pixart-alpha", "sdxl", "sd3", "flux-dev")
ROUNDS, SIGNPOST_ROUNDS, SIGNPOST_STEPS = 31, 15, 4
# cases whose shape would cost one more graph of minutes and says nothing that an eager one does not
EAGER_ONLY = ("one plan, pinned twin", "one plan, canonical, new donor", "16 plans, twin")

ABOUT = """# What steering costs

{cpu}, {threads} thread; torch {torch}, diffusers {diffusers}, Python {python}; random weights on the tiny hosts, the
shipped weights on `signpost-pixart`; float32, latents out (no decoder in the times), seeds 0 to 15, one seed a prompt.
Compiled: the whole denoiser, `fullgraph`, static shapes, {backend}. `wall` and `CPU` (processor time of the one thread,
which a busy machine disturbs less) are multiples of the stock pipeline's call in the same round: medians over
interleaved rounds (n = {rounds}; {signpost} on `signpost-pixart`), bootstrap interval of 95 %. `stock again` is the
control: it shows what this machine makes of no difference at all. `texts`: texts that the text encoder read; `graphs`:
traced at a case's first call, in this order; `recompiles`: in all later ones, with other plans each time.

One plan is a swap at every second site, pooled text included. 16 plans: no two alike in donor and sites, some in window
and strength. `SLD` is safe latent diffusion with its strongest settings, `SAFREE-style` projects trigger tokens and
computes both texts; FLUX is distilled and has no uncond rows, so neither applies to it. Tiny hosts have blocks so small
that Python around them is most of the time, and text encoders that are large beside them; there a ratio is an upper
bound for a real model's."""


def inductor() -> tuple[Callable[[], Graphs], str]:
    """A maker of backends, and which it is: inductor needs a compiler of C++."""
    if any(map(shutil.which, ("g++", "clang++", "c++"))):
        from torch._inductor.compile_fx import compile_fx

        return lambda: Graphs(compile_fx), "by inductor"
    return Graphs, "captured only (there is no compiler of C++ here), so that graphs are counted and kernels are eager"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    """The lines of all hosts; written down at the end."""
    found: list[Line] = []
    yield found
    if not found:
        return
    about: dict[str, Any] = hardware() | {
        "backend": inductor()[1],
        "rounds": ROUNDS,
        "signpost_rounds": SIGNPOST_ROUNDS,
        "seeds": list(range(16)),
        "dtype": "float32",
    }
    text = ABOUT.format(**about | {"signpost": SIGNPOST_ROUNDS})
    write("steering", about, found, text)
    print(f"\n{text}\n\n{table(found)}")


def chosen(subject: Subject, compiled: bool, peers_of_many: bool) -> list[Case]:
    some = cases(subject, peers_of_many=peers_of_many)
    return [c for c in some if not (compiled and c.name in EAGER_ONLY)]


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", [*TINY, "signpost-pixart"])
def test_steering_beside_stock_and_peers(lines: list[Line], name: str, mode: str) -> None:
    torch._dynamo.reset()
    makes = inductor()[0] if mode == "compiled" else None
    small = name in TINY
    subject = tiny(name, compiled=makes) if small else signpost(steps=SIGNPOST_STEPS, compiled=makes)
    some = chosen(subject, makes is not None, small and makes is None)
    found = measure(subject, some, mode=mode, rounds=ROUNDS if small else SIGNPOST_ROUNDS)
    subject.host.close()
    lines += found
    print(f"\n{table(found)}")
    assert not any(line.recompiles for line in found)
    rows = {line.case: line.count.rows for line in found}
    assert rows["attached, no plan"] == rows["stock"]
