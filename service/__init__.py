"""When: HTTP in, decide, plan, run, check, answer; metrics, audit, and the command line.

The room composes the others and owns nothing that they could own: whether is `policies`, what is `detectors`, how
is `steering`. Importing it costs nothing; each module imports what it composes.
"""

from palimpsest_base import torchvision

torchvision.install()

__all__: list[str] = []
