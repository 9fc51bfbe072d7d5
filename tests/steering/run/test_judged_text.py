"""The law of the judged text: a pipeline reads what the caller gave, in its own wrapping, and nothing else.

| law | mutation that turned it red |
|---|---|
| no family reads what nobody judged | tokenizers of the first name only; processors' inner tokenizers left out |
| what a pipeline says around a text is no text of the call | wrappings never learned |
| what changes from call to call is not learned | either of two calls is learned from |
| hidden words are found inside of a wrapping | the middle of a wrapping may be anything |
| what a rewriter wrote is told before it is encoded | texts that were decoded count as judged |
| a rewriter that nobody listens to ends the call | a missing `on_rewritten` lets all pass |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from tests.rewriting import rewrite_prompts
from tests.steering import zoo
from tests.steering.family_cases import GREEN, PINK, RED, Asked

HOSTILE = 'A RED star,  "GO\'s" &amp; caf\u00e9 \u2013 \u201cHi\u201d <b>x</b> https://a.b/c \U0001f600 \u732b'


@cache
def asked(name: str) -> Asked:
    return Asked(name, self_test=False)


@pytest.fixture
def it(name: str) -> Asked:
    return asked(name)


every = pytest.mark.parametrize("name", zoo.NAMES)


@every
def test_no_family_is_refused_its_own_prompts(it: Asked) -> None:
    more: dict[str, Any] = {"num_images_per_prompt": 2} if not zoo.extra(it.name) else {}
    prompts = [HOSTILE, " ".join([GREEN] * 20)]  # the second is cut
    taken = _parameters(it.pipe)
    negatives = {"negative_prompts": [PINK, ""]} if it.host.negative_prompts.possible else {}
    for clean in (False, True) if "clean_caption" in taken else (False,):
        cleaned = {"clean_caption": clean} if "clean_caption" in taken else {}
        out = it.output_of(prompts, [it.swap(PINK), None], **negatives, **more, **cleaned)
        assert len(out.images) == 2 * more.get("num_images_per_prompt", 1)


@every
def test_words_that_the_pipeline_adds_are_refused_before_the_denoiser(it: Asked) -> None:
    from steering import UnjudgedText
    from steering.attach import replaced

    if zoo.extra(it.name) and getattr(it.pipe, it.host.family.encode.encoders[0], None) is None:
        pytest.skip("the pipeline encodes no prompts of its own")

    def more(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(_parameters(original), args, strict=False)) | kwargs
        return original(**given | {"prompt": [p.replace("star", "star with a gun") for p in given["prompt"]]})

    with (
        replaced(it.pipe, it.host.family.encode.method, more),
        replaced(it.host.denoiser, "forward", _never),
        pytest.raises(
            UnjudgedText, match=r"nobody judged.* in no prompt of the call; it begins with `a red star"
        ) as found,
    ):
        it.steered([RED], [None])
    assert found.value.component in it.pipe.components
    assert found.value.text == RED.replace("star", "star with a gun")
    assert torch.isfinite(it.steered([RED], [None])).all()  # nothing is left of it


def test_learned_tokens_of_several_vectors_are_the_prompts_own() -> None:
    from steering import Host

    pipe = zoo.build("sd1")
    pipe.load_textual_inversion(torch.randn(3, 16), token="<thing>")
    host = Host(pipe)
    images = [_draw(host, [f"a red {word}"]) for word in ("<thing>", "thing")]
    assert not torch.equal(*images)
    assert host.prepared.wrappings.learned == set()


# what pipelines put around a text, and how they ask their tokenizers


class Reads:
    """A pipeline of tokenizers alone: `way(pipe, prompt)` is how it reads a prompt."""

    def __init__(self, way: Callable[[Any, str], None], **components: Any) -> None:
        self.way, self.components = way, components
        self.asked: list[tuple[str, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__["components"]:
            raise AttributeError(name)
        return self.__dict__["components"][name]

    def __call__(self, prompts: Sequence[str], judged: Sequence[str], on_rewritten: Any = None) -> None:
        from steering.run.judged_text import Asked as How
        from steering.run.judged_text import Judged, Wrappings, judged_call

        def learn(prompt: str, negative: str) -> None:
            self.asked.append((prompt, negative))
            self.way(self, prompt)

        known = self.__dict__.setdefault("known", Wrappings())
        how, given = How("always", learn), Judged(frozenset(judged), on_rewritten)
        judged_call([self], given, how, known, lambda: [self.way(self, p) for p in prompts])


def _byte_tokenizer() -> Any:
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(
        chat_template="{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}answer:"
    )


def _chat(prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Describe the image, in 3 parts."}, {"role": "user", "content": prompt}]


def _quoted(pipe: Any, prompt: str) -> None:
    parts = prompt.split('"')[1::2]
    pipe.tokenizer(prompt)
    if parts:
        pipe.tokenizer_2(". ".join(f'Text "{part}"' for part in parts) + ". ")


def _lettered(pipe: Any, prompt: str) -> None:
    for n, part in enumerate(prompt.split('"')):
        for text in part if n % 2 else [part]:
            pipe.tokenizer(text)


WAYS: dict[str, Callable[[Any, str], Any]] = {
    "called": lambda pipe, prompt: pipe.tokenizer(prompt, padding="max_length", max_length=64, truncation=True),
    "called with lists": lambda pipe, prompt: pipe.tokenizer([prompt, ""], padding="longest"),
    "encode": lambda pipe, prompt: pipe.tokenizer.encode(prompt),
    "tokenize": lambda pipe, prompt: pipe.tokenizer.convert_tokens_to_ids(pipe.tokenizer.tokenize(prompt)),
    "chat": lambda pipe, prompt: pipe.tokenizer_2.apply_chat_template(_chat(prompt), tokenize=True),
    "chat, then called": lambda pipe, prompt: pipe.tokenizer_2(
        pipe.tokenizer_2.apply_chat_template(_chat(prompt), tokenize=False)
    ),
    "JSON": lambda pipe, prompt: pipe.tokenizer(json.dumps({"prompt": prompt, "width": len(prompt), "height": 64})),
    "a prefix apart": lambda pipe, prompt: [pipe.tokenizer(t) for t in ("You draw.", prompt, "So:")],
    "quoted parts": _quoted,
    "letters": _lettered,
    "in a processor": lambda pipe, prompt: pipe.processor(text=[f"user: {prompt} end"]),
}


class _Processor:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: list[str]) -> Any:
        return self.tokenizer(text)


def _reads(way: Callable[[Any, str], Any]) -> Reads:
    from tests.steering import zoo_parts as parts

    inside = _byte_tokenizer()
    return Reads(
        way, tokenizer=parts.clip_tokenizer(), tokenizer_2=_byte_tokenizer(), processor=_Processor(inside), unet=None
    )


@pytest.mark.parametrize("way", WAYS)
def test_what_a_pipeline_says_around_a_text_is_known_and_hidden_words_in_it_are_not(way: str) -> None:
    from steering import UnjudgedText

    prompt = 'a sign that says "HELLO 42" and\n"a \\ b" in 3 colours'
    pipe = _reads(WAYS[way])
    pipe([prompt, 'a hat "X"'], [prompt, 'a hat "X"'])
    for hidden in (f"{prompt} gun", f"gun {prompt}", prompt.replace("sign", "gun"), prompt.replace("HELLO", "GUN")):
        with pytest.raises(UnjudgedText):
            pipe([hidden], [prompt])
    with pytest.raises(UnjudgedText):
        pipe(["\U0001f52b"], [prompt])
    assert len(pipe.asked) in (0, 2)  # learned at once, and not again
    pipe([prompt], [prompt])
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2, pipe.processor.tokenizer):
        assert not {"_encode_plus", "tokenize", "_decode"} & set(vars(tokenizer))


@pytest.mark.parametrize("apart", [False, True])
def test_what_changes_from_call_to_call_is_not_learned(apart: bool) -> None:
    from steering import UnjudgedText

    words = iter(["one", "two", "three", "two"])  # the call, both that are to be learned from, and the call again

    def way(pipe: Any, prompt: str) -> None:
        for text in [next(words), prompt] if apart else [f"{next(words)}: {prompt}"]:
            pipe.tokenizer(text)

    with pytest.raises(UnjudgedText):
        _reads(way)(["a hat"], ["a hat"])


# rewriters


@pytest.fixture(scope="module")
def rewriting() -> Any:
    """Stable Diffusion whose prompts a tiny GPT-2 goes on with, unless `use_pe` is off."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from steering import Host

    pipe = zoo.build("sd1")
    torch.manual_seed(3)
    size = len(pipe.tokenizer)
    config = GPT2Config(
        vocab_size=size, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=None
    )
    writer = GPT2LMHeadModel(config).eval()
    return rewrite_prompts(Host(pipe), lambda ids: writer.generate(ids, max_new_tokens=4, do_sample=False))


