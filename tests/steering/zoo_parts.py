"""Owns the small parts of tiny pipelines: tokenizers without files, text encoders, autoencoders.

Everything is the libraries' own class, at a width of 16 or 32. The tokenizers know bytes or single letters, so that
any prompt is read, and no two prompts alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["TEXT", "clip", "clip_tokenizer", "deep_vae", "gemma", "gemma_tokenizer", "jitter", "t5", "vae"]

TEXT = 24  # tokens that a tiny prompt has room for
_BYTES = 384  # ByT5's vocabulary


def jitter(module: nn.Module, amount: float) -> nn.Module:
    """`module` in eval mode, each parameter moved at random, so that no gate is zero and no gain is tiny."""
    for parameter in module.parameters():
        parameter.data.add_(amount * torch.randn_like(parameter))
    return module.eval()


def clip_tokenizer() -> Any:
    """A CLIP tokenizer of letters; its last token ends the text."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=TEXT)


def clip(tokenizer: Any, *, width: int = 16, projected: bool = False, room: int = TEXT) -> Any:
    """A CLIP text encoder of two layers with `room` for tokens; `projected` as SDXL's second and SD3's two are."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    size = len(tokenizer)
    config = CLIPTextConfig(
        vocab_size=size,
        bos_token_id=size - 2,
        eos_token_id=size - 1,  # where the pooled text is read
        pad_token_id=size - 1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=room,
        projection_dim=width,
    )
    return jitter((CLIPTextModelWithProjection if projected else CLIPTextModel)(config), 0.1)


def t5(width: int = 16) -> Any:
    """A T5 encoder of two layers, for ByT5's bytes."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=_BYTES,
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return jitter(T5EncoderModel(config), 0.1)


def gemma_tokenizer() -> Any:
    """A tokenizer of letters that begins as Gemma's does, with one special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    letters = [chr(code) for code in range(33, 127)]
    scored = [(s, 0.0) for s in special] + [("▁", -2.0)] + [(letter, -3.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


def gemma(tokenizer: Any, *, width: int = 16) -> Any:
    """A Gemma 2 model of two layers."""
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        attn_logit_softcapping=None,  # far above these logits
    )
    model = jitter(Gemma2Model(config), 0.1)
    # SANA's instruction is 1,700 of these tokens, on which `eager`, all that transformers offers, takes seconds
    model.config._attn_implementation = "sdpa"
    return model


def vae(levels: int = 2, **more: Any) -> Any:
    """A KL autoencoder; its latents are 2 to the power of `levels - 1` times smaller than its pictures."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(8,) * levels,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        sample_size=16,
        **({"latent_channels": 4} | more),
    )
    return jitter(model, 0.05)


def deep_vae() -> Any:
    """SANA's autoencoder; its latents are four times smaller than its pictures."""
    from diffusers import AutoencoderDC

    model = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return jitter(model, 0.05)
