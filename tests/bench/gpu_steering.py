"""Owns the runner for a GPU: time and memory of steered calls against stock ones at released shapes.

    python -m tests.bench.gpu_steering --device cuda --out FILE [--models sdxl sd3 ...] [--seconds 480]

Denoisers have the released configurations (`tests/steering/released.py`) and random weights, in bfloat16, built on the
device itself and freed one after the other; 1024 x 1024 pixels and the released numbers of text tokens. Text encoders
have the released width and one layer, and there is no autoencoder, so that what is measured is the denoiser. `--tiny`
runs the same on tiny hosts, on any device.

Untried on a GPU so far: none was at hand. Tried on a CPU: `--tiny`, and the assembly at shrunken depth
(`test_steering_bench`).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from steering import Host
from steering.families.table import family_of
from tests.bench.steering_cases import Case, Subject, cases, counted, tiny
from tests.bench.steering_stats import hardware, paired
from tests.steering import zoo_parts as parts
from tests.steering.released import RELEASED

__all__ = ["MODELS", "Model", "assemble", "main", "measured", "subject_of"]

_CASES = (
    ("stock", "stock again", "attached, no plan", "one plan", "one plan, canonical", "one plan, twin"),
    ("stock, 16", "16 plans", "16 plans, canonical", "16 plans, twin"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A released denoiser with what a call needs; `share` of the time that the run may take."""

    released: str
    tiny: str
    call: Mapping[str, Any]
    share: float
    config: Mapping[str, Any] = field(default_factory=dict)  # beside the tests' table: what text comes through


_SIZE = {"height": 1024, "width": 1024, "num_inference_steps": 2}
MODELS: dict[str, Model] = {
    "sdxl": Model("stable-diffusion-xl-base-1.0", "sdxl", _SIZE | {"guidance_scale": 5.0}, 0.15),
    "sd3": Model("stable-diffusion-3-medium", "sd3", _SIZE | {"guidance_scale": 7.0, "max_sequence_length": 256}, 0.2),
    "pixart": Model(
        "PixArt-XL-2-1024-MS",
        "pixart-alpha",
        _SIZE | {"guidance_scale": 4.5, "use_resolution_binning": False, "clean_caption": False},
        0.1,
        {"caption_channels": 4096},
    ),
    "flux": Model("FLUX.1-dev", "flux-dev", _SIZE | {"guidance_scale": 3.5, "max_sequence_length": 512}, 0.45),
    "sana": Model(
        "Sana_1600M_1024px",
        "sana",
        _SIZE | {"guidance_scale": 4.5, "use_resolution_binning": False, "complex_human_instruction": None},
        0.1,
    ),
}


def _clip(width: int, *, projected: bool) -> tuple[Any, Any]:
    """A tokenizer of 77 tokens and a CLIP text encoder of one layer at a released width."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = parts.clip_tokenizer()
    tokenizer.model_max_length = 77
    size = len(tokenizer)
    config = CLIPTextConfig(
        vocab_size=size,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
        hidden_size=width,
        intermediate_size=width,
        num_attention_heads=width // 64,
        num_hidden_layers=1,
        max_position_embeddings=77,
        projection_dim=width,
    )
    return tokenizer, (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5(width: int) -> tuple[Any, Any]:
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    config = T5Config(vocab_size=384, d_model=width, d_kv=64, d_ff=64, num_layers=1, num_heads=2)
    return ByT5Tokenizer(), T5EncoderModel(config)


def _gemma(width: int) -> tuple[Any, Any]:
    from transformers import Gemma2Config, Gemma2Model

    tokenizer = parts.gemma_tokenizer()
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
    )
    return tokenizer, Gemma2Model(config)


def _encoders(pipeline: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Tokenizers and text encoders of the released widths, by component."""
    if pipeline == "StableDiffusionXLPipeline":
        pairs = {"": _clip(768, projected=False), "_2": _clip(1280, projected=True)}
    elif pipeline == "StableDiffusion3Pipeline":
        pairs = {"": _clip(768, projected=True), "_2": _clip(1280, projected=True), "_3": _t5(4096)}
    elif pipeline == "FluxPipeline":
        pairs = {"": _clip(768, projected=False), "_2": _t5(4096)}
    else:
        pairs = {"": _gemma(2304) if pipeline == "SanaPipeline" else _t5(int(config.get("caption_channels", 4096)))}
    tokenizers = {f"tokenizer{n}": tokenizer for n, (tokenizer, _) in pairs.items()}
    return tokenizers | {f"text_encoder{n}": encoder.eval() for n, (_, encoder) in pairs.items()}


