"""What every test needs before anything of ours is imported.

BentoML reads its home and the Prometheus client its folder when they are imported, so both are set here, first. Two
servers that share a home destroy each other's metrics: every server that a test starts gets a home of its own.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

_HOME = Path(tempfile.mkdtemp(prefix="palimpsest-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
(_HOME / "prometheus").mkdir()
os.environ.update(
    BENTOML_HOME=str(_HOME / "bentoml"),
    BENTOML_DO_NOT_TRACK="True",
    PROMETHEUS_MULTIPROC_DIR=str(_HOME / "prometheus"),
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    XDG_STATE_HOME=str(_HOME / "state"),
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)
# the settings of whoever runs the tests must not reach them
for _name in [n for n in os.environ if n.startswith("PALIMPSEST_")]:
    del os.environ[_name]

from palimpsest_base import torchvision  # noqa: E402  (it must stand before torch, and after the environment)

torchvision.install()

import torch  # noqa: E402  (as above)

torch.set_num_threads(1)
# a service or a command without the setting `threads` takes all cores for the rest of the process: where several
# processes run tests, their threads then wait for each other, up to a hundred times as long as one takes
torch.set_num_threads = lambda count: None
# among the objects of torch and diffusers, Python's own thresholds made collections a seventh of the time of all tests
gc.set_threshold(20_000, 20, 20)
