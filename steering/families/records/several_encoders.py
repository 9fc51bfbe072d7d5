"""Families whose text comes from several encoders and meets in the denoiser."""

from __future__ import annotations

from steering.families.description import Encode, Family, Inputs, PooledRule, SiteRule

__all__ = ["HUNYUAN_IMAGE", "RECORDS", "REFINED"]

# the refiners of text know the time and the mean of the text
REFINED = PooledRule("context_embedder.time_text_embed", "pooled_projection", source="mean")

# the tokens of quoted words and those of the prompt lie in one stream; a plan steers both
HUNYUAN_IMAGE = Family(
    name="HunyuanImage 2.1",
    pipelines=("HunyuanImagePipeline",),
    denoiser="transformer",
    denoiser_class="HunyuanImageTransformer2DModel",
    sites=(
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
)

RECORDS: tuple[Family, ...] = (HUNYUAN_IMAGE, _HIDREAM)