def _scheduler(pipeline: str) -> Any:
    from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

    if pipeline == "StableDiffusionXLPipeline":
        return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    if pipeline == "PixArtAlphaPipeline":
        return DPMSolverMultistepScheduler()
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def assemble(pipeline: str, config: Mapping[str, Any], *, device: str, dtype: torch.dtype) -> Any:
    """A pipeline around a denoiser of `config` with random weights, made on the device in `dtype`."""
    import diffusers

    family = family_of(pipeline)
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            denoiser = getattr(diffusers, family.denoiser_class)(**config).eval().requires_grad_(False)
            encoders = _encoders(pipeline, config)
    finally:
        torch.set_default_dtype(before)
    extra: dict[str, Any] = {"add_watermarker": False} if pipeline == "StableDiffusionXLPipeline" else {}
    pipe = getattr(diffusers, pipeline)(
        vae=None, scheduler=_scheduler(pipeline), **{family.denoiser: denoiser}, **encoders, **extra
    )
    pipe.to(device, dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def subject_of(name: str, *, device: str, config: Mapping[str, Any] | None = None, **call: Any) -> Subject:
    """A host of a model at its released shape; `config` and `call` go over what was released, for smaller ones."""
    model = MODELS[name]
    released = RELEASED[model.released]
    dtype = torch.bfloat16 if device != "cpu" else torch.float32
    whole = {**released.config, **model.config, **(config or {})}
    pipe = assemble(released.pipeline, whole, device=device, dtype=dtype)
    host = Host(pipe, name=model.released, self_test=False)
    stride = max(len(host.sites) // 3, 1)  # three or four sites, as a pack has
    return Subject(model.released, pipe, host, dict(model.call) | call, stride=stride)


def measured(
    subject: Subject, names: Sequence[str], *, device: str, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Counts, times and greatest memory of the named cases; rounds end early, after two, when `seconds` are over."""
    some = [c for c in cases(subject, peers_of_many=False) if c.name in names]
    until = time.monotonic() + seconds
    found: dict[str, dict[str, Any]] = {}
    for case in some:
        found[case.name] = {"case": case.name, **_once(subject, case, device)}
    took: dict[str, list[float]] = {c.name: [] for c in some}
    for n in range(rounds):
        if n >= 2 and time.monotonic() > until:
            break
        for case in some if n % 2 == 0 else reversed(some):
            took[case.name].append(_seconds(lambda case=case, n=n: case.run(n), device))  # type: ignore[misc]
    for case in some:
        ratio = paired(took[case.name], took[case.base])
        found[case.name] |= {
            "n": len(took[case.name]),
            "median_s": round(statistics.median(took[case.name]), 5),
            "times_stock": ratio.to_json(),
            "bytes_times_stock": _quotient(found[case.name]["peak_bytes"], found[case.base]["peak_bytes"]),
        }
    return list(found.values())


def _once(subject: Subject, case: Case, device: str) -> dict[str, Any]:
    """What a case counts, and the most memory that it takes, when what it keeps is kept already."""
    case.run(0)
    count = counted(subject, case, 0)
    peak = None
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        case.run(0)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
    finite = bool(torch.isfinite(case.run(0)).all())
    return {
        "forwards": count.forwards,
        "rows": count.rows,
        "texts": count.texts,
        "finite": finite,
        "peak_bytes": peak,
    }


def _seconds(work: Callable[[], Any], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _quotient(a: int | None, b: int | None) -> float | None:
    return None if a is None or b is None else round(a / b, 4)


def _about(device: str, tiny_hosts: bool) -> dict[str, Any]:
    named = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return hardware() | {
        "device": named or device,
        "dtype": "float32" if device == "cpu" else "bfloat16",
        "tiny": tiny_hosts,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs, and writes after each model what is known so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--tiny", action="store_true", help="tiny hosts instead of released shapes")
    parser.add_argument("--rounds", type=int, default=15, help="at most, for one picture; a third of it for sixteen")
    parser.add_argument("--seconds", type=float, default=480.0, help="for all models together")
    asked = parser.parse_args(arguments)
    if asked.device == "cpu" and not asked.tiny:
        parser.error("released shapes need a GPU; on a CPU use --tiny")
    body: dict[str, Any] = {"about": _about(asked.device, asked.tiny), "models": {}}
    whole = sum(MODELS[name].share for name in asked.models)
    for name in asked.models:
        began = time.monotonic()
        budget = asked.seconds * MODELS[name].share / whole
        subject = _tiny_on(MODELS[name].tiny, asked.device) if asked.tiny else subject_of(name, device=asked.device)
        built = time.monotonic() - began
        lines: list[dict[str, Any]] = []
        for names, rounds in zip(_CASES, (asked.rounds, max(asked.rounds // 3, 3)), strict=True):
            left = budget - (time.monotonic() - began)
            lines += measured(subject, names, device=asked.device, rounds=rounds, seconds=left / 2)
        body["models"][name] = {
            "name": subject.name,
            "millions": round(sum(p.numel() for p in subject.denoiser(subject.stock).parameters()) / 1e6, 1),
            "sites": len(subject.sites),
            "steps": subject.steps,
            "built_s": round(built, 1),
            "cases": lines,
        }
        asked.out.write_text(json.dumps(body, indent=1) + "\n")
        subject.host.close()
        del subject
        gc.collect()
        if asked.device.startswith("cuda"):
            torch.cuda.empty_cache()
    return 0


def _tiny_on(name: str, device: str) -> Subject:
    subject = tiny(name)
    subject.stock.to(device)
    return subject


if __name__ == "__main__":
    raise SystemExit(main())
