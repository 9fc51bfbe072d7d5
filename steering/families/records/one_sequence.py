"""Families whose attention reads text and picture as one sequence, through shared projections."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import Encode, Family, Inputs, SiteRule

__all__ = ["COGVIEW3", "RECORDS"]

_PROMPTS = ("negative_prompt", "prompt_embeds", "negative_prompt_embeds")

_COGVIEW4 = Family(
    name="CogView4",
    pipelines=("CogView4Pipeline",),
    denoiser="transformer",
    denoiser_class="CogView4Transformer2DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn1",
            module_class="Attention",
            kind="joint",
            keys=("to_k", "to_v"),
            span="first",
            stream="encoder_hidden_states",
            output="first",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=_PROMPTS,
        returns=("text", "negative_text"),
        encoders=("text_encoder",),
    ),
    guidance="sequential",
)

COGVIEW3 = replace(
    _COGVIEW4,
    name="CogView3+",
    pipelines=("CogView3PlusPipeline",),
    denoiser_class="CogView3PlusTransformer2DModel",
    guidance="uncond-first",
)

# text lies at the end of room for it, then the picture; guidance is a second denoiser that reads no text
_IDEOGRAM4 = Family(
    name="Ideogram 4",
    pipelines=("Ideogram4Pipeline",),
    denoiser="transformer",
    denoiser_class="Ideogram4Transformer2DModel",
    sites=(
        SiteRule(
            pattern=r"layers\.\d+\.attention",
            module_class="Ideogram4Attention",
            kind="joint",
            keys=("to_k", "to_v"),
            text="hidden_states",
            span="first",
            companions=("attention_mask", "image_rotary_emb"),
            stream="hidden_states",
            stream_span="first",
            output="sequence",
        ),
    ),
    encode=Encode(guidance=None, cleared=(), returns=("text",), encoders=("text_encoder",), images=None),
    guidance="sequential",
    pictures=None,
    inputs=Inputs(room="max_sequence_length"),
    small_call={"guidance_schedule": None},
)

RECORDS: tuple[Family, ...] = (_COGVIEW4, COGVIEW3, _IDEOGRAM4)
