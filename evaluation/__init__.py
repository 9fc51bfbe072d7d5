"""How well it works: prompt sets, readers, baselines and tables; the only place where quality tables are made.

`cases` makes prompts, `answers` asks a service, `reader` and the reference judge look at pictures, `metrics` turns
outcomes into rates with intervals, and `lettering`, `concepts` and `model` are one table each; the modules that begin
with `town` do the same for models of the world's second step.
"""

import palimpsest_torchvision

palimpsest_torchvision.install()

from evaluation.answers import Answer, Answerer, HttpAnswerer  # noqa: E402  (torchvision's remedy comes before torch)
from evaluation.cases import Case, load_word_list  # noqa: E402
from evaluation.concepts import concept_row  # noqa: E402
from evaluation.evasions import drawable_evasions  # noqa: E402
from evaluation.eyes import FIRST, TOWN, Eyes, eyes_of  # noqa: E402
from evaluation.lettering import benign_row, lettering_row  # noqa: E402
from evaluation.metrics import Rate  # noqa: E402
from evaluation.model import model_report, read_words  # noqa: E402
from evaluation.reader import Reader  # noqa: E402
from evaluation.town_model import TownEyes, below_bar, town_report  # noqa: E402

__all__ = [
    "FIRST",
    "TOWN",
    "Answer",
    "Answerer",
    "Case",
    "Eyes",
    "HttpAnswerer",
    "Rate",
    "Reader",
    "TownEyes",
    "below_bar",
    "benign_row",
    "concept_row",
    "drawable_evasions",
    "eyes_of",
    "lettering_row",
    "load_word_list",
    "model_report",
    "read_words",
    "town_report",
]
