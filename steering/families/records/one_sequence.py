"""Families whose attention reads text and picture as one sequence, through shared projections."""

from __future__ import annotations

from steering.families.description import Encode, Family, SiteRule

__all__ = ["RECORDS"]

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

RECORDS: tuple[Family, ...] = (_COGVIEW4,)
