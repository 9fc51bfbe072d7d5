"""Finds the sites of a denoiser from its family's rules, in execution order.

It also works on the meta device: no weights are needed to know where text enters.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Literal

from torch import nn

from steering.errors import NotSupported
from steering.families.description import Family, PooledRule, SiteRule
from steering.families.spans import Span
from steering.sites import Site
from steering.values import Projected

__all__ = ["Placed", "find_pooled", "find_sites", "is_fused"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A site with its module and the rule that found it; `block` is the module around it, where the rule names a part
    of that.

    `text_width`, `output_width`, `context_width`: of the text that enters the module, of the picture's part of its
    output, and of the text's; the last is 0 where text goes no further.
    """

    site: Site
    module: nn.Module
    rule: SiteRule | PooledRule
    text_width: int
    output_width: int
    block: nn.Module | None = None
    context_width: int = 0

    @property
    def name(self) -> str:
        """The site's name on its host, with the stage's prefix if it has one."""
        return self.site.name

    def position(self, argument: str) -> int:
        """Where an argument stands when the module is called without names."""
        return _position(self.module, argument)

    def stream_position(self, argument: str) -> int:
        """Where the text stream stands when the block around is called without names."""
        assert self.block is not None
        return _position(self.block, argument)

    def projections(self) -> dict[Projected, str]:
        """Names of the linear projections in the module: `keys` and `values` of text, the picture's `queries`, and the
        `result` of attention. One that the site does not have is left out."""
        rule = self.rule
        if isinstance(rule, PooledRule):
            return {}
        names: dict[Projected, str] = dict(zip(("keys", "values"), rule.keys, strict=False))
        names["queries"] = rule.queries
        if not rule.out_of_block and len(rule.keys) > 1:
            names["result"] = rule.out
        if rule.fused is not None:
            names = {where: name for where, name in names.items() if where == "result"}
        return {where: name for where, name in names.items() if _is_linear(self.module, name)}

    @property
    def is_whole(self) -> bool:
        """Whether a donor's text replaces the prompt's whole or not at all: its mask says yes or no of each token, or
        rotations go with it."""
        rule, mask = self.rule, self.rule.mask
        beside = isinstance(rule, SiteRule) and bool(rule.companions or rule.beside)
        return beside or (mask is not None and mask.masked is None)

    @property
    def is_static(self) -> bool:
        """True where text depends on the prompt alone, though it is not as it was encoded."""
        return isinstance(self.rule, SiteRule) and self.rule.static

    @property
    def span(self) -> Span:
        """Where text lies in the sequences that the site reads."""
        rule = self.rule
        return Span(rule.span) if isinstance(rule, SiteRule) else Span()

    @property
    def entry(self) -> Span:
        """Where text lies in the argument that carries it: a module that gives two parts is given text alone."""
        alone = isinstance(self.rule, SiteRule) and self.rule.output in ("first", "second")
        return Span() if alone else self.span

    def readers(self) -> dict[Literal["keys", "values"], tuple[nn.Module, Span]]:
        """The modules that make keys and values of text, as they are now, and where these lie in what they give. Where
        there is no attention, one module makes what goes on, which is called `keys`.

        Raises: NotSupported, while diffusers has them fused.
        """
        rule = self.rule
        if isinstance(rule, PooledRule):
            return {}
        self._check_apart("keys")
        width = int(getattr(self.module, "inner_dim", 0))
        found: dict[Literal["keys", "values"], tuple[nn.Module, Span]] = {}
        names: tuple[Literal["keys", "values"], ...] = ("keys", "values")
        for n, (what, name) in enumerate(zip(names, rule.keys, strict=False)):
            columns = None if rule.fused is None else (rule.fused[n] * width, (rule.fused[n] + 1) * width)
            found[what] = self.module.get_submodule(name), Span(rule.span, columns)
        return found

    def _check_apart(self, where: str) -> None:
        if is_fused(self.module):
            raise NotSupported(
                f"site `{self.name}` has fused projections, so its {where} cannot be changed; call"
                " `unfuse_qkv_projections()`, or swap with mode `pinned`"
            )

    def projection(self, where: Projected) -> nn.Module:
        """One of the projections, as it is now: an adapter of peft puts another module in its place.

        Raises: NotSupported, when the site has none, or when keys and values were fused.
        """
        name = self.projections().get(where)
        if name is None:
            why = "its block projects it in one with more" if where == "result" else "nothing linear makes them there"
            raise NotSupported(f"site `{self.name}` has no projection of its own for its {where}: {why}")
        if where != "result":
            self._check_apart(where)
        return self.module.get_submodule(name)


