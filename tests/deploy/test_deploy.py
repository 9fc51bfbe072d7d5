"""What stands in `deploy/` is what the code would make, asks only for metrics that exist, and is valid where it goes.

Mutations that turned it red: a label that the metric lacks in a panel, a metric renamed in the catalogue, a dashboard
edited by hand, an alert without a case, a probe's path mistyped in the manifests, `readOnlyRootFilesystem` left out.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml

from deploy.generate.alerts import ALERTS, RECORDS, anchor
from deploy.generate.dashboards import DASHBOARDS
from deploy.generate.queries import expand, metric_of
from deploy.generate.write import files, main
from policies import Loader
from service.metrics.catalogue import CATALOGUE, PREFIX
from service.settings import Settings

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
CHOSEN = {"job", "namespace", "instance"}  # what a scrape adds, and dashboards choose by
NOT_OURS = {
    "up": {"job"},
    "process_resident_memory_bytes": {*CHOSEN, "pid"},
    "process_cpu_seconds_total": {*CHOSEN, "pid"},
    "process_open_fds": {*CHOSEN, "pid"},
    "process_start_time_seconds": {*CHOSEN, "pid"},
}

DASHBOARD = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "templating", "time"],
    "properties": {
        "uid": {"type": "string", "pattern": "^[a-z-]{1,40}$"},
        "panels": {
            "type": "array",
            "minItems": 4,
            "items": {
                "type": "object",
                "required": ["id", "type", "title", "gridPos"],
                "properties": {
                    "type": {"enum": ["row", "timeseries", "stat", "table"]},
                    "gridPos": {
                        "type": "object",
                        "required": ["x", "y", "w", "h"],
                        "properties": {"x": {"minimum": 0}, "w": {"minimum": 1, "maximum": 24}},
                    },
                    "datasource": {"properties": {"uid": {"const": "${datasource}"}}},
                    "targets": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"required": ["refId", "expr", "datasource"]},
                    },
                },
            },
        },
    },
}


def dashboards() -> Iterator[dict[str, Any]]:
    for file in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        yield json.loads(file.read_text())


def expressions() -> Iterator[str]:
    """Every PromQL expression that stands in `deploy/`."""
    for board in dashboards():
        yield from (t["expr"] for panel in board["panels"] for t in panel.get("targets", ()))
        yield from (annotation["expr"] for annotation in board["annotations"]["list"])
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def test_the_files_are_what_the_code_makes() -> None:
    assert main(["--check"]) == 0
    assert sum(name.startswith("grafana/") for name in files()) == 4


def test_a_file_that_differs_is_named_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0
    (tmp_path / "prometheus" / "rules.yml").write_text("groups: []\n")
    capsys.readouterr()
    assert main(["--out", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().err == "prometheus/rules.yml differs\n"


def walk(node: Any) -> Iterator[Any]:
    """The nodes of a parsed query."""
    yield node
    for name in ("expr", "lhs", "rhs", "args", "param", "vector_selector", "vs"):
        child = getattr(node, name, None)
        for one in child if isinstance(child, list | tuple) else (child,):
            if one is not None and not isinstance(one, str | float | int):
                yield from walk(one)


def test_every_metric_and_label_that_a_query_asks_for_exists() -> None:
    recorded = {record.name for record in RECORDS}
    asked = 0
    for expression in expressions():
        text = expression.replace("$__rate_interval", "5m")
        nodes = list(walk(promql_parser.parse(text)))
        labels = {"le"}
        for selector in (n for n in nodes if isinstance(n, promql_parser.VectorSelector)):
            asked += 1
            name = selector.name
            if name in recorded:
                continue
            own = NOT_OURS.get(name) or {k.name for k in metric_of(name.removeprefix(PREFIX)).labels} | CHOSEN
            used = {matcher.name for matcher in selector.matchers.matchers}
            assert used <= own, f"{name} has no label {sorted(used - own)}: {expression}"
            assert name in NOT_OURS or name.startswith(PREFIX)
            labels |= own
        for aggregate in (n for n in nodes if isinstance(n, promql_parser.AggregateExpr)):
            by = set(aggregate.modifier.labels) if aggregate.modifier is not None else set()
            assert by <= labels, f"grouped by {sorted(by - labels)}, which nothing has: {expression}"
    assert asked > 100


def test_a_query_for_what_does_not_exist_cannot_be_written() -> None:
    with pytest.raises(LookupError, match="no metric `request_total`"):
        expand("rate(@request_total[5m])")
    with pytest.raises(LookupError, match="has the labels"):
        expand('rate(@requests_total{verdict="block"}[5m])')
    with pytest.raises(LookupError, match="no metric `queue_depth_bucket`"):
        expand("@queue_depth_bucket")


def test_every_metric_is_on_a_dashboard() -> None:
    text = "\n".join(query.text for board in DASHBOARDS for panel in board.panels for query in panel.queries)
    shown = {metric_of(name).name for name in re.findall(rf"\b{PREFIX}([a-z_]+)", text)}
    assert shown == {metric.name for metric in CATALOGUE}


def test_dashboards_are_as_grafana_wants_them() -> None:
    assert len(list(dashboards())) == 4
    for board in dashboards():
        jsonschema.validate(board, DASHBOARD)
        panels = board["panels"]
        assert len({p["id"] for p in panels}) == len(panels)
        cells = [
            (x, y)
            for p in panels
            for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
            for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
        ]
        assert len(set(cells)) == len(cells), "no panel covers another"
        assert all(p["title"] for p in panels)
        variables = {v["name"]: v for v in board["templating"]["list"]}
        assert list(variables) == ["datasource", "job", "namespace", "model", "instance"]
        assert variables["namespace"]["allValue"] == ".*", "series without a namespace are among all"
        assert "$model" in variables["instance"]["query"]["query"], "the model chooses among the servers"
        (changes,) = board["annotations"]["list"]
        assert "policy_loaded_timestamp_seconds" in changes["expr"], "a change of policies is drawn into every panel"
        targets = [t["expr"] for p in panels for t in p.get("targets", ())]
        assert all(
            text.count('instance=~"$instance"') == len(re.findall(r"(?:palimpsest|process)_", text)) for text in targets
        )


def test_panels_have_units_and_say_states_in_words() -> None:
    panels = {(b["title"], p["title"]): p for b in dashboards() for p in b["panels"] if p["type"] != "row"}
    for (_, title), panel in panels.items():
        unit = panel["fieldConfig"]["defaults"]["unit"]
        text = " ".join(target["expr"] for target in panel["targets"])
        if unit == "short":
            assert "sum(rate(" not in text or " / " in text, f"{title}: a rate of what?"
            assert "_seconds" not in text.replace("cpu_seconds_total", ""), title
            assert "_bytes" not in text, title
    for title, words in {
        "Workers": {"0": "agree", "1": "disagree"},
        "Policies in use": {"0": "those on disk", "1": "last good ones"},
        "Floor": {"0": "in force", "1": "missing"},
    }.items():
        (mapping,) = panels["Palimpsest: policies and shadow", title]["fieldConfig"]["defaults"]["mappings"]
        assert {value: shown["text"] for value, shown in mapping["options"].items()} == words
        assert mapping["options"]["1"]["color"] == "red"


def test_every_alert_has_a_runbook_that_says_three_things() -> None:
    text = (DEPLOY / "runbooks.md").read_text()
    sections = {part.split("\n", 1)[0]: part for part in text.split("\n## ")[1:]}
    assert list(sections) == [alert.name for alert in ALERTS]
    for name, section in sections.items():
        assert re.findall(r"^\*\*(\w+)\.\*\* \S", section, re.M) == ["Means", "Look", "Do"], name
    for rule in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"][1]["rules"]:
        page, _, heading = rule["annotations"]["runbook_url"].partition("#")
        assert (DEPLOY.parent / page).is_file()
        assert heading in {name.lower() for name in sections}


def test_every_alert_names_a_dashboard_that_shows_what_it_watches() -> None:
    shown = {board["uid"]: json.dumps(board["panels"]) for board in dashboards()}
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    records = {rule["record"]: rule["expr"] for rule in rules[0]["rules"]}
    for rule in rules[1]["rules"]:
        asked = re.sub(r"palimpsest:[\w:]+", lambda found: records[found.group()], rule["expr"])
        board = shown[rule["annotations"]["dashboard_url"].removeprefix("/d/")]
        names = set(re.findall(r"\bpalimpsest_\w+", asked))
        assert not names or any(re.search(rf"\b{name}\b", board) for name in names), rule["alert"]


def test_runbooks_and_dashboards_may_be_elsewhere(tmp_path: Path) -> None:
    wiki, grafana = "https://wiki.example.com/palimpsest", "https://grafana.example.com/"
    assert main(["--out", str(tmp_path), "--runbooks", wiki, "--grafana", grafana]) == 0
    written = (tmp_path / "prometheus" / "rules.yml").read_text()
    assert "runbook_url: https://wiki.example.com/palimpsest#palimpsestdown" in written
    assert "dashboard_url: https://grafana.example.com/d/palimpsest-operations" in written


def test_every_name_in_any_file_of_deploy_exists() -> None:
    values = {f"PALIMPSEST_{name}".upper() for name in Settings.model_fields}
    recorded = {record.name.partition(":")[0] for record in RECORDS}
    for file in DEPLOY.rglob("*.*"):
        if not file.is_file() or file.suffix == ".pyc":
            continue
        text = file.read_text("utf-8")
        for name in re.findall(r"\bpalimpsest_([a-z_]+)", text):
            assert metric_of(name), f"{file.name}: {name}"
        for name in re.findall(r"\bPALIMPSEST_[A-Z_]+", text):
            assert name in values, f"{file.name}: {name}"
    assert recorded == {"palimpsest"}


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / "palimpsest.yml").read_text()))


def one(kind: str, name: str = "palimpsest") -> dict[str, Any]:
    (found,) = (m for m in manifests() if m["kind"] == kind and m["metadata"]["name"].startswith(name))
    return found


@pytest.mark.parametrize("version", ["1.30", "1.35"])
def test_manifests_fit_the_schemas_of_kubernetes(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    for manifest in manifests():
        validate(manifest, version, strict=True)


def test_a_pod_has_one_gpu_no_rights_probes_that_exist_and_time_to_end() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in ("/livez", "/readyz"), "worker/test_serve.py asks both"
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]
    environment = {e["name"]: e.get("value") for e in container["env"]}
    sleeps = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    settings = Settings()
    ends = sleeps + settings.drain_seconds + float(environment["PALIMPSEST_GRACE_SECONDS"])
    assert ends < pod["terminationGracePeriodSeconds"]
    assert float(environment["PALIMPSEST_GRACE_SECONDS"]) > float(environment["PALIMPSEST_DEADLINE_SECONDS"])
    mounts = {m["name"]: m for m in container["volumeMounts"]}
    assert set(mounts) == {v["name"] for v in pod["volumes"]}
    assert environment["PALIMPSEST_POLICY"].split(",") == ["shipped", mounts["policies"]["mountPath"]]
    assert environment["PALIMPSEST_FLOOR"] == "true"
    assert Path(environment["PALIMPSEST_MODEL"]).parent == Path(mounts["weights"]["mountPath"])
    assert mounts["policies"]["readOnly"] is mounts["weights"]["readOnly"] is True


def test_it_scales_by_a_metric_that_exists() -> None:
    spec = one("HorizontalPodAutoscaler")["spec"]
    (metric,) = spec["metrics"]
    assert metric_of(metric["external"]["metric"]["name"].removeprefix(PREFIX)).name == "queue_depth"
    assert spec["scaleTargetRef"]["name"] == one("Deployment")["metadata"]["name"]


def test_the_policies_of_the_manifests_load_and_pass_their_tests(tmp_path: Path) -> None:
    from detectors import text

    for name, content in one("ConfigMap")["data"].items():
        (tmp_path / name).write_text(content)
    assert Loader(text.default_detectors()).load([tmp_path]).rules


def test_compose_mounts_what_is_there_and_listens_to_this_machine_only() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    for service in compose["services"].values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "a pinned version"
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert (DEPLOY / source).is_dir() if source.startswith(".") else source in compose["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def context() -> set[str]:
    """The files and folders of the repository that are sent to build an image."""
    lines = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "a list of what is sent, not of what is not"
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_an_image_is_built_of_the_packages_and_of_nothing_else() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {p.parent.name for each in patterns for p in DEPLOY.parent.glob(f"{each}/__init__.py")}
    assert context() == {*packages, "pyproject.toml", "constraints.txt", project["project"]["readme"], "LICENSE"}


def test_the_image_takes_torch_from_where_a_build_argument_says() -> None:
    text = (DEPLOY / "container" / "Containerfile").read_text()
    assert 'ARG TORCH_INDEX=""' in text.partition("FROM ")[2], "an argument before FROM is not seen after it"
    install = next(line for line in text.splitlines() if "pip install" in line).removeprefix("RUN ").split(" && ")[0]
    for index, options in (("", []), ("https://x.example/cpu", ["--extra-index-url", "https://x.example/cpu"])):
        script = f"pip() {{ printf '%s\\n' \"$@\"; }}; TORCH_INDEX='{index}'; {install}"
        said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()
        assert said == ["install", "--no-cache-dir", "--constraint", "constraints.txt", *options, "."]


# series that make an alert fire, and at which minute; `0x90` is ninety zeros, `1+1x90` grows by one a minute
_A = 'palimpsest_requests_total{endpoint="generations",outcome="%s"}'
FIRES: dict[str, tuple[dict[str, str], int]] = {
    "PalimpsestDown": ({'up{job="palimpsest"}': "0x90"}, 5),
    "PalimpsestNoWorkerReady": ({"palimpsest_engine_ready": "0x90"}, 5),
    "PalimpsestWorkerNotReady": ({"palimpsest_workers_up": "2x90", "palimpsest_engine_ready": "1x90"}, 10),
    "PalimpsestEngineStuck": ({"palimpsest_engine_beat_timestamp_seconds": "0x90"}, 10),
    "PalimpsestQueueTooOld": ({"palimpsest_queue_oldest_timestamp_seconds": "0x90"}, 10),
    "PalimpsestQueueRejecting": ({"palimpsest_queue_rejections_total": "1+1x90"}, 30),
    "PalimpsestSlow": (
        {
            'palimpsest_request_duration_seconds_bucket{endpoint="generations",le="30"}': "0x90",
            'palimpsest_request_duration_seconds_bucket{endpoint="generations",le="60"}': "0+9x90",
            'palimpsest_request_duration_seconds_bucket{endpoint="generations",le="+Inf"}': "0+9x90",
        },
        30,
    ),
    "PalimpsestFailing": ({_A % "ok": "0+9x90", _A % "error": "0+1x90"}, 30),
    # three of seven, and nothing after
    "PalimpsestFailedBurst": ({_A % "ok": "0x20 1 3 4x60", _A % "error": "0x20 1 3x60"}, 27),
    "PalimpsestPolicyReloadFailing": ({"palimpsest_policy_last_reload_failed": "1x90"}, 5),
    "PalimpsestWorkersDisagree": ({"palimpsest_policy_number_min": "3x90", "palimpsest_policy_number_max": "4x90"}, 5),
    "PalimpsestPoliciesStale": ({"palimpsest_stale_decisions_total": "0+1x90"}, 20),
    "PalimpsestPolicyPollStalled": ({"palimpsest_policy_poll_timestamp_seconds": "0x90"}, 10),
    "PalimpsestBundleEnds": ({"palimpsest_policy_expires_timestamp_seconds": "604800x90"}, 20),
    "PalimpsestUnfitRules": ({"palimpsest_unfit_rules": "1x90"}, 10),
    "PalimpsestDetectorFailing": (
        {'palimpsest_detector_errors_total{detector="easyocr",reason="timeout"}': "0+1x90"},
        30,
    ),
    "PalimpsestDetectorOpen": ({'palimpsest_detector_open{detector="easyocr"}': "1x90"}, 5),
    "PalimpsestDecisionErrors": ({'palimpsest_decision_errors_total{rule="toxic"}': "0+1x90"}, 30),
    "PalimpsestAuditWriteFailing": ({'palimpsest_audit_events_total{result="error"}': "0+1x90"}, 20),
    "PalimpsestBlockRateZero": ({_A % "ok": "0+9x200", _A % "refused": "0+1x40 40x160"}, 140),
    "PalimpsestRepairRateZero": ({_A % "ok": "0+9x200", _A % "steered": "0+1x40 40x160"}, 140),
    "PalimpsestBlockRateJumped": ({_A % "ok": "0+9x400", _A % "refused": "0x360 0+5x40"}, 390),
    "PalimpsestSteeringFallsBack": ({'palimpsest_fallbacks_total{reason="fired"}': "0+1x90"}, 20),
    "PalimpsestRepairsFail": (
        {
            'palimpsest_rungs_total{rung="wider",result="failed"}': "0+1x90",
            'palimpsest_rungs_total{rung="wider",result="passed"}': "0x90",
        },
        80,
    ),
    "PalimpsestReviewsOld": ({"palimpsest_review_oldest_timestamp_seconds": "0x1500"}, 1470),
    "PalimpsestReviewsMany": (
        {'palimpsest_review_pending{queue="a"}': "300x90", 'palimpsest_review_pending{queue="b"}': "300x90"},
        30,
    ),
    "PalimpsestReviewsRefused": ({'palimpsest_review_cases_total{result="full"}': "0+1x90"}, 30),
    "PalimpsestOutOfMemory": ({"palimpsest_out_of_memory_total": "0+1x90"}, 20),
    "PalimpsestRatesApart": ({"palimpsest_rate_fallbacks_total": "0+1x90"}, 30),
    "PalimpsestMarkingFails": ({'palimpsest_marks_total{mark="c2pa",result="failed"}': "0+1x90"}, 20),
    "PalimpsestSigningCertificateEnds": (
        {"palimpsest_signing_certificate_expires_timestamp_seconds": "1209600x90"},
        20,
    ),
    "PalimpsestBrokenPictures": ({'palimpsest_broken_pictures_total{cause="decoded"}': "0+1x90"}, 20),
}
# a service that does well, at the same minutes
QUIET = {
    'up{job="palimpsest"}': "1x400",
    "palimpsest_workers_up": "2x400",
    "palimpsest_engine_ready": "2x400",
    "palimpsest_engine_beat_timestamp_seconds": "0+60x400",
    "palimpsest_queue_oldest_timestamp_seconds": "0+60x400",
    "palimpsest_queue_rejections_total": "4x400",
    'palimpsest_request_duration_seconds_bucket{endpoint="generations",le="1"}': "0+9x400",
    'palimpsest_request_duration_seconds_bucket{endpoint="generations",le="+Inf"}': "0+9x400",
    _A % "ok": "0+9x400",
    _A % "error": "3x400",
    _A % "refused": "0+1x400",
    _A % "steered": "0+1x400",
    "palimpsest_policy_last_reload_failed": "0x400",
    "palimpsest_policy_number_min": "4x400",
    "palimpsest_policy_number_max": "4x400",
    "palimpsest_stale_decisions_total": "2x400",
    "palimpsest_unfit_rules": "0x400",
    'palimpsest_detector_errors_total{detector="easyocr",reason="timeout"}': "3x400",
    'palimpsest_detector_open{detector="easyocr"}': "0x400",
    'palimpsest_decision_errors_total{rule="toxic"}': "3x400",
    'palimpsest_audit_events_total{result="error"}': "1x400",
    'palimpsest_fallbacks_total{reason="fired"}': "1x400",
    'palimpsest_rungs_total{rung="wider",result="failed"}': "0+1x400",
    'palimpsest_rungs_total{rung="wider",result="passed"}': "0+3x400",
    "palimpsest_review_oldest_timestamp_seconds": "0+60x1500",
    'palimpsest_review_pending{queue="a"}': "300x400",
    'palimpsest_review_cases_total{result="full"}': "1x400",
    "palimpsest_out_of_memory_total": "1x400",
    'palimpsest_broken_pictures_total{cause="decoded"}': "1x400",
    "palimpsest_rate_fallbacks_total": "1x400",
}


def test_every_alert_has_a_case() -> None:
    assert set(FIRES) == {alert.name for alert in ALERTS}


def _case(series: dict[str, str], minute: int, alert: str, *, fires: bool) -> dict[str, Any]:
    (rule,) = (a for a in ALERTS if a.name == alert)
    by = re.search(r"by \((\w+)\)", rule.conditions[0].value)
    labels = {"severity": rule.severity}
    if by is not None:
        labels[by.group(1)] = {"detector": "easyocr", "rule": "toxic"}[by.group(1)]
    annotations = {"summary": rule.summary, "action": rule.action}
    annotations["runbook_url"] = f"deploy/runbooks.md#{anchor(rule)}"
    annotations["dashboard_url"] = f"/d/palimpsest-{rule.dashboard}"
    told = {"exp_labels": labels, "exp_annotations": annotations}
    return {
        "interval": "1m",
        "name": f"{alert} {'fires' if fires else 'is quiet'}",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": [told] if fires else []}],
    }


def _promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; `make test-system` installs it")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
def test_every_alert_fires_when_it_should_and_is_quiet_when_all_is_well(tmp_path: Path) -> None:
    cases = [_case(series, minute, alert, fires=True) for alert, (series, minute) in FIRES.items()]
    cases += [_case(QUIET, minute, alert, fires=False) for alert, (_, minute) in FIRES.items()]
    rules = str(DEPLOY / "prometheus" / "rules.yml")
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": cases}))
    _promtool("test", "rules", str(file))


@pytest.mark.system
def test_promtool_accepts_the_rules_and_the_scrape_settings() -> None:
    _promtool("check", "rules", str(DEPLOY / "prometheus" / "rules.yml"))
    for name in ("prometheus.yml", "kubernetes.yml"):
        _promtool("check", "config", str(DEPLOY / "prometheus" / name))
