"""Owns what is compared: hosts, the cases on each, and their exact counts.

A *case* is one call for 1 or 16 pictures: of the stock pipeline, of the host without a plan, with one, with sixteen
different ones, or of a peer. The same cases are counted in `make test` and timed in `make bench`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from evaluation.tables.peers import Safree, Sld, third_branch
from steering import Host, Plan, Swap, Window
from steering.attach import before, watched
from steering.families.description import Family
from steering.families.table import family_of
from tests.steering import zoo

__all__ = ["AVOID", "MANY", "Case", "Count", "Graphs", "Subject", "cases", "counted", "signpost", "tiny"]

MANY = 16
AVOID = ("blood", "a red sign", "gun")  # what the peers steer away from; at random weights any will do
_SIGNPOST = Path(__file__).resolve().parents[2] / "reference" / "models" / "signpost-pixart"


@dataclass(frozen=True, slots=True)
class Count:
    """What one call did: forwards of the denoiser, rows in all of them, and texts that the (first) encoder read."""

    forwards: int
    rows: int
    texts: int


class Graphs:
    """A backend of `torch.compile` that counts the graphs it is given, and hands them on."""

    def __init__(self, inner: Callable[..., Any] | None = None) -> None:
        self.inner, self.count = inner, 0

    def __call__(self, module: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Any:
        self.count += 1
        return module.forward if self.inner is None else self.inner(module, inputs)


@dataclass(slots=True)
class Subject:
    """A host with a stock pipeline beside it: the same one, or, when compiled, a copy that never had a host.

    Each has a backend of its own: torch takes a graph for any module of the class that has the same backend, and one
    that was traced on a denoiser without hooks takes no notice of a plan.
    """

    name: str
    stock: Any
    host: Host
    call: dict[str, Any]
    graphs: tuple[Graphs, Graphs] | None = None  # of the stock pipeline and of the host
    stride: int = 2  # one plan is a swap at each stride-th site
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def family(self) -> Family:
        """The pipeline's entry in the table of families."""
        return family_of(type(self.stock).__name__)

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the host's sites."""
        return tuple(s.name for s in self.host.sites)

    @property
    def traced(self) -> int:
        """Graphs so far."""
        return sum(g.count for g in self.graphs or ())

    @property
    def steps(self) -> int:
        """Steps of a call."""
        return int(self.call["num_inference_steps"])

    def denoiser(self, pipe: Any) -> Any:
        """The denoiser of the stock pipeline or the host's."""
        return getattr(pipe, self.family.denoiser)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to count and to time; `base` is the case that it is divided by, `run` gives latents."""

    name: str
    pictures: int
    base: str
    pipe: Any
    run: Callable[[int], Any]


def tiny(name: str, *, compiled: Callable[[], Graphs] | None = None) -> Subject:
    """A tiny host of the zoo, eager, or with two blocks of a kind and compiled whole with backends from `compiled`."""
    build = (lambda: zoo.build(name)) if compiled is None else (lambda: zoo.cut(zoo.build(name)))
    return _subject(f"tiny {name}", build, dict(zoo.CALL[name]), compiled)


def signpost(*, steps: int, compiled: Callable[[], Graphs] | None = None) -> Subject:
    """The shipped model, in float32."""

    def load() -> Any:
        from steering.families.loading import load_pipeline

        return load_pipeline(_SIGNPOST, device="cpu", dtype=torch.float32, offline=True, revision=None).pipe

    from steering.families.defaults import load_defaults

    call = load_defaults(_SIGNPOST).arguments() | {"num_inference_steps": steps}
    return _subject("signpost-pixart", load, call, compiled)


def _subject(
    name: str, build: Callable[[], Any], call: dict[str, Any], compiled: Callable[[], Graphs] | None
) -> Subject:
    pipe = build()
    if compiled is None:
        return Subject(name, pipe, Host(pipe, name=name, self_test=False), call)
    stock, graphs = build(), (compiled(), compiled())
    for each, backend in zip((stock, pipe), graphs, strict=True):
        denoiser = getattr(each, family_of(type(each).__name__).denoiser)
        denoiser.compile(backend=backend, fullgraph=True, dynamic=False)
    return Subject(name, stock, Host(pipe, name=name, self_test=False), call, graphs)


def cases(subject: Subject, *, peers_of_many: bool = True) -> list[Case]:
    """The cases of a subject, baselines first."""
    found = [
        _stock(subject, 1, "stock"),
        _stock(subject, 1, "stock again"),
        _steered(subject, 1, "attached, no plan", lambda k, n: None),
    ]
    found += _one_plan(subject)
    found += _peers(subject, 1)
    found += [
        _stock(subject, MANY, "stock, 16"),
        _stock(subject, MANY, "stock again, 16"),
        _steered(subject, MANY, "attached, no plan, 16", lambda k, n: None),
    ]
    found += _sixteen_plans(subject)
    return found + (_peers(subject, MANY) if peers_of_many else [])


def _one_plan(subject: Subject) -> list[Case]:
    """One plan for one picture: with a donor that was encoded (or recorded) before, and with a new one a call."""
    if not subject.host.joint:
        return [
            _steered(subject, 1, "one plan", lambda k, n: _swap(subject, f"ring {k % 3}")),
            _steered(subject, 1, "one plan, new donor", lambda k, n: _swap(subject, _new(subject))),
        ]
    ways: dict[str, dict[str, Any]] = {
        "canonical": {"source": "canonical"},
        "twin": {"source": "twin"},
        "lockstep": {"source": "lockstep"},
        "pinned twin": {"source": "twin", "mode": "pinned"},
    }
    found = [
        _steered(subject, 1, f"one plan, {way}", lambda k, n, more=more: _swap(subject, f"ring {k % 3}", **more))
        for way, more in ways.items()
    ]
    fresh = _steered(
        subject,
        1,
        "one plan, canonical, new donor",
        lambda k, n: _swap(subject, _new(subject), source="canonical"),
    )
    return [*found, fresh]


def _sixteen_plans(subject: Subject) -> list[Case]:
    if not subject.host.joint:
        return [
            _steered(subject, MANY, "16 plans", lambda k, n: _different(subject, n, k, f"ring {n}")),
            _steered(
                subject,
                MANY,
                "16 plans, new donors",
                lambda k, n: _different(subject, n, k, f"{next(subject.numbers)}"),
            ),
        ]
    return [
        _steered(subject, MANY, f"16 plans, {s}", lambda k, n, s=s: _different(subject, n, k, f"ring {n}", source=s))
        for s in ("canonical", "twin")
    ]


def _new(subject: Subject) -> str:
    """A donor that was never asked for."""
    return f"new {next(subject.numbers)}"


def _swap(subject: Subject, donor: str, **more: Any) -> Plan:
    """A swap at every second site (or as the subject says), pooled text included."""
    return Plan(Swap(donor, sites=subject.sites[:: subject.stride], **({"pooled": "donor"} | more)))


def _different(subject: Subject, n: int, k: int, donor: str, **more: Any) -> Plan:
    """The `n`-th of sixteen plans of the `k`-th call: no two alike in donor and sites, some in window and strength."""
    sites = subject.sites
    first = (n + k) % len(sites)
    chosen = tuple(dict.fromkeys(sites[(first + i) % len(sites)] for i in range(1 + n % 3)))
    if more.get("source") == "canonical":
        chosen = sites[:2]  # a stream is recorded for a set of sites: what is kept must be the same in each call
    window = (Window(0, 1), Window(0, 0.7), Window(0.3, 1))[n % 3]
    pooled = ("keep", "donor", "null")[n % 3]
    return Plan(Swap(donor, sites=chosen, pooled=pooled, window=window, strength=(1.0, 0.7)[n % 2], **more))


def _prompts(n: int) -> list[str]:
    return [f"a red star {i}" for i in range(n)]


def _stock(subject: Subject, n: int, name: str) -> Case:
    def run(k: int) -> Any:
        generators = [torch.Generator("cpu").manual_seed(s) for s in range(n)]
        return subject.stock(prompt=_prompts(n), generator=generators, output_type="latent", **subject.call).images

    return Case(name, n, _base(n), subject.stock, run)


def _steered(subject: Subject, n: int, name: str, plan: Callable[[int, int], Plan | None]) -> Case:
    def run(k: int) -> Any:
        plans = [plan(k, i) for i in range(n)]
        out = subject.host.generate(
            _prompts(n), plans=plans, seeds=list(range(n)), output_type="latent", **subject.call
        )
        return out.images

    return Case(name, n, _base(n), subject.host.pipe, run)


def _peers(subject: Subject, n: int) -> list[Case]:
    """The peers, where there are uncond rows: a distilled host has no pair for a third branch."""
    if subject.family.guidance != "uncond-first":
        return []
    many = "" if n == 1 else f", {n}"
    stock = _stock(subject, n, "").run

    def sld(k: int) -> Any:
        with third_branch(subject.stock, Sld([", ".join(AVOID)] * n)):
            return stock(k)

    def safree(k: int) -> Any:
        with third_branch(subject.stock, Safree([AVOID] * n, subject.steps)):
            return stock(k)

    base = _base(n)
    return [
        Case(f"SLD{many}", n, base, subject.stock, sld),
        Case(f"SAFREE-style{many}", n, base, subject.stock, safree),
    ]


def _base(n: int) -> str:
    return "stock" if n == 1 else f"stock, {n}"


def counted(subject: Subject, case: Case, k: int) -> Count:
    """What the `k`-th call of a case does."""
    rows: list[int] = []
    texts: list[int] = []
    encoder = getattr(case.pipe, subject.family.encode.encoders[0])
    with _counting(subject.denoiser(case.pipe), rows), before(encoder, lambda m, a, kw: _note(a, kw, texts)):
        case.run(k)
    return Count(len(rows), sum(rows), sum(texts))


@contextmanager
def _counting(denoiser: Any, rows: list[int]) -> Iterator[None]:
    with watched(denoiser, lambda args, kwargs: rows.append(int(kwargs["encoder_hidden_states"].shape[0]))):
        yield


def _note(args: tuple[Any, ...], kwargs: dict[str, Any], texts: list[int]) -> None:
    ids = args[0] if args else kwargs["input_ids"]
    texts.append(int(ids.shape[0]))
