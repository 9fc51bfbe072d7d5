"""How: hosts, sites, interventions, packs; the only room that touches a model's forward pass."""

import palimpsest_torchvision

palimpsest_torchvision.install()  # before anything below imports transformers

from .errors import (  # noqa: E402  (the line above has to come first)
    BadDonor,
    BadLayout,
    BadModel,
    BadPack,
    BadPlan,
    HostBusy,
    HostShared,
    NeedsRows,
    NotFired,
    NotSupported,
    PackError,
    PackMismatch,
    PackNotFound,
    SteeringError,
    UnknownSite,
    Untrusted,
)
from .host import Check, Defaults, Fingerprint, Host, Output, PictureReport, SelfTest, Shape  # noqa: E402
from .packs import CalibrationPoint, Choice, Pack, find_pack, pack_roots  # noqa: E402
from .plans import Donor, Edit, Operator, Plan, Swap, Window  # noqa: E402
from .sites import Site  # noqa: E402

__all__ = [
    "BadDonor",
    "BadLayout",
    "BadModel",
    "BadPack",
    "BadPlan",
    "CalibrationPoint",
    "Check",
    "Choice",
    "Defaults",
    "Donor",
    "Edit",
    "Fingerprint",
    "Host",
    "HostBusy",
    "HostShared",
    "NeedsRows",
    "NotFired",
    "NotSupported",
    "Operator",
    "Output",
    "Pack",
    "PackError",
    "PackMismatch",
    "PackNotFound",
    "PictureReport",
    "Plan",
    "SelfTest",
    "Shape",
    "Site",
    "SteeringError",
    "Swap",
    "UnknownSite",
    "Untrusted",
    "Window",
    "find_pack",
    "pack_roots",
]
