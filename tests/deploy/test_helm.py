"""The Helm chart: its values are all used and all there, and what it makes is what the raw manifests say.

Helm's own engine renders it where it can be had: the program `helm`, or the package `helm-python-sdk` that brings it as
a library. Without both, the names are held together by reading the templates.

Breaks that it is made to show: a value renamed in values.yaml, a template that asks for one that is not there, a probe
left out of the chart, `readOnly` of the weights left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.running import ROOT

CHART = ROOT / "deploy" / "helm" / "palimpsest"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """The names of all values that hold no others."""
    if not isinstance(values, dict) or not values:
        yield path
        return
    for name, value in values.items():
        yield from leaves(value, f"{path}.{name}")


def asked_for() -> set[str]:
    """The values that templates name. Inside of `with .Values.x`, `.y` is `.Values.x.y`."""
    found = set()
    for file in (CHART / "templates").iterdir():
        within: list[str] = []
        for action in re.findall(r"\{\{-?(.*?)-?\}\}", file.read_text()):
            names = re.findall(r"(?<![\w\)])\.Values((?:\.\w+)+)", action)
            names += [
                within[-1] + name for name in re.findall(r"(?<![\w$\)])(\.[a-z]\w*)", action) if within and within[-1]
            ]
            found.update(names)
            word = (action.split() or [""])[0]
            if word in ("with", "range", "if", "define"):
                inner = names[0] if word == "with" else within[-1] if within and word == "if" else ""
                within.append(inner)
            elif word == "end":
                within.pop()
    return found


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"], chart["apiVersion"]) == (version, version, "v2")


def test_every_value_is_used_and_every_value_that_a_template_asks_for_is_there() -> None:
    asked, there = asked_for(), set(leaves(VALUES))
    unused = {leaf for leaf in there if not any(leaf == name or leaf.startswith(f"{name}.") for name in asked)}
    assert not unused
    missing = {name for name in asked if not any(leaf == name or leaf.startswith(f"{name}.") for leaf in there)}
    assert not missing


def test_settings_of_the_chart_are_settings() -> None:
    assert set(VALUES["settings"]) <= set(Settings.model_fields)
    Settings(**VALUES["settings"])


@pytest.fixture(scope="module")
def render() -> Callable[..., dict[str, dict[str, Any]]]:
    """Renders the chart with values on top of its own; the manifests by kind."""

    def texts(values: dict[str, Any], folder: Path) -> list[str]:
        if program := shutil.which("helm"):
            (folder / "values.yaml").write_text(yaml.safe_dump(values))
            command = [program, "template", "demo", str(CHART), "--values", str(folder / "values.yaml")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise ValueError(done.stderr)
            return [done.stdout]
        library = pytest.importorskip("helm_python", reason="neither `helm` nor helm-python-sdk is installed")
        try:
            with library.Chart.load(str(CHART)) as chart:
                made = chart.render(values, name="demo", namespace="default")
        except library.HelmError as error:
            raise ValueError(str(error)) from None
        return [text for name, text in made.items() if name.endswith(".yaml")]

    def rendered(folder: Path, **values: Any) -> dict[str, dict[str, Any]]:
        manifests = (each for text in texts(values, folder) for each in yaml.safe_load_all(text) if each)
        return {manifest["kind"]: manifest for manifest in manifests}

    return rendered


def raw(kind: str) -> dict[str, Any]:
    text = (ROOT / "deploy" / "kubernetes" / "palimpsest.yml").read_text()
    found: dict[str, Any] = next(m for m in yaml.safe_load_all(text) if m["kind"] == kind)
    return found


ALL = {
    "policies": {"files": {"house.yaml": "a: 1\n"}},
    "keys": {"existingSecret": "", "apiKeys": "a", "auditKey": "b", "fileSecret": "f"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "autoscaling": {"enabled": True},
    "networkPolicy": {"egress": [{"to": [], "ports": [{"port": 4318}]}]},
    "state": {"persistent": True, "storageClass": "fast"},
    "image": {"pullSecrets": [{"name": "registry"}]},
    "nodeSelector": {"gpu": "a100"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
}


@pytest.mark.system
@pytest.mark.parametrize("values", [{}, ALL], ids=["plain", "with everything"])
def test_what_it_makes_fits_the_schemas_of_kubernetes(
    render: Callable[..., Any], values: dict[str, Any], tmp_path: Path
) -> None:
    made = render(tmp_path, **values)
    validate = pytest.importorskip("kubernetes_validate").validate
    for kind, manifest in made.items():
        if kind != "ServiceMonitor":
            validate(manifest, "1.35", strict=True)
    (kind,) = {"Deployment", "StatefulSet"} & set(made)
    assert kind == ("StatefulSet" if values else "Deployment")
    if values:
        assert made["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["kind"] == kind
        (claim,) = made[kind]["spec"]["volumeClaimTemplates"]
        mounted = {m["name"] for m in made[kind]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
        assert claim["metadata"]["name"] in mounted
    assert ("ServiceMonitor" in made) is ("HorizontalPodAutoscaler" in made) is ("Secret" in made) is bool(values)


@pytest.mark.system
def test_its_pod_is_that_of_the_raw_manifests(render: Callable[..., Any], tmp_path: Path) -> None:
    made = render(tmp_path, policies={"files": {"house.yaml": "a: 1\n"}})
    chart, plain = (m["spec"]["template"]["spec"] for m in (made["Deployment"], raw("Deployment")))
    (ours,), (theirs,) = chart.pop("containers"), plain.pop("containers")
    variables = [{e["name"]: e for e in container.pop("env")} for container in (ours, theirs)]
    assert variables[1].pop("PALIMPSEST_FLOOR")["value"] == "true", "the default, said aloud"
    assert variables[0] == variables[1]
    assert ours.pop("imagePullPolicy") == "IfNotPresent"
    assert ours == theirs
    volumes = [{v["name"]: v for v in spec.pop("volumes")} for spec in (chart, plain)]
    assert volumes[0].pop("policies")["configMap"]["name"] == made["ConfigMap"]["metadata"]["name"]
    volumes[1].pop("policies")
    assert volumes[0] == volumes[1]
    assert chart == plain
    assert made["NetworkPolicy"]["spec"]["egress"] == raw("NetworkPolicy")["spec"]["egress"] == []


@pytest.mark.system
def test_a_keys_file_changes_the_pod_as_the_patch_of_the_manifests_does(
    render: Callable[..., Any], tmp_path: Path
) -> None:
    patch = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "keys-file.yml").read_text())["spec"]["template"]["spec"]
    without, with_file = (
        render(tmp_path, keys={"fileSecret": name})["Deployment"]["spec"]["template"]["spec"]
        for name in ("", "palimpsest-keys-file")
    )
    (changes,), (before,), (after,) = (spec.pop("containers") for spec in (patch, without, with_file))
    for of, over, result in ((before, changes, after), (without, patch, with_file)):
        for key in ("env", "volumeMounts", "volumes"):
            lists = [{e["name"]: e for e in spec.pop(key, ())} for spec in (of, over, result)]
            assert {**lists[0], **lists[1]} == lists[2]
        assert of == {**result, **over}
    assert changes == {"name": "palimpsest"}
    secret = render(tmp_path, keys={"existingSecret": "", "fileSecret": "f", "auditKey": "b"})["Secret"]
    assert set(secret["stringData"]) == {"audit-key"}
    with pytest.raises(ValueError, match=r"keys.apiKeys, or keys.existingSecret"):
        render(tmp_path, keys={"existingSecret": "", "auditKey": "b"})


def test_the_patch_for_a_keys_file_names_what_the_manifests_have() -> None:
    patch = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "keys-file.yml").read_text())["spec"]["template"]["spec"]
    pod = raw("Deployment")["spec"]["template"]["spec"]
    (changes,), (container,) = patch["containers"], pod["containers"]
    assert changes["name"] == container["name"]
    new, old = ({e["name"]: e for e in spec["env"]} for spec in (changes, container))
    assert set(new) - set(old) == {"PALIMPSEST_KEYS_FILE"}
    assert new["PALIMPSEST_API_KEYS"]["valueFrom"]["secretKeyRef"].pop("optional") is True
    assert new["PALIMPSEST_API_KEYS"] == old["PALIMPSEST_API_KEYS"]
    (mount,), (volume,) = changes["volumeMounts"], patch["volumes"]
    assert (mount["readOnly"], mount["name"], "subPath" in mount) == (True, volume["name"], False)
    assert Path(new["PALIMPSEST_KEYS_FILE"]["value"]).parent == Path(mount["mountPath"])


@pytest.mark.system
def test_without_shipped_policies_and_others_it_does_not_render(render: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing but the floor would be in force"):
        render(tmp_path, policies={"shipped": False})


@pytest.mark.system
def test_the_embedded_model_needs_no_volume(render: Callable[..., Any], tmp_path: Path) -> None:
    pod = render(tmp_path, model={"path": ""})["Deployment"]["spec"]["template"]["spec"]
    assert "weights" not in {v["name"] for v in pod["volumes"]}
    assert "PALIMPSEST_MODEL" not in {e["name"] for e in pod["containers"][0]["env"]}


@pytest.mark.system
def test_the_two_service_monitors_ask_the_same(render: Callable[..., Any], tmp_path: Path) -> None:
    plain = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "servicemonitor.yml").read_text())
    made = render(tmp_path, serviceMonitor={"enabled": True})["ServiceMonitor"]
    assert made["spec"]["endpoints"] == plain["spec"]["endpoints"]
    assert made["spec"]["endpoints"][0]["port"] == raw("Service")["spec"]["ports"][0]["name"]
    assert plain["spec"]["selector"]["matchLabels"] == raw("Service")["metadata"]["labels"]
