"""What steering costs beside the stock pipeline and beside peers, eager and compiled: ratios of one run.

Run by `make bench`, which also tries the GPU runner and the shadow text stream on tiny hosts; the exact counts are in
`make test` (`tests/steering/run/test_counts.py`). Results stay in `tests/bench/results`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.bench import gpu_steering, steering_shadow
from tests.bench.steering_cases import MANY, Case, Graphs, Subject, cases, signpost, tiny
from tests.bench.steering_report import Line, measure, table, write
from tests.bench.steering_stats import hardware

TINY = ("pixart-alpha", "sdxl", "sd3", "flux-dev")
ROUNDS, SIGNPOST_STEPS = 15, 2
# on one core a graph takes inductor from half a minute to minutes: it compiles one cross-attention host, one joint host
# and the shipped model; elsewhere graphs are captured, which counts them
BY_INDUCTOR = ("pixart-alpha", "flux-dev", "signpost-pixart")
# cases whose shape would cost one more graph and says nothing that an eager one does not
EAGER_ONLY = ("one plan, pinned twin", "one plan, canonical, new donor", "16 plans, twin")

ABOUT = """# What steering costs

{cpu}, {threads} thread; torch {torch}, diffusers {diffusers}, Python {python}; random weights on the tiny hosts, the
shipped weights on `signpost-pixart`; float32, latents out (no decoder in the times), seeds 0 to 15, one seed a prompt.
`inductor` compiles the whole denoiser, `fullgraph`, static shapes; `captured` traces it likewise, counts the graphs and
runs them with eager kernels. `wall` and `CPU` (processor time of the thread, which a busy machine disturbs less) are
multiples of the stock pipeline's call in the same round: medians over interleaved rounds (n = {rounds} unless a line of
the JSON says otherwise), with a bootstrap interval of 95 %. `stock again` is the control: it shows what this machine
makes of no difference at all. `texts`: texts that the text encoder read; `graphs`: traced at a case's first call, in
this order; `recompiles`: in all later ones, with other plans each time.

One plan is a swap at every second site, pooled text included. 16 plans: no two alike in donor and sites, some in window
and strength. `SLD` is safe latent diffusion with its strongest settings, `SAFREE-style` projects trigger tokens and
computes both texts; FLUX is distilled and has no uncond rows, so neither applies to it. Tiny hosts have blocks so small
that Python around them is most of the time, and text encoders that are large beside them; there a ratio is an upper
bound for a real model's."""


def backend(name: str, mode: str) -> tuple[Callable[[], Graphs] | None, str]:
    """A maker of backends for a host, and what it is: inductor needs a compiler of C++."""
    if mode == "eager":
        return None, "eager"
    if name in BY_INDUCTOR and any(map(shutil.which, ("g++", "clang++", "c++"))):
        from torch._inductor.compile_fx import compile_fx

        return lambda: Graphs(compile_fx), "inductor"
    return Graphs, "captured"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    """The lines of all hosts, in the order in which they were measured."""
    return []


def keep(lines: list[Line]) -> str:
    """Writes down what is known so far; gives the text above the table."""
    about = hardware() | {"rounds": ROUNDS, "seeds": list(range(MANY)), "dtype": "float32"}
    text = ABOUT.format(**about)
    write("steering", about, lines, text)
    return text


def chosen(subject: Subject, kernels: str) -> list[Case]:
    """The cases of a host: all of them eagerly on a tiny one; of sixteen shipped models at once, only what is asked."""
    shipped = subject.name == "signpost-pixart"
    left = set(() if kernels == "eager" else EAGER_ONLY)
    left |= {"stock again, 16", "attached, no plan, 16", "16 plans, new donors"} if shipped else set()
    peers = ("SLD", "SAFREE") if shipped and kernels != "eager" else ()
    some = cases(subject, peers_of_many=kernels == "eager" and not shipped)
    return [c for c in some if c.name not in left and not c.name.startswith(peers)]


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", ["signpost-pixart", *TINY])
def test_steering_beside_stock_and_peers(lines: list[Line], name: str, mode: str) -> None:
    torch._dynamo.reset()
    makes, kernels = backend(name, mode)
    subject = tiny(name, compiled=makes) if name in TINY else signpost(steps=SIGNPOST_STEPS, compiled=makes)
    found = measure(subject, chosen(subject, kernels), mode=kernels, rounds=ROUNDS)
    subject.host.close()
    lines += found
    text = keep(lines)
    print(f"\n{text}\n\n{table(lines)}" if len({(i.host, i.mode) for i in lines}) == 2 * (1 + len(TINY)) else ".")
    assert not any(line.recompiles for line in found)
    rows = {line.case: line.count.rows for line in found}
    assert rows["attached, no plan"] == rows["stock"]


SHRUNKEN: dict[str, dict[str, object]] = {
    "sdxl": {
        "block_out_channels": (64, 128, 128),
        "transformer_layers_per_block": (1, 1, 1),
        "attention_head_dim": (1, 2, 2),
    },
    "sd3": {"num_layers": 2, "num_attention_heads": 2, "caption_projection_dim": 128},
    "pixart": {"num_layers": 2, "num_attention_heads": 3, "attention_head_dim": 64, "cross_attention_dim": 192},
    "flux": {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1},
    "sana": {
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 64,
        "cross_attention_dim": 128,
    },
}


@pytest.mark.parametrize("name", list(SHRUNKEN))
def test_what_the_gpu_runner_assembles_is_steered(name: str) -> None:
    """The released pipelines with their own widths of text and lengths, at a depth and width that a CPU can run."""
    subject = gpu_steering.subject_of(name, device="cpu", config=SHRUNKEN[name], height=128, width=128)
    some = ("stock", "one plan", "one plan, canonical", "one plan, twin")
    found = gpu_steering.measured(subject, some, device="cpu", rounds=2, seconds=60)
    subject.host.close()
    assert len(found) == (3 if subject.host.joint else 2)
    assert all(line["finite"] and line["n"] == 2 for line in found)


def test_the_gpu_runner_writes_what_it_measured(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    asked = ["--device", "cpu", "--tiny", "--models", "pixart", "flux", "--rounds", "3", "--out", str(out)]
    assert gpu_steering.main(asked) == 0
    models = json.loads(out.read_text())["models"]
    rows = {name: {case["case"]: case["rows"] for case in model["cases"]} for name, model in models.items()}
    assert rows["pixart"]["16 plans"] == rows["pixart"]["stock, 16"]
    assert rows["flux"]["16 plans, twin"] == 2 * rows["flux"]["stock, 16"]


def test_the_shadow_text_stream_is_the_donors_text_where_nothing_else_is_shown() -> None:
    """All sites, or the first ones in a row: the shadow's picture is the lockstep twin's. The figures stay in
    `results/shadow.md`."""
    for name in steering_shadow.HOSTS:
        found = steering_shadow.distances(name, weights=0, seed=1, pooled=True)
        assert max(found[s]["shadow - lockstep"] for s in ("all", "first half")) < 1e-4
        assert min(found[s]["effect"] for s in found) > 0.1
        assert found["second half"]["shadow - lockstep"] > 1e-4
