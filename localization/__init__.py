"""Which sites of a host carry a concept, how few are enough, and with what evidence.

* `contrasts` and `prompts`: pairs of prompts that differ in the concept.
* `measure/`: what a set of sites carries. Work is cut into `cells`, which `executors` answer in this process, from
  files, or on other machines.
* `search/`: `screen` scores all sites cheaply, and `choose` finds the smallest set that carries enough.
* `run` checks the set on other contrasts and on pictures, and makes a pack; `report` shows it.
* `fit` makes edits for the sites that were found, `fit_methods` has the methods, `calibrate` measures doses, and
  `edit_packs` does all of it for one pack.
"""

from palimpsest_base import torchvision

torchvision.install()

from localization.calibrate import Curve, Setup, Way, calibrate, measure_dose  # noqa: E402
from localization.contrasts import Contrast, Shares, check_contrasts  # noqa: E402
from localization.edit_packs import Fitted, calibrated, fit_pack, with_edit  # noqa: E402
from localization.errors import BadContrasts, LocalizationError, NotDrawn, NotKept  # noqa: E402
from localization.fit import FitRecipe, fit_edit  # noqa: E402
from localization.fit_methods import Fitter, Samples  # noqa: E402
from localization.measure.cells import Cell, Treatment  # noqa: E402
from localization.measure.executors import Executor, KeptExecutor, LocalExecutor  # noqa: E402
from localization.measure.questions import Bench  # noqa: E402  (torchvision's remedy comes before torch)
from localization.measure.witnesses import witness_lettering, witness_score  # noqa: E402
from localization.measure.worker import Witness, Worker  # noqa: E402
from localization.prompts import concept_contrasts, control_contrasts, lettering_contrasts, load_contrasts  # noqa: E402
from localization.run import Outcome, localize  # noqa: E402
from localization.search.choose import Grown, choose_ranked, choose_sites  # noqa: E402
from localization.search.screen import METHODS, Screen, screen  # noqa: E402
from localization.search.smallest_set import Aim, Found, Search, find_sites  # noqa: E402

__all__ = [
    "METHODS",
    "Aim",
    "BadContrasts",
    "Bench",
    "Cell",
    "Contrast",
    "Curve",
    "Executor",
    "FitRecipe",
    "Fitted",
    "Fitter",
    "Found",
    "Grown",
    "KeptExecutor",
    "LocalExecutor",
    "LocalizationError",
    "NotDrawn",
    "NotKept",
    "Outcome",
    "Samples",
    "Screen",
    "Search",
    "Setup",
    "Shares",
    "Treatment",
    "Way",
    "Witness",
    "Worker",
    "calibrate",
    "calibrated",
    "check_contrasts",
    "choose_ranked",
    "choose_sites",
    "concept_contrasts",
    "control_contrasts",
    "find_sites",
    "fit_edit",
    "fit_pack",
    "lettering_contrasts",
    "load_contrasts",
    "localize",
    "measure_dose",
    "screen",
    "with_edit",
    "witness_lettering",
    "witness_score",
]
