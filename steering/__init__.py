"""How: hosts, sites, interventions, packs; the only room that touches a model's forward pass."""

# ruff: noqa: E402  (the cure for torchvision has to run before anything below imports transformers)

import palimpsest_torchvision

palimpsest_torchvision.install()

from .blends import Blend
from .combine import merge_edits
from .defaults import Defaults
from .errors import (
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
from .fingerprint import Fingerprint, Likeness
from .host import Host
from .pack_checks import check_concept
from .pack_parts import CalibrationPoint, Choice
from .packs import Pack
from .plans import Edit, Plan, Swap, Window
from .replay import Call
from .report import Output, PictureReport, Shape
from .samples import Activations, has_place, record
from .selftest import Check, SelfTest
from .shelf import find_pack, pack_file, pack_roots, published_packs
from .sites import Site
from .values import Donor, Operator

__all__ = [
    "Activations",
    "BadDonor",
    "BadLayout",
    "BadModel",
    "BadPack",
    "BadPlan",
    "Blend",
    "CalibrationPoint",
    "Call",
    "Check",
    "Choice",
    "Defaults",
    "Donor",
    "Edit",
    "Fingerprint",
    "Host",
    "HostBusy",
    "HostShared",
    "Likeness",
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
    "check_concept",
    "find_pack",
    "has_place",
    "merge_edits",
    "pack_file",
    "pack_roots",
    "published_packs",
    "record",
]
