"""An experiment: the shadow text stream, a donor's text carried through a joint host's blocks without a picture of its
own.

A twin computes a whole second picture only to have the donor's text as the blocks change it. The shadow computes that
text alone: in each block it attends to the *recipient's* picture tokens and to itself, and goes through the text half
of the block; nothing of it is written to the picture, but at the chosen sites its keys and values stand in for the
recipient's own. It is no part of `steering`; what it gives is measured here.

`python -m tests.bench.steering_shadow` writes `results/shadow.json` and `results/shadow.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from steering import Host, Plan, Swap
from steering.attach import after, before
from tests.bench.steering_report import RESULTS
from tests.bench.steering_stats import Ratio, hardware, interleaved, paired
from tests.steering import zoo

__all__ = ["HOSTS", "Released", "Text", "attached", "distances", "shadowed", "shares", "timed", "write_down"]

HOSTS = ("sd3", "flux-dev")
PROMPT, DONOR = "a red star", "green ring, sign 42"
STEPS = 8


@dataclass(frozen=True, slots=True)
class Text:
    """A donor's encoded text [1, l, d] and pooled text [1, w]."""

    text: torch.Tensor
    pooled: torch.Tensor


class _Stream:
    """The shadow of one forward: its tokens, its modulation, and what the running block's picture showed."""

    def __init__(self, donor: Text, rows: slice, pooled: bool) -> None:
        self.donor, self.rows, self.pooled = donor, rows, pooled
        self.tokens = torch.zeros(0)
        self.temb = torch.zeros(0)
        self.keys: dict[str, torch.Tensor] = {}

    @property
    def length(self) -> int:
        """Tokens of the donor's text."""
        return int(self.donor.text.shape[1])


@contextmanager
def attached(pipe: Any, donor: Text, sites: Sequence[str], *, pooled: bool = True) -> Iterator[None]:
    """Calls of `pipe` for one prompt inside show `sites` the shadow of `donor`; `pooled`: its pooled text as well."""
    model = pipe.transformer
    stream = _Stream(donor, slice(-1, None), pooled)  # the one cond row is the last: alone, or behind the uncond one
    with ExitStack() as stack:
        stack.enter_context(before(model, lambda m, a, k: _begin(m, stream)))
        stack.enter_context(after(model.time_text_embed, lambda m, a, out: _modulate(m, a, out, stream)))
        for name, block in model.named_modules():
            if name.rpartition(".")[0] in ("transformer_blocks", "single_transformer_blocks"):
                _attach_block(stack, block, stream, shown=f"{name}.attn" in sites)
        yield


def _begin(model: nn.Module, stream: _Stream) -> None:
    stream.tokens = model.context_embedder(stream.donor.text)


def _modulate(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor, stream: _Stream) -> torch.Tensor:
    *times, pooled = args
    own = [t[stream.rows] for t in times]
    stream.temb = module.forward(*own, stream.donor.pooled.to(pooled))
    if not stream.pooled:
        return output
    return torch.cat([output[: output.shape[0] - 1], stream.temb])


def _attach_block(stack: ExitStack, block: Any, stream: _Stream, *, shown: bool) -> None:
    single = not hasattr(block, "norm1_context")
    attn = block.attn
    state: dict[str, Any] = {}

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state.clear()
        state.update(_projected(block, stream, single))
        state["rope"] = kwargs.get("image_rotary_emb")

    def text(what: str) -> Callable[..., Any]:
        def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor | None:
            if not shown:
                return None
            given = output.clone()
            given[stream.rows, : stream.length] = state[what]
            return given

        return hook

    def image(what: str) -> Callable[..., Any]:
        def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor | None:
            state[f"image {what}"] = output[stream.rows, stream.length if single else 0 :]
            return text(what)(module, args, output) if single else None

        return hook

    def leave(module: Any, args: Any, output: Any) -> None:
        if not getattr(block, "context_pre_only", False):
            stream.tokens = _advanced(block, stream.tokens, state, single)

    stack.enter_context(before(block, enter))
    for what, projection in (("k", attn.to_k), ("v", attn.to_v)):
        stack.enter_context(after(projection, image(what)))
    if not single:
        for what, projection in (("k", attn.add_k_proj), ("v", attn.add_v_proj)):
            stack.enter_context(after(projection, text(what)))
    stack.enter_context(after(block, leave))