def is_fused(module: nn.Module) -> bool:
    """True while a module reads its fused projections; where diffusers undoes that, one class keeps the mark, and only
    its processor tells."""
    processor = type(getattr(module, "processor", None)).__name__
    marked = bool(getattr(module, "fused_projections", False))
    return marked and (type(module).__name__ != "Attention" or processor.startswith("Fused"))


def find_sites(family: Family, denoiser: nn.Module, prefix: str = "") -> tuple[Placed, ...]:
    """The sites of a denoiser in execution order. Raises: NotSupported, when it is not the family's or has none."""
    if type(denoiser).__name__ != family.denoiser_class:
        raise NotSupported(
            f"denoiser of a {family.name} pipeline must be `{family.denoiser_class}`, got `{type(denoiser).__name__}`"
        )
    modules = dict(denoiser.named_modules())
    found = [
        _place(name, module, rule, modules, prefix)
        for name, module in modules.items()
        for rule in family.sites
        if _fits(rule, name, module)
    ]
    if not found:
        raise NotSupported(
            f"found no place where text enters this `{family.denoiser_class}`; its blocks have no cross-attention"
        )
    if family.order:
        found.sort(key=lambda p: family.order.index(p.name.removeprefix(prefix).split(".")[0]))
    return tuple(found)


def find_pooled(family: Family, denoiser: nn.Module, prefix: str = "") -> tuple[Placed, ...]:
    """The global sites of a denoiser; empty when no pooled text enters it."""
    modules = dict(denoiser.named_modules())
    found = [(rule, modules[rule.module]) for rule in family.pooled if rule.module in modules]
    return tuple(Placed(Site(prefix + r.module, "global", _params(m)), m, r, 0, 0) for r, m in found)


def _is_linear(module: nn.Module, name: str) -> bool:
    try:
        return hasattr(module.get_submodule(name), "in_features")
    except AttributeError:
        return False


def _fits(rule: SiteRule, name: str, module: nn.Module) -> bool:
    if not re.fullmatch(rule.pattern, name) or type(module).__name__ != rule.module_class:
        return False
    return hasattr(module, rule.keys[0]) and (not rule.if_cross or bool(getattr(module, "is_cross_attention", False)))


def _place(name: str, module: nn.Module, rule: SiteRule, modules: dict[str, nn.Module], prefix: str) -> Placed:
    site = Site(prefix + name, rule.kind, _params(module))
    keys = getattr(module, rule.keys[0])
    block = modules[name.rpartition(".")[0]] if rule.stream or rule.before else None
    out = int(getattr(module, "out_dim", 0)) or _width_of(module, rule.out)
    picture, context = (0, out) if rule.output == "text" else (out, _context_width(rule, module, out))
    return Placed(site, module, rule, int(keys.in_features), picture, block, context)


def _width_of(module: nn.Module, name: str) -> int:
    try:
        return int(module.get_submodule(name).out_features)  # type: ignore[arg-type]
    except AttributeError:
        return 0


def _context_width(rule: SiteRule, module: nn.Module, picture: int) -> int:
    if rule.output == "sequence":
        return picture
    back = getattr(module, "to_add_out", None)
    return int(back.out_features) if rule.output in ("first", "second") and back is not None else 0


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _position(module: nn.Module, argument: str) -> int:
    """Where an argument stands among a module's; behind all, for one that it hands on without a name of its own.

    Raises: NotSupported, for a module that takes none of that name.
    """
    taken = inspect.signature(module.forward).parameters
    if argument not in taken and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        raise NotSupported(f"`{type(module).__name__}` takes no `{argument}`, by which a site would be given its text")
    names = list(taken)
    return names.index(argument) if argument in names else len(names)
