"""How well it works: prompt sets, readers, baselines and the quality tables, which are made nowhere else.

* `prompts/`: prompt sets of the town, disguised prompts, and loaders for public benchmarks.
* `readers/`: the trained reader and the judges that score pictures.
* `training/`: trains the small text models that the detectors ship.
* `tables/`: one module per table; `peers` holds other authors' guidance methods, which `baselines` draws with.
* `p2p`: Prompt-to-Prompt, which `tables/editing` is compared with.
* `draw` draws pictures, `answers` asks a service, `metrics` turns outcomes into rates with intervals.
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
