"""The types that describe a model family: where text enters, how it is encoded, how rows are laid out.

The descriptions are data; `table` holds those of this project. The behaviour is code in other modules, once for all
families. A new family is a record in `records` and a tiny pipeline in the tests' list, or a `Family` of another package
under the entry points `palimpsest.families`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steering.sites import SiteKind

__all__ = ["DISTILLED", "Encode", "Family", "Inputs", "MaskRule", "PooledRule", "SiteRule"]

# diffusers writes this entry into the configuration of a U-Net that takes guidance as an input
DISTILLED = "time_cond_proj_dim"


@dataclass(frozen=True, slots=True)
class MaskRule:
    """The mask that travels with the text: `argument` of the site, additive [b, 1, l] with `masked` where a token is
    hidden, or without `masked` [b, l], true where one is shown."""

    argument: str
    masked: float | None = None

    def shown(self, mask: Any) -> Any:
        """The tokens [b, l] that a mask shows."""
        return mask.bool() if self.masked is None else mask[:, 0] > self.masked / 2


@dataclass(frozen=True, slots=True)
class SiteRule:
    """Which modules are sites, and how text enters them.

    * `pattern`: full match of the module's name; `module_class`: the name of its class.
    * `text`: the argument of the module that carries text, or one sequence of text and picture.
    * `keys`: the projections, by attribute, that make keys and values of text, or where there is no attention, the one
      that makes what goes on; `queries`: the one of the picture's queries.
    * `static`: the text there depends on the prompt alone, on no picture and no time, so a donor needs no row.
    * `span`: where text lies in what those projections read and make: `all` of it, or in one sequence with the picture
      the tokens `first` or `last`. What is not the picture's counts as text: padding, registers, glyphs.
    * `fused`: one projection makes more than keys: these parts of its output, each as wide as the module's `inner_dim`,
      are keys and values.
    * `companions`: arguments of the module with an entry a row that go with the text of a row: masks, rotations.
      `beside`: such arguments of the denoiser.
    * `stream`: the argument of the block around a joint site that carries the text stream; None for `cross`.
      `stream_span`: where text lies in it; `stream_rows`: its axis of rows, where that of tokens is the other of the
      first two.
    * `before`: the module of the block around a cross site that its text passes, at each site anew.
    * `if_cross`: only modules whose `is_cross_attention` says so (some U-Nets read text in `attn1` as well).
    * `out`: the projection after attention, by name in the module, or with `out_of_block` in the block around, where it
      takes attention's output first and more beside it; `gate`: the block's module whose second result scales it.
    * `output`: how the picture's part lies in the module's output: `tokens` [b, n, d], `channels` [b, d, h, w], `heads`
      [b, n, heads, d / heads], the `first` or `second` of a tuple of tokens (the other is the text's), one `sequence`
      with the text, as by `span`, or nowhere: all of it is `text`.
    """

    pattern: str
    module_class: str
    kind: SiteKind
    keys: tuple[str, ...]
    text: str = "encoder_hidden_states"
    mask: MaskRule | None = None
    span: Literal["all", "first", "last"] = "all"
    fused: tuple[int, int] | None = None
    companions: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    static: bool = False
    before: str | None = None
    if_cross: bool = False
    stream: str | None = None
    stream_span: Literal["all", "first", "last"] = "all"
    stream_rows: Literal[0, 1] = 0
    output: Literal["tokens", "channels", "heads", "first", "second", "sequence", "text"] = "tokens"
    queries: str = "to_q"
    out: str = "to_out.0"
    out_of_block: bool = False
    gate: str | None = None


@dataclass(frozen=True, slots=True)
class PooledRule:
    """Where pooled text enters the timestep modulation: a global site.

    `argument` of `module`, a path in the denoiser, carries it; with `leading` it is the first columns of a longer
    vector (SDXL: sizes follow). `source`: which of the encoder's results it is; text that the model pools itself may
    come `projected` as that of the sites, and with a `mask`; a `mean` is that of the text's shown tokens.
    """

    module: str
    argument: str
    source: Literal["pooled", "text", "mean"] = "pooled"
    leading: bool = False
    projected: bool = False
    mask: MaskRule | None = None

    @property
    def encoded(self) -> Literal["pooled", "text"]:
        """Which of the encoder's results it is made of."""
        return "text" if self.source == "mean" else self.source


@dataclass(frozen=True, slots=True)
class Encode:
    """How the pipeline encodes prompts: the method, its arguments' names, and what it returns, in order.

    A result that is a list with the text of each row, and nothing beside it, is `listed`.
    """

    guidance: str | None  # the argument that asks for uncond rows
    cleared: tuple[str, ...]  # arguments that belong to the request, not to the way of encoding
    returns: tuple[str, ...]  # of text, mask, pooled, negative_text, negative_mask, negative_pooled, and others
    encoders: tuple[str, ...]  # the components whose weights decide the result; the first must be there
    method: str = "encode_prompt"
    prompt: str = "prompt"
    images: str | None = "num_images_per_prompt"  # None: the method has no such argument, so prompts are repeated
    listed: bool = False
    longest: bool = False  # texts are only as long as the longest of a call, so longer donors make them longer
    calls: int = 1  # how often a call of the pipeline encodes its prompts: of several encoders, the last one counts

    def named(self, result: Any) -> dict[str, Any]:
        """What the method returned, by the names of `returns`."""
        if self.listed:
            return {self.returns[0]: result}
        return dict(zip(self.returns, result if isinstance(result, tuple | list) else (result,), strict=False))


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of the denoiser: which carry text, and which have no axis of rows.

    `patch` and `multiple` say how many tokens a picture has in a sequence: latents [b, n, c] have n, others are cut
    into patches of that side, and the number is rounded up. `axes`: of latents that are cut, where these are not all
    behind the channels. `oblong`: the attribute of the denoiser that says how many tokens a picture has that is not
    square. `ragged`: the argument [b, l] that is 1 for each token of text that a row has, where the picture's tokens
    come right behind these, at another place in each row. `room`: the latents [b, n, c] begin with room for text, of as
    many tokens as this argument of the encoding method says. `cached`: an argument and the value that it has in calls
    that read text from a cache, and the argument with the cache.
    """

    text: str = "encoder_hidden_states"
    mask: str | None = None
    beside: tuple[str, ...] = ()  # further arguments that come with a row's text: single calls cannot be reworded
    pooled: tuple[str, ...] | None = None  # a path: an argument, then a key of it
    shared: tuple[str, ...] = ()
    along: tuple[str, ...] = ()  # further ones with an entry for each token, text first: 0 where a token is text
    skips: str | None = None  # indices of blocks that a call leaves out (skip-layer guidance)
    compared: bool = True  # False: the text is not what the encoder gave, so the order of calls and rows is believed
    cached: tuple[str, str, str] | None = None
    patch: str = "patch_size"  # an entry of the denoiser's configuration: a side, sides, or the possible ones
    multiple: int = 1
    axes: tuple[int, ...] | None = None
    oblong: str | None = None
    room: str | None = None
    ragged: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """One family of pipelines that are steered alike."""

    name: str
    pipelines: tuple[str, ...]
    denoiser: str  # name of the component
    denoiser_class: str
    sites: tuple[SiteRule, ...]
    encode: Encode
    guidance: Literal["uncond-first", "cond-first", "sequential"]
    pictures: str | None = "num_images_per_prompt"  # of the pipeline's call; None: prompts are repeated
    result: Literal["images", "image", "frames"] = "images"  # the attribute of what a call gives
    others: tuple[str, ...] = ()  # further denoisers of the class, by component: experts, one for the uncond rows
    inputs: Inputs = field(default_factory=Inputs)
    projection: tuple[str, ...] = ()  # modules of a denoiser that text passes before the first site, in order
    pooled: tuple[PooledRule, ...] = ()
    order: tuple[str, ...] = ()  # first parts of names in execution order, where `named_modules` has another
    spare_timesteps: int = 0  # at the end of the scheduler's list, never run
    image: Literal["none", "picture", "latents"] = "none"  # what the pipeline starts from beside text
    handed_on: str = "latent"  # output_type of a stage whose pictures a later one takes
    small_call: Mapping[str, Any] = field(default_factory=dict)  # arguments of a small quick call, for the self-test
    small_latent: int = 8  # rows and columns of latents in it
    fewest_steps: int = 1  # denoising steps that the pipeline can run with
    one_step_schedulers: tuple[str, ...] = ()  # classes of schedulers with which one step is enough all the same
    negatives_each: bool = False  # a negative prompt is given for each prompt, empty ones too
    negative_scale: str = "guidance_scale"  # the argument that must be above `guided_above` for negative prompts
    guided_above: float = 1.0
    distilled: str | None = None  # entry of the denoiser's configuration that is set when guidance is one of its inputs

    @property
    def joint(self) -> bool:
        """True when text is a stream that evolves with the picture, so that a donor needs a row or a recording."""
        return any(rule.kind == "joint" for rule in self.sites)

    @property
    def needs_twin(self) -> bool:
        """True when a donor's text is known only beside its picture: it needs a row of the batch, or a recording."""
        return any(rule.kind == "joint" and not rule.static for rule in self.sites)
