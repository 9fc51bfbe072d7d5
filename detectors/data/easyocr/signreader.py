"""A small recognition network for EasyOCR: names the letter, if any, in each column of a line of lettering.

EasyOCR imports this file by its name as a user's network (`user_network_directory`), so it stands by itself. Trained
on true pictures of the town by `python -m evaluation.training.detectors reader`.
"""

import torch

__all__ = ["Model"]


class Model(torch.nn.Module):
    """[b, 1, 32, w] in [-1, 1] to class scores [b, w / 4, num_class]; class 0 is the blank."""

    def __init__(self, num_class: int, width: int) -> None:
        super().__init__()

        def layer(a: int, b: int, stride: tuple[int, int]) -> torch.nn.Module:
            norm = torch.nn.GroupNorm(8, b)
            return torch.nn.Sequential(torch.nn.Conv2d(a, b, 3, stride, 1, bias=False), norm, torch.nn.SiLU())

        self.body = torch.nn.Sequential(
            layer(1, width, (2, 2)),
            layer(width, 2 * width, (2, 2)),
            layer(2 * width, 2 * width, (2, 1)),
            layer(2 * width, 2 * width, (2, 1)),
        )
        self.columns = torch.nn.Sequential(
            torch.nn.Conv1d(4 * width, 4 * width, 5, 1, 2),
            torch.nn.SiLU(),
            torch.nn.Conv1d(4 * width, num_class, 3, 1, 1),
        )

    def forward(self, x: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """`text` is what EasyOCR passes to every network; a network without memory has no use for it."""
        scores: torch.Tensor = self.columns(self.body(x).flatten(1, 2))
        return scores.transpose(1, 2)