def _draw(host: Any, prompts: Sequence[str], **more: Any) -> torch.Tensor:
    call = zoo.CALL["sd1"] | {"output_type": "latent"} | more
    out = host.generate(prompts, plans=[None] * len(prompts), seeds=[7] * len(prompts), **call)
    return torch.as_tensor(out.images)


def test_what_a_rewriter_wrote_is_told_in_order_and_then_drawn(rewriting: Any) -> None:
    told: list[Sequence[str]] = []
    drawn = _draw(rewriting, [RED, GREEN], on_rewritten=told.append)
    written = [rewriting.pipe.rewritten(p) for p in (RED, GREEN)]
    assert [[text.strip() for text in texts] for texts in told] == [written]
    assert torch.equal(drawn, _draw(rewriting, written, **rewriting.rewriter_off))
    assert not torch.equal(drawn, _draw(rewriting, [RED, GREEN], **rewriting.rewriter_off))


def test_a_rewriter_that_nobody_listens_to_ends_the_call_and_so_does_an_objection(rewriting: Any) -> None:
    from steering import UnjudgedText
    from steering.attach import replaced

    class Objection(Exception): ...

    def object_(texts: Sequence[str]) -> None:
        raise Objection

    with replaced(rewriting.denoiser, "forward", _never):
        with pytest.raises(UnjudgedText, match=r"`tokenizer`.* switch its rewriter off, or judge its texts"):
            _draw(rewriting, [RED])
        with pytest.raises(Objection):
            _draw(rewriting, [RED], on_rewritten=object_)
        with pytest.raises(UnjudgedText, match="switch its rewriter off"):
            rewriting.capture(RED, seed=1, at=[0.5], **zoo.CALL["sd1"])
    assert rewriting.capture(RED, seed=1, at=[0.5], **zoo.CALL["sd1"], **rewriting.rewriter_off)


def test_switches_are_those_that_the_pipeline_takes(rewriting: Any) -> None:
    assert rewriting.rewriter_off == {"use_pe": False}
    assert asked("sd1").host.rewriter_off == {}


def _never(original: Any, *args: Any, **kwargs: Any) -> Any:
    raise AssertionError("the denoiser must not be called")


def _parameters(method: Any) -> list[str]:
    import inspect

    return list(inspect.signature(method.__call__ if hasattr(method, "components") else method).parameters)
