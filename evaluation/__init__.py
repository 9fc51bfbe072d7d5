"""How well it works: prompt sets, readers, baselines and tables; the only place where quality tables are made.

`cases` makes prompts of the town, `draw` their pictures, `answers` asks a service, `judges` are the reader and the judges
who look at pictures, `metrics` turns outcomes into rates with intervals; `lettering`, `concepts`, `baselines`,
`model`, `localization`, `erasure`, `curves` and `detectors` are one table each. `peers` are others' guidance, which
`baselines` draws with; `benchmarks` reads prompts of other people's, and `prompts` is their table.
"""

from palimpsest_base import torchvision

torchvision.install()

from evaluation.answers import Answer, Answerer, HttpAnswerer  # noqa: E402  (torchvision's remedy comes before torch)
from evaluation.metrics import Rate  # noqa: E402
from evaluation.prompts.cases import Case, load_word_list  # noqa: E402
from evaluation.prompts.evasions import drawable_evasions  # noqa: E402
from evaluation.readers.judges import Judges, read_words  # noqa: E402
from evaluation.readers.reader import Reader  # noqa: E402
from evaluation.tables.concepts import concept_row, near_neighbours, neighbour_row  # noqa: E402
from evaluation.tables.lettering import benign_row, lettering_row  # noqa: E402
from evaluation.tables.model import below_bar, model_report  # noqa: E402

__all__ = [
    "Answer",
    "Answerer",
    "Case",
    "HttpAnswerer",
    "Judges",
    "Rate",
    "Reader",
    "below_bar",
    "benign_row",
    "concept_row",
    "drawable_evasions",
    "lettering_row",
    "load_word_list",
    "model_report",
    "near_neighbours",
    "neighbour_row",
    "read_words",
]
