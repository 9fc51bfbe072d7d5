"""Families whose text comes from several encoders and meets in the denoiser."""

from __future__ import annotations

from dataclasses import replace

from steering.families.description import Encode, Family, Inputs, PooledRule, SiteRule

__all__ = ["GLYPHS", "HUNYUAN_IMAGE", "LAYERS", "RECORDS", "REFINED", "REFINERS"]

# the way in of quoted words, which have an encoder of their own
GLYPHS = SiteRule(
    pattern="context_embedder_2",
    module_class="HunyuanImageByT5TextProjection",
    kind="text",
    keys=("linear_1",),
    beside=("encoder_attention_mask_2",),
    output="text",
    out="linear_3",
)

# the refiners of text know the time and the mean of the text
REFINED = PooledRule("context_embedder.time_text_embed", "pooled_projection", source="mean")

# the way in of one layer of a language model's states, into one block
LAYERS = SiteRule(
    pattern=r"caption_projection\.\d+",
    module_class="BriaFiboTextProjection",
    kind="text",
    keys=("linear",),
    text="caption",
    output="text",
    out="linear",
)

# refiners of the text, which know the time
REFINERS = SiteRule(
    pattern=r"context_embedder\.token_refiner\.refiner_blocks\.\d+\.attn",
    module_class="Attention",
    kind="text",
    keys=("to_k", "to_v"),
    text="hidden_states",
    companions=("attention_mask",),
    output="text",
)

# behind their way in, the tokens of quoted words and those of the prompt lie in one stream; sites there steer both
HUNYUAN_IMAGE = Family(
    name="HunyuanImage 2.1",
    pipelines=("HunyuanImagePipeline",),
    denoiser="transformer",
    denoiser_class="HunyuanImageTransformer2DModel",
    sites=(
        REFINERS,
        GLYPHS,
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn",
            module_class="Attention",
            kind="joint",
            keys=("add_k_proj", "add_v_proj"),
            companions=("attention_mask",),
            stream="encoder_hidden_states",
            output="first",
            gate="norm1",
        ),
        SiteRule(
            pattern=r"single_transformer_blocks\.\d+\.attn",
            module_class="Attention",
            kind="joint",
            keys=("to_k", "to_v"),
            span="last",
            companions=("attention_mask",),
            stream="encoder_hidden_states",
            output="first",
            out="proj_out",
            out_of_block=True,
            gate="norm",
        ),
    ),
    encode=Encode(
        guidance=None,
        cleared=("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2"),
        returns=("text", "mask", "glyphs", "glyph_mask"),
        encoders=("text_encoder", "text_encoder_2"),
    ),
    guidance="sequential",
    pictures=None,  # for several of a prompt it mixes up the masks of a batch
    inputs=Inputs(mask="encoder_attention_mask", beside=("encoder_hidden_states_2", "encoder_attention_mask_2")),
    pooled=(REFINED,),
)

# each block reads one more layer of Llama's states beside the text that evolves
_HIDREAM = Family(
    name="HiDream",
    pipelines=("HiDreamImagePipeline",),
    denoiser="transformer",
    denoiser_class="HiDreamImageTransformer2DModel",
    sites=(
        replace(LAYERS, module_class="TextProjection"),  # the last is that of T5's text
        SiteRule(
            pattern=r"double_stream_blocks\.\d+\.block\.attn1",
            module_class="HiDreamAttention",
            kind="joint",
            keys=("to_k_t", "to_v_t"),
            text="norm_encoder_hidden_states",
            stream="encoder_hidden_states",
            output="first",
            out="to_out",
        ),
        SiteRule(
            pattern=r"single_stream_blocks\.\d+\.block\.attn1",
            module_class="HiDreamAttention",
            kind="joint",
            keys=("to_k", "to_v"),
            text="norm_hidden_states",
            span="last",
            stream="hidden_states",
            stream_span="last",
            output="sequence",
            out="to_out",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=(
            *("prompt_2", "prompt_3", "prompt_4"),
            *("negative_prompt", "negative_prompt_2", "negative_prompt_3", "negative_prompt_4"),
            *("prompt_embeds_t5", "prompt_embeds_llama3", "pooled_prompt_embeds"),
            *("negative_prompt_embeds_t5", "negative_prompt_embeds_llama3", "negative_pooled_prompt_embeds"),
        ),
        returns=("text", "negative_text", "layers", "negative_layers", "pooled", "negative_pooled"),
        encoders=("text_encoder_3", "text_encoder_4", "text_encoder", "text_encoder_2"),
    ),
    guidance="uncond-first",
    inputs=Inputs(
        text="encoder_hidden_states_t5",
        beside=("encoder_hidden_states_llama3",),
        pooled=("pooled_embeds",),
        oblong="max_seq",
    ),
    pooled=(PooledRule("p_embedder", "pooled_embed"),),
    order=("caption_projection", "double_stream_blocks", "single_stream_blocks"),
)

RECORDS: tuple[Family, ...] = (HUNYUAN_IMAGE, _HIDREAM)
