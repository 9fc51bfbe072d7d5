"""What localization costs on hosts of 12, 24 and 28 sites, beside both papers: row evaluations, not seconds.

    python -m tests.bench.localization_cost

The hosts are tiny and random; three sites are made to carry nearly all, so that there is something to find. A row
evaluation is one row through the denoiser once; a backward pass counts two. The exhaustive way asks each site alone,
with 20 prompts of 20 steps. Two papers' procedures get the same 4 prompts: paper A is Staniszewski et al. (arXiv
2502.09935), which drew 200 pictures per site, and paper B is Zarei et al. (arXiv 2505.18832).
Paper A looks at pictures; a witness that sees the concept in plain ones and in no other stands in, so that its search
ends at once: what is shown is the least that it can cost, and not what it finds.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from localization import Aim, Bench, LocalExecutor, Search, Worker, find_sites
from localization.prompts import lettering_contrasts
from localization.search.published import as_published_a, as_published_b
from palimpsest.cli.shared.console import keep, table
from steering import Host
from tests.tiny import save_pixart

RESULTS = Path(__file__).parent / "results" / "localization_cost.json"
SIZES = (12, 24, 28)
METHODS = ("gradient", "contribution", "patching")
CONTRASTS, STEPS, EACH = 4, 20, 400


def main() -> None:
    """Measures all hosts, prints the table and writes it."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for layers in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            rows += host_rows(Path(folder), layers)
    keep({"contrasts": CONTRASTS, "steps of pictures and of paper B's runs": STEPS, "rows": rows}, RESULTS, json_=False)
    table("row evaluations to look and choose", rows)


def host_rows(folder: Path, layers: int) -> list[dict[str, Any]]:
    """A row for each way on one host."""
    model = save_pixart(folder / "model", layers=layers, seed=0)
    defaults = model / "defaults.json"
    defaults.write_text(json.dumps(json.loads(defaults.read_text("utf-8")) | {"num_inference_steps": STEPS}), "utf-8")
    host = Host.load(model, self_test=False)
    carriers = {host.sites[i].name for i in (3, layers // 2, layers - 2)}
    with torch.no_grad():
        for site in host.sites:
            host.pipe.transformer.get_submodule(site.name).to_v.weight.mul_(3.0 if site.name in carriers else 0.02)
    contrasts, executor = lettering_contrasts(CONTRASTS, seed=1), LocalExecutor(Worker(host, _PlainOnly()))

    def row(way: str, cost: int, found: int | None) -> dict[str, Any]:
        share = f"1/{layers * EACH / cost:.3g}"
        return {"sites": layers, "way": way, "rows": cost, "of the exhaustive way": share, "carriers found": found}

    told = [row("each site alone, 20 prompts", layers * EACH, None)]
    for method in METHODS:
        how = Search(method=method).for_sites(layers)  # type: ignore[arg-type]
        bench = Bench(executor, host.units, contrasts, how.levels or (), how.steps)
        found = find_sites(bench, Aim("lettering"), how, sites=host.units)
        told.append(row(method, sum(found.rows.values()), len(carriers & set(found.chosen))))
    b = as_published_b(host, executor, contrasts, steps=STEPS)
    told.append(row("paper B, K given", b.rows, len(carriers & set(b.top(host.units, len(carriers))))))
    told.append(row("paper A", as_published_a(host, executor, contrasts, witness="plain only").rows, None))
    host.close()
    return told


class _PlainOnly:
    """Sees the concept in the first pictures that it is shown, which are the plain ones."""

    asked = 0

    def __call__(self, images: Any, contrasts: Any) -> tuple[list[bool], list[bool]]:
        self.asked += len(images)
        return [self.asked <= CONTRASTS] * len(images), [False] * len(images)


if __name__ == "__main__":
    main()
