"""A language model over bytes that reads captions from left to right, and how it is taught before a denoiser uses it.

It is Qwen3-VL at a small width, with the tokenizer, the template and the states that the Qwen-Image 2.1 pipeline takes.
No state sees what follows it. Every byte of a sign is therefore taught which letter it is, how many stand before it and
in which line. The tokens that the template writes after the prompt have seen it all: they are taught the sign's letters
in turn and where each will stand, and all states together the facts. The heads are discarded afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reference.loop import fit
from reference.recipes.marks import caption_letters
from reference.recipes.shapes import ModelShape, SharedRecipe
from reference.recipes.teach import Batch, Quiz, caption_batch, graded
from reference.town.letters import ALPHABET, MAX_LETTERS

__all__ = ["CausalTexts", "build_causal", "build_processor", "teach_causal"]

_TASK = "Comprehend and analyze the provided prompt."  # the pipeline asks it before each prompt: one token here
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>", _TASK),
)
_SYSTEM = f"<|im_start|>system\n{_TASK}<|im_end|>\n"  # its states are not used
_USER = "<|im_start|>user\n"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
)
_LINE = MAX_LETTERS[64]  # letters of a line; two lines are asked of the tokens after the prompt


@dataclass(frozen=True, slots=True)
class CausalTexts:
    """A frozen language model with its tokenizer; computes on the model's device."""

    model: Any
    tokens: Any

    def to(self, device: str) -> CausalTexts:
        """The same, moved to `device` in place."""
        self.model.to(device)
        return self

    def states(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States before the last norm [b, l, d] and mask [b, l] of captions, as the pipeline asks its text encoder.

        The pipeline pads at the left. No position is told to the model but by distance, so the states are the same.
        """
        asked = [f"{_SYSTEM}{_USER}{caption or ' '}{_AFTER}" for caption in captions]
        given = self.tokens(asked, padding=True, padding_side="right", return_tensors="pt").to(self.model.device)
        last: list[Tensor] = []
        reader = self.model.model.language_model
        hook = reader.norm.register_forward_pre_hook(lambda _module, args: last.append(args[0]))
        try:
            reader(input_ids=given.input_ids, use_cache=False)
        finally:
            hook.remove()
        first = len(self.tokens(_SYSTEM).input_ids)
        return last[0][:, first:], given.attention_mask[:, first:]


def build_causal(shape: ModelShape) -> CausalTexts:
    """An untrained Qwen3-VL over bytes; its eyes are as small as they can be, and nothing uses them."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    assert shape.text is not None
    width, layers = shape.text
    tokens = _tokenizer()
    heads = 4
    part = width // heads // 6  # of half a head's features, for each of three axes, which are one where all is text
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [part] * 3, "mrope_interleaved": True}
    eyes = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokens),
            "pad_token_id": tokens.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokens.eos_token_id,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": width // heads,
            "max_position_embeddings": 512,
            "rope_parameters": rope,
        },
        vision_config=eyes | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        image_token_id=tokens.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokens.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokens.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return CausalTexts(Qwen3VLForConditionalGeneration(config), tokens)


def build_processor(tokens: Any) -> Any:
    """The processor that the pipeline asks, around the tokenizer."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    return Qwen3VLProcessor(Qwen2VLImageProcessor(), tokens, Qwen3VLVideoProcessor(), chat_template=_CHAT)


def teach_causal(shape: ModelShape, recipe: SharedRecipe, folder: Path, device: str = "cpu") -> CausalTexts:
    """The text encoder, trained and frozen, on the device; resumes from `folder`."""
    torch.manual_seed(recipe.seed)
    texts = build_causal(shape).to(device)
    quiz = _CausalQuiz(texts.model.config.text_config.hidden_size, recipe.px).to(device)
    reader = texts.model.model.language_model

    def loss(step: int) -> Tensor:
        batch = caption_batch(random.Random(f"{recipe.seed}/causal/{step}"), recipe.text_batch, recipe.px)
        value, right = quiz(*texts.states([c.text for c in batch[1]]), batch)
        if (step + 1) % 100 == 0:
            print("  right: " + " ".join(f"{v:.3f}" for v in right.tolist()), flush=True)
        return value

    fit({"encoder": reader, "quiz": quiz}, loss, recipe.text, folder=folder, name="text-causal")
    texts.model.eval().requires_grad_(False)
    return texts


class _CausalQuiz(nn.Module):
    """Asks the states of captions: bytes for their letter, the last tokens for all letters, all for facts."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.all = Quiz(width, size, pooled=False)
        self.head_bytes = nn.ModuleList(nn.Linear(width, n) for n in (len(ALPHABET) + 1, _LINE + 1, 3))

    def forward(self, states: Tensor, mask: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the shares of right answers: facts, letters after the prompt, letters in it."""
        scenes, captions = batch
        before, after = len(_USER) - len("<|im_start|>") + 1, 2 * _LINE
        ends = mask.sum(1) - after - 1  # the last token is asked nothing
        in_place = torch.zeros(*mask.shape, 3, dtype=torch.long)
        in_turn = torch.zeros(len(scenes), after, 3, dtype=torch.long)
        for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True)):
            found = iter(caption_letters(scene, caption, self.size))
            for line, words in enumerate(scene.lines):
                for k in range(len(words)):
                    at, letter, column, high = next(found)
                    in_place[row, before + at] = torch.tensor([letter, k, line]) + 1
                    in_turn[row, line * _LINE + k] = torch.tensor([letter, column, high]) + 1
        last = states[torch.arange(len(states))[:, None], (ends[:, None] + torch.arange(after).to(ends))]
        everywhere = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
        facts, place = self.all.facts(states, mask), states.device
        turn = graded(facts, self.all.letters(last), scenes, captions, in_turn.to(place), everywhere)
        bytes_ = [head(states) for head in self.head_bytes]
        own = graded([], bytes_, scenes, captions, in_place.to(place), mask > 0)
        return (turn[0] + own[0]) / 2, torch.cat([turn[1], own[1]])


def _tokenizer() -> Any:
    """A tokenizer of bytes beside the tokens of a chat."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(known)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=[s for s in _SPECIAL if s not in ("<|endoftext|>", "<|im_end|>")],
    )
