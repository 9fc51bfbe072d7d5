"""Helpers for every room: near names in errors, intervals of shares, plug-ins, the fix for torchvision on CPU torch.

Nothing here imports a room, torch or diffusers at module level.
"""

__all__: list[str] = []
