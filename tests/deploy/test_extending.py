"""A metric is one line of the catalogue: the recorder has it, and a dashboard shows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINE = '    Metric("letters_read_total", "counter", "Letters that readers read.", (DETECTOR,), 10),\n'
USE = """
from prometheus_client import CollectorRegistry, generate_latest
from deploy.generate.dashboards import DASHBOARDS
from deploy.generate.write import to_grafana
from service.metrics.recorder import Recorder
import service

registry = CollectorRegistry()
Recorder(registry).series("letters_read_total", "rapidocr").inc(5)
assert 'palimpsest_letters_read_total{detector="rapidocr"} 5.0' in generate_latest(registry).decode()
assert "rate(palimpsest_letters_read_total{" in str(to_grafana(DASHBOARDS[0]))
print(service.__file__)
"""


def test_a_metric_is_added_by_one_line_of_one_file(tmp_path: Path) -> None:
    for room in ("service", "deploy"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    catalogue = tmp_path / "service" / "metrics" / "catalogue.py"
    text = catalogue.read_text("utf-8")
    first = text.index('    Metric("requests_total"')
    catalogue.write_text(text[:first] + LINE + text[first:], "utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", USE], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()).is_relative_to(tmp_path), "the copy was tried, not the tree"