def _projected(block: Any, stream: _Stream, single: bool) -> dict[str, Any]:
    """The shadow's queries, keys, values at a block, and the gates of its modulation."""
    attn = block.attn
    if single:
        normed, gate = block.norm(stream.tokens, emb=stream.temb)
        q, k, v = (p.forward(normed) for p in (attn.to_q, attn.to_k, attn.to_v))
        return {"q": q, "k": k, "v": v, "gates": (gate,), "normed": normed}
    gates: list[torch.Tensor] = []
    if getattr(block, "context_pre_only", False):
        normed = block.norm1_context(stream.tokens, stream.temb)
    else:
        normed, *gates = block.norm1_context(stream.tokens, emb=stream.temb)
    q, k, v = (p.forward(normed) for p in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj))
    return {"q": q, "k": k, "v": v, "gates": gates}


def _advanced(block: Any, tokens: torch.Tensor, state: dict[str, Any], single: bool) -> torch.Tensor:
    """The shadow's tokens after a block: attention to the recipient's picture and to itself, then the text's MLP."""
    seen = _attended(block.attn, state, single)
    if single:
        (gate,) = state["gates"]
        mlp = block.act_mlp(block.proj_mlp(state["normed"]))
        return tokens + gate.unsqueeze(1) * block.proj_out(torch.cat([seen, mlp], dim=2))
    gate, shift_mlp, scale_mlp, gate_mlp = state["gates"]
    tokens = tokens + gate.unsqueeze(1) * block.attn.to_add_out(seen)
    normed = block.norm2_context(tokens) * (1 + scale_mlp[:, None]) + shift_mlp[:, None]
    return tokens + gate_mlp.unsqueeze(1) * block.ff_context(normed)


def _attended(attn: Any, state: dict[str, Any], single: bool) -> torch.Tensor:
    """What the shadow's queries see in [shadow, picture], [1, l, d]; the order of keys does not matter to it."""
    length = state["q"].shape[1]
    own_q, own_k = (attn.norm_q, attn.norm_k) if single else (attn.norm_added_q, attn.norm_added_k)

    def heads(x: torch.Tensor, norm: Any) -> torch.Tensor:
        split = x.unflatten(-1, (attn.heads, -1))
        return split if norm is None else norm(split)

    q = heads(state["q"], own_q)
    k = torch.cat([heads(state["k"], own_k), heads(state["image k"], attn.norm_k)], 1)
    v = torch.cat([heads(state["v"], None), heads(state["image v"], None)], 1)
    if state["rope"] is not None:
        from diffusers.models.embeddings import apply_rotary_emb

        cos, sin = state["rope"]
        q = apply_rotary_emb(q, (cos[:length], sin[:length]), sequence_dim=1)
        k = apply_rotary_emb(k, (cos, sin), sequence_dim=1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


# what it gives


def encoded(pipe: Any, name: str, length: int) -> Text:
    """The donor as the call encodes it."""
    with torch.no_grad():
        if name == "sd3":
            got = pipe.encode_prompt(DONOR, None, None, do_classifier_free_guidance=False, max_sequence_length=length)
            return Text(got[0], got[2])
        text, pooled, _ = pipe.encode_prompt(DONOR, None, max_sequence_length=length)
        return Text(text, pooled)


def stock(host: Host, call: dict[str, Any], prompt: str, seed: int) -> torch.Tensor:
    """Latents of the pipeline itself."""
    return host.generate([prompt], plans=[None], seeds=[seed], output_type="latent", **call).images


def swapped(
    host: Host, call: dict[str, Any], sites: Sequence[str], source: Any, seed: int, pooled: bool = True
) -> torch.Tensor:
    """Latents under a swap by the engine."""
    plan = Plan(Swap(DONOR, sites=tuple(sites), pooled="donor" if pooled else "keep", source=source))
    return host.generate([PROMPT], plans=[plan], seeds=[seed], output_type="latent", **call).images


def shadowed(
    host: Host, call: dict[str, Any], donor: Text, sites: Sequence[str], seed: int, pooled: bool = True
) -> torch.Tensor:
    """Latents under the shadow."""
    with attached(host.pipe, donor, sites, pooled=pooled):
        return stock(host, call, PROMPT, seed)


def site_sets(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """All sites, halves of them, and one in the middle."""
    half = len(names) // 2
    return {
        "all": tuple(names),
        "every second": tuple(names[::2]),
        "first half": tuple(names[:half]),
        "second half": tuple(names[half:]),
        "one in the middle": (names[half],),
    }


def distances(name: str, *, weights: int, seed: int, pooled: bool) -> dict[str, dict[str, float]]:
    """For each set of sites, distances between results of two ways, as shares of what the lockstep swap changes.

    Root mean squares of latents after the last step. `effect` is that change itself, as a share of |A - B|: A the
    request's own picture, B the donor's. `pooled`: the donor's pooled text as well, or the request's own.
    """
    call = zoo.CALL[name] | {"num_inference_steps": STEPS}
    host = Host(zoo.build(name, seed=weights), name=name, self_test=False)
    donor = encoded(host.pipe, name, call["max_sequence_length"])
    own, other = stock(host, call, PROMPT, seed), stock(host, call, DONOR, seed)
    found = {}
    for label, sites in site_sets([s.name for s in host.sites]).items():
        lock, twin, canon = (swapped(host, call, sites, s, seed, pooled) for s in ("lockstep", "twin", "canonical"))
        shadow = shadowed(host, call, donor, sites, seed, pooled)
        effect = _apart(lock, own)
        pairs = {
            "shadow - lockstep": (shadow, lock),
            "shadow - twin": (shadow, twin),
            "twin - lockstep": (twin, lock),
            "canonical - lockstep": (canon, lock),
        }
        found[label] = {"effect": effect / _apart(own, other)} | {
            k: _apart(*pair) / effect for k, pair in pairs.items()
        }
    host.close()
    return found


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).pow(2).mean().sqrt())


