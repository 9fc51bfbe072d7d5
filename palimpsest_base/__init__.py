"""What every room may use and no room owns: near names in errors, intervals of shares, plug-ins, torchvision's cure.

Nothing here imports a room, torch or diffusers at module level.
"""

__all__: list[str] = []
