"""Writes the generated files of `deploy/`: four Grafana dashboards and the Prometheus rules from the catalogue, and the
page on capacity from what was measured.

`python -m deploy.generate.write` writes the files. `--check` only reports which files differ; a test runs it, so a
metric that is renamed in the catalogue alone is found.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.generate.alerts import rule_file
from deploy.generate.capacity import measured, page
from deploy.generate.dashboards import DASHBOARDS
from deploy.generate.panels import Dashboard, Panel
from deploy.generate.queries import Query
from service.metrics.catalogue import PREFIX

__all__ = ["files", "main", "to_grafana"]

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RUNBOOKS = "deploy/runbooks.md"  # in this repository
_HEIGHT, _WIDTH = 8, 24
_POLICY_CHANGES = {
    "name": "Policy changes",
    "datasource": _SOURCE,
    "enable": True,
    "iconColor": "purple",
    "expr": Query("max by (instance) (@policy_loaded_timestamp_seconds < +Inf) * 1000").text,
    "useValueForTime": True,  # the value is when
    "titleFormat": "Policies changed",
    "textFormat": "{{instance}}",
}


def to_grafana(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana's JSON. The data source is a variable, so it fits every Grafana."""
    return {
        "uid": f"palimpsest-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["palimpsest"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["palimpsest"], "title": "Palimpsest", "asDropdown": False}],
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("job", "label_values(@build_info, job)"),
                _variable("namespace", 'label_values(@build_info{job=~"$job"}, namespace)', every=".*"),
                _variable("model", 'label_values(@build_info{job=~"$job",namespace=~"$namespace"}, model)'),
                _variable(
                    "instance",
                    'label_values(@build_info{job=~"$job",namespace=~"$namespace",model=~"$model"}, instance)',
                ),
            ]
        },
        "annotations": {"list": [_POLICY_CHANGES]},
        "panels": list(_placed(dashboard)),
    }


def _variable(name: str, query: str, *, every: str | None = None) -> dict[str, Any]:
    """A variable of several values of a label. All: those that there are, or what fits the expression `every`. Outside
    of Kubernetes series have no `namespace`, and `.*` fits them, too.
    """
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query.replace("@", PREFIX), "refId": name},
        "refresh": 2,  # with the range of time
        "sort": 1,
        "multi": True,
        "includeAll": True,
        **({} if every is None else {"allValue": every}),
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def files(runbooks: str = _RUNBOOKS, grafana: str = "") -> Mapping[str, str]:
    """Every generated file: its path below `deploy/` and its text. Alerts point at the page `runbooks`, and at the
    dashboards of the server `grafana`.
    """
    made = {f"grafana/dashboards/{b.name}.json": json.dumps(to_grafana(b), indent=2) + "\n" for b in DASHBOARDS}
    return made | {"prometheus/rules.yml": _yaml(rule_file(runbooks, grafana)), "capacity.md": page(measured())}


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 when `--check` finds a file that is not as it would be made."""
    parser = argparse.ArgumentParser(prog="python -m deploy.generate.write", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file differs")
    parser.add_argument("--runbooks", default=_RUNBOOKS, help="address of your copy of deploy/runbooks.md, for alerts")
    parser.add_argument("--grafana", default="", help="address of your Grafana, for alerts")
    options = parser.parse_args(arguments)
    different = 0
    for name, text in files(options.runbooks, options.grafana.rstrip("/")).items():
        file = options.out / name
        if file.is_file() and file.read_text("utf-8") == text:
            continue
        different += 1
        sys.stderr.write(f"{name} {'differs' if options.check else 'written'}\n")
        if not options.check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return int(options.check and different > 0)


def _placed(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """The panels from top to bottom, each row's panels side by side, three at most."""
    number, top = 0, 0
    for row in dashboard.rows:
        number += 1
        place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "gridPos": place, "collapsed": False, "panels": []}
        top += 1
        across = min(3, len(row.panels))
        for k, panel in enumerate(row.panels):
            number += 1
            width = _WIDTH // across
            place = {"x": k % across * width, "y": top + k // across * _HEIGHT, "w": width, "h": _HEIGHT}
            yield {"id": number, "gridPos": place, **_panel(panel)}
        top += -(-len(row.panels) // across) * _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
    now = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + k),
            "datasource": _SOURCE,
            "expr": query.text,
            "legendFormat": query.legend,
            "instant": now,
            "range": not now,
            "format": "table" if now else "time_series",
        }
        for k, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {
            "defaults": {
                "unit": panel.shown_in,
                "thresholds": {"mode": "absolute", "steps": steps},
                "mappings": _mappings(panel),
            },
            "overrides": [],
        },
        "options": {},
    }


def _mappings(panel: Panel) -> list[dict[str, Any]]:
    """What is shown in place of values, with the colour that the value has."""
    if not panel.says:
        return []
    red = panel.red if panel.red is not None else math.inf
    return [
        {
            "type": "value",
            "options": {
                f"{value:g}": {"text": text, "color": "red" if value >= red else "green", "index": k}
                for k, (value, text) in enumerate(panel.says)
            },
        }
    ]


def _yaml(document: Mapping[str, Any]) -> str:
    import yaml

    head = "# Made by `python -m deploy.generate.write`; change deploy/generate/alerts.py, not this file.\n"
    return head + yaml.safe_dump(dict(document), sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main())