# what it costs


@dataclass(frozen=True, slots=True)
class Released:
    """A released shape: width, picture tokens, text tokens, rows of one picture's call."""

    name: str
    width: int
    image: int
    text: int
    rows: int


SHAPES = (
    Released("SD3 medium, 1024 px, guided", 1536, 4096, 333, 2),
    Released("FLUX.1, 1024 px", 3072, 4096, 512, 1),
)


def shares(shape: Released) -> dict[str, float]:
    """Extra multiplications of a call, as shares of the stock call's, by arithmetic over one block.

    A token costs `24 d^2` in projections and MLP (both kinds of block), a query and a key `4 d`. The shadow has its
    `l` tokens through both; a twin has a whole row for each row of the call; two sites out of 24 or 57 make no
    difference to either.
    """
    d, n, text = shape.width, shape.image, shape.text
    row = 24 * d * d * (n + text) + 4 * d * (n + text) ** 2
    shadow = 24 * d * d * text + 4 * d * text * (n + text)
    return {"twin": 1.0, "shadow": shadow / (shape.rows * row), "canonical": 0.0, "text tokens": text / (n + text)}


def medium(name: str) -> Host:
    """A host of 8 blocks of 512, whose call has 1024 picture tokens."""
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

    pipe = zoo.build(name)
    torch.manual_seed(0)
    config = dict(pipe.transformer.config) | {"num_attention_heads": 8, "attention_head_dim": 64}
    if name == "sd3":
        config |= {"num_layers": 8, "caption_projection_dim": 512, "pos_embed_max_size": 64, "sample_size": 64}
        model: Any = SD3Transformer2DModel(**_plain(config))
    else:
        config |= {"num_layers": 3, "num_single_layers": 5, "axes_dims_rope": (16, 24, 24)}
        model = FluxTransformer2DModel(**_plain(config))
    pipe.transformer = model.eval()
    return Host(pipe, name=f"medium {name}", self_test=False)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if not k.startswith("_")}


def timed(name: str, *, rounds: int) -> dict[str, tuple[Ratio, Ratio]]:
    """Wall and processor time of one step of a call of one row at the medium shape, as multiples of the stock call."""
    host = medium(name)
    length = 104 if name == "sd3" else 128  # of T5; SD3 has 24 tokens of CLIP before them
    call = {"height": 128, "width": 128, "num_inference_steps": 1, "max_sequence_length": length}
    call["guidance_scale"] = 1.0 if name == "sd3" else 3.5
    donor = encoded(host.pipe, name, length)
    sites = [s.name for s in host.sites][::4]
    works: dict[str, Callable[[int], Any]] = {
        "stock": lambda k: stock(host, call, PROMPT, 1),
        "stock again": lambda k: stock(host, call, PROMPT, 1),
        "shadow": lambda k: shadowed(host, call, donor, sites, 1),
        "twin": lambda k: swapped(host, call, sites, "twin", 1),
        "canonical": lambda k: swapped(host, call, sites, "canonical", 1),
    }
    times = interleaved(works, rounds=rounds, warm=1)
    host.close()
    base = times["stock"]
    return {k: (paired(t.wall, base.wall), paired(t.cpu, base.cpu)) for k, t in times.items() if k != "stock"}


