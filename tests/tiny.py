"""Tiny diffusers folders of real classes with random weights: what rooms are tested on where meaning does not matter.

Every parameter is drawn, none is left at zero: two prompts give pictures that differ by far more than any tolerance,
so that no law holds vacuously.
"""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["save_pixart"]

_DEFAULTS = {
    "height": 64,
    "width": 64,
    "num_inference_steps": 4,
    "guidance_scale": 3.0,
    "call": {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 160},
    "sizes": ["64x64", "32x32"],
}


def save_pixart(folder: Path, *, layers: int = 4, seed: int = 0) -> Path:
    """`folder`, holding a PixArt pipeline of `layers` blocks, for 64 x 64 pictures, and its `defaults.json`."""
    import torch
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():  # what is only moved by noise below begins with random values as well
        torch.manual_seed(seed)
        transformer = PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=4,
            num_layers=layers,
            cross_attention_dim=16,
            sample_size=16,
            patch_size=2,
            caption_channels=16,
            use_additional_conditions=False,
        )
        vae = AutoencoderKL(
            latent_channels=4,
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
            sample_size=64,
        )
        encoder = T5EncoderModel(T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    with torch.no_grad():
        for module in (transformer, vae, encoder):
            for parameter in module.parameters():
                scale = 0.3 if parameter.dim() > 1 else 0.1
                noise = torch.randn(parameter.shape, generator=generator) * scale
                parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = PixArtAlphaPipeline(
        tokenizer=ByT5Tokenizer(), text_encoder=encoder, vae=vae, transformer=transformer, scheduler=scheduler
    )
    pipe.save_pretrained(folder)
    (folder / "defaults.json").write_text(json.dumps(_DEFAULTS), encoding="utf-8")
    return folder
