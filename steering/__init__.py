"""How pictures are steered: hosts, sites, interventions, packs. The only room that touches a model's forward pass."""

# ruff: noqa: E402  (the cure for torchvision has to run before anything below imports transformers)

from palimpsest_base import torchvision

torchvision.install()

from steering.batch.edit_merging import merge_edits
from steering.editing.latents import fitted_to, latent_maps, latents_of
from steering.editing.masks import check_mask, mask_of, paste, scaled
from steering.editing.trajectory import Kept, Trajectory
from steering.errors import (
    BadDonor,
    BadFamily,
    BadLayout,
    BadLora,
    BadModel,
    BadPack,
    BadPlan,
    BrokenPicture,
    HostBusy,
    HostShared,
    NeedsRows,
    NotFinite,
    NotFired,
    NotSupported,
    PackError,
    PackMismatch,
    PackNotFound,
    SteeringError,
    UnjudgedText,
    UnknownSite,
    Untrusted,
)
from steering.families.defaults import Defaults
from steering.families.fingerprint import Fingerprint, HostFacts, Likeness
from steering.host import Host
from steering.measure.activations import Activations, has_place, record
from steering.measure.blends import Blend
from steering.measure.replay import Call
from steering.measure.selftest import Check, SelfTest
from steering.packs.block_map import MappedSite, block_map
from steering.packs.checks import check_concept
from steering.packs.lookup import find_pack, is_pack, pack_file, pack_roots, published_packs
from steering.packs.lora import Adapter, operators_of_lora, read_lora, write_lora
from steering.packs.pack import Pack, read_header
from steering.packs.parts import CalibrationPoint, Choice
from steering.plans import Edit, Plan, Swap, Window
from steering.run.loras import LoraFile, check_lora, find_lora
from steering.run.report import Edited, Output, PictureReport, Shape
from steering.sentinel import Sentinel, SentinelReading
from steering.sites import Site
from steering.values import Donor, Operator

__all__ = [
    "Activations",
    "Adapter",
    "BadDonor",
    "BadFamily",
    "BadLayout",
    "BadLora",
    "BadModel",
    "BadPack",
    "BadPlan",
    "Blend",
    "BrokenPicture",
    "CalibrationPoint",
    "Call",
    "Check",
    "Choice",
    "Defaults",
    "Donor",
    "Edit",
    "Edited",
    "Fingerprint",
    "Host",
    "HostBusy",
    "HostFacts",
    "HostShared",
    "Kept",
    "Likeness",
    "LoraFile",
    "MappedSite",
    "NeedsRows",
    "NotFinite",
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
    "Sentinel",
    "SentinelReading",
    "Shape",
    "Site",
    "SteeringError",
    "Swap",
    "Trajectory",
    "UnjudgedText",
    "UnknownSite",
    "Untrusted",
    "Window",
    "block_map",
    "check_concept",
    "check_lora",
    "check_mask",
    "find_lora",
    "find_pack",
    "fitted_to",
    "has_place",
    "is_pack",
    "latent_maps",
    "latents_of",
    "mask_of",
    "merge_edits",
    "operators_of_lora",
    "pack_file",
    "pack_roots",
    "paste",
    "published_packs",
    "read_header",
    "read_lora",
    "record",
    "scaled",
    "write_lora",
]