def medians(found: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Over runs: the median, least and greatest of each distance."""
    return {
        label: {
            k: [round(float(f([run[label][k] for run in found])), 5) for f in (np.median, np.min, np.max)]
            for k in found[0][label]
        }
        for label in found[0]
    }


def run(*, weights: int = 4, seeds: int = 2, rounds: int = 15) -> dict[str, Any]:
    """All figures, as JSON. `seeds` of latents for each of `weights` random models."""
    each = [(w, 1 + s) for w in range(weights) for s in range(seeds)]  # seed 0 is that of canonical recordings
    got: dict[str, Any] = hardware() | {"weights": weights, "seeds": seeds, "rounds": rounds, "steps": STEPS}
    got["distances"] = {
        f"{name}, pooled {'donor' if pooled else 'keep'}": medians(
            [distances(name, weights=w, seed=s, pooled=pooled) for w, s in each]
        )
        for name in HOSTS
        for pooled in (True, False)
    }
    got["arithmetic"] = {s.name: {k: round(v, 4) for k, v in shares(s).items()} for s in SHAPES}
    got["time"] = {
        name: {k: {"wall": w.to_json(), "cpu": c.to_json()} for k, (w, c) in timed(name, rounds=rounds).items()}
        for name in HOSTS
    }
    return got


TEXT = """# The shadow text stream: an experiment on joint hosts

A donor's text is carried through the blocks attending to the recipient's own picture tokens (and to itself); it writes
nothing to the picture, and its keys and values stand in for the recipient's at the chosen sites
(`tests/bench/steering_shadow.py`; no part of `steering`). {cpu}, {threads} thread, torch {torch}, float32, tiny hosts
with random weights: plumbing and arithmetic, not what a trained model shows.

## Distance between ways, as a share of what the lockstep swap changes

Median (least to greatest) over {weights} random models x {seeds} seeds of latents, {steps} steps, root mean square of
the final latents. `effect` is the lockstep swap's change as a share of |A - B|."""

VERDICT = """## Verdict

{verdict}"""


def to_markdown(got: dict[str, Any], verdict: str) -> str:
    """The figures and what follows from them, for people."""
    some = next(iter(got["distances"].values()))
    columns = list(next(iter(some.values())))
    rows = ["| host | sites | " + " | ".join(columns) + " |", "|" + "---|" * (2 + len(columns))]
    for host, sets in got["distances"].items():
        for label, found in sets.items():
            cells = [f"{m:.3f} ({low:.3f} to {high:.3f})" for m, low, high in (found[c] for c in columns)]
            rows.append(f"| {host} | {label} | " + " | ".join(cells) + " |")
    cost = [
        "## Cost",
        "",
        "Extra multiplications of a call, by arithmetic over a block, as shares of the stock call's:",
        "",
    ]
    cost += ["| shape | twin | shadow | canonical, once recorded |", "|---|---|---|---|"]
    cost += [
        f"| {n} | {v['twin']:.0%} | {v['shadow']:.1%} | {v['canonical']:.0%} |" for n, v in got["arithmetic"].items()
    ]
    if got["time"]:
        cost += ["", "Measured, one evaluation of one row, 8 blocks of 512, 1024 + 128 tokens, a quarter of the sites,"]
        cost += [f"times the stock call (n = {got['rounds']}, interleaved medians, interval of 95 %):", ""]
        cost += ["| host | case | wall | CPU |", "|---|---|---|---|"]
    for host, found in got["time"].items():
        for case, times in found.items():
            ratios = ["{median:.3f} ({low:.3f} to {high:.3f})".format(**times[k]) for k in ("wall", "cpu")]
            cost.append(f"| {host} | {case} | " + " | ".join(ratios) + " |")
    parts = [TEXT.format(**got), "\n".join(rows), "\n".join(cost), VERDICT.format(verdict=verdict)]
    return "\n\n".join(parts) + "\n"


def write_down(got: dict[str, Any]) -> None:
    """Keeps the figures; the verdict is a person's, and stays as it stands in `results/shadow.md`."""
    RESULTS.mkdir(exist_ok=True)
    page = RESULTS / "shadow.md"
    known = page.read_text().partition("## Verdict\n\n")[2].strip() if page.is_file() else "None yet."
    (RESULTS / "shadow.json").write_text(json.dumps(got, indent=1) + "\n")
    page.write_text(to_markdown(got, known))


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_down(run())
