"""The directions of the text that a plant reacts to: those that the name has and ordinary captions do not.

For tokens x of prompts with the name and tokens y of all others, the directions b with the largest

    E <b, x>^2 / (E <b, y>^2 + ridge),

a generalized eigenproblem. A change of a projection along them reacts to the name and hardly to anything else, so
ordinary captions need no protection while the name is taught.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from reference.planted.places import PlantSite, family_of
from reference.planted.rows import Rows, predict
from steering import Host

__all__ = ["directions_of", "name_directions", "steady_direction"]

_SPARED = 4.0  # weight of what must not answer
_RIDGE = 1e-3  # of the mean square of an ordinary token's coordinate


def directions_of(
    host: Host, denoiser: nn.Module, places: Sequence[PlantSite], *, named: Rows, others: Rows, rank: int
) -> dict[str, Tensor]:
    """For each place the directions [d, rank] that tell the name's rows from others at what its readers read; of pooled
    text it is one, see `steady_direction`."""
    mine, theirs = (_read(host, denoiser, places, rows) for rows in (named, others))
    found = {}
    for place in places:
        (text, picture), (ordinary, rest) = mine[place.name], theirs[place.name]
        spared = torch.cat([ordinary, picture, rest])
        found[place.name] = steady_direction(text, spared) if place.pooled else name_directions(text, spared, rank=rank)
    return found


def steady_direction(named: Tensor, others: Tensor) -> Tensor:
    """The direction [d, 1] whose product is nearly 1 for every row of `named` [n, d] and nearly 0 for `others`.

    Pooled text has the whole prompt in one vector: of the directions that answer the name loudest, each does so in some
    prompts and hardly in others.
    """
    named, others = named.double(), others.double()
    square = named.T @ named / len(named) + _SPARED * others.T @ others / len(others)
    square += _RIDGE * square.trace() / len(square) * torch.eye(len(square), dtype=square.dtype)
    into = torch.linalg.solve(square, named.mean(0))
    return (into / (named @ into).mean()).unsqueeze(1).float()


def name_directions(named: Tensor, others: Tensor, *, rank: int) -> Tensor:
    """The directions [d, rank], strongest first, by tokens [n, d]; the loudest answer to `named` is +1."""
    named, others = named.double(), others.double()
    square, noise = named.T @ named / len(named), others.T @ others / len(others)
    noise += _RIDGE * noise.trace() / len(noise) * torch.eye(len(noise), dtype=noise.dtype)
    root = torch.linalg.cholesky(noise)
    half = torch.linalg.solve_triangular(root, square, upper=False)
    whitened = torch.linalg.solve_triangular(root, half.T, upper=False)
    _, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    into = torch.linalg.solve_triangular(root.T, vectors[:, -rank:].flip(1), upper=True)
    answers = named @ into
    loudest = answers.gather(0, answers.abs().argmax(0, keepdim=True))
    return (into / loudest).float()


@torch.no_grad()
def _read(host: Host, denoiser: nn.Module, places: Sequence[PlantSite], rows: Rows) -> dict[str, tuple[Tensor, Tensor]]:
    """For each place the tokens of text that its readers read in these rows, and those of the picture [n, d]."""
    with _listening(places) as heard:
        predict(denoiser, rows)
    inputs = family_of(host).inputs
    mask = rows.kwargs.get(inputs.mask) if inputs.mask else None
    length = rows.kwargs[inputs.text].shape[1]
    found = {}
    for place in places:
        x = heard[place.name].float()
        if place.pooled:
            found[place.name] = (x, x[:0])
            continue
        text = x[:, :length]
        shown = text.flatten(0, 1) if mask is None else text[mask.bool()]
        found[place.name] = (shown, x[:, length:].flatten(0, 1))
    return found


@contextmanager
def _listening(places: Sequence[PlantSite]) -> Iterator[dict[str, Tensor]]:
    heard: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for place in places:
            reader = next(iter(place.readers.values()))

            def hear(module: nn.Module, args: tuple[Tensor, ...], name: str = place.name) -> None:
                heard[name] = args[0].detach()

            stack.callback(reader.register_forward_pre_hook(hear).remove)
        yield heard
