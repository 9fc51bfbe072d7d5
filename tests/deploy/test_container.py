"""What the container file makes, as far as it can be seen without Docker: a wheel that serves by itself.

An image was never built where this was written. Here the wheel that its `pip install .` would install is built of what
`.dockerignore` lets through and unpacked, and the service is started from it alone, with the environment that the file
sets.

| the law that goes red | when this is broken |
|---|---|
| the wheel holds all that the service opens | `package-data` in pyproject.toml loses a line |
| the container refuses to serve everybody without keys | `ENV` sets `PALIMPSEST_INSECURE` |
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.deploy.test_deploy import context
from tests.running import ROOT, free_port

pytestmark = pytest.mark.system

FILE = ROOT / "deploy" / "container" / "Containerfile"
START = [sys.executable, "-c", "from palimpsest.cli.main import main; main()", "serve"]


def environment(installed: Path, home: Path, **more: str) -> dict[str, str]:
    """What a process in the container finds, on a port of this machine and with folders that are writable here."""
    text = FILE.read_text().replace("\\\n", " ")
    set_there = dict(re.findall(r"([A-Z_]+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", text, re.M))))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PALIMPSEST_", "PROMETHEUS_", "BENTOML_"))}
    here = {"PYTHONPATH": str(installed), "PALIMPSEST_STATE": str(home), "HOME": str(home), "TMPDIR": str(home)}
    return {**kept, **set_there, **here, "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the repository, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "src"
    source.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("the list of files is git's")
    sent = context()
    for name in filter(None, tracked.stdout.split("\0")):
        if name.split("/")[0] in sent and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "--wheel-dir", str(folder), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = folder.glob("palimpsest-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    shutil.rmtree(source)  # as the container file does
    return folder / "installed"


def test_without_keys_it_does_not_serve_everybody(installed: Path, tmp_path: Path) -> None:
    asked = environment(installed, tmp_path, PALIMPSEST_PORT=str(free_port()))
    done = subprocess.run(START, env=asked, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2
    assert "no API key is configured" in done.stderr


def test_the_wheel_alone_serves_the_embedded_model_under_the_shipped_policies(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    asked = environment(installed, tmp_path, PALIMPSEST_PORT=str(port), PALIMPSEST_API_KEYS="secret")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(START, env=asked, cwd=tmp_path, stdout=log, stderr=log)
    try:
        url, key = f"http://127.0.0.1:{port}", {"Authorization": "Bearer secret"}
        for _ in range(1200):
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            try:
                if httpx.get(f"{url}/readyz", timeout=30).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        body = {"prompt": 'a red star on a blue background with a sign that says "IDIOT"', "seed": 1}
        answer = httpx.post(f"{url}/v1/images/generations", json=body, headers=key, timeout=300)
        assert answer.status_code == 200, answer.text
        assert answer.json()["steering"]["verdict"] == "steer"
        policies = httpx.get(f"{url}/v1/policies", headers=key, timeout=60).json()
        assert all(rule["unfit"] is None for worker in policies["workers"] for rule in worker["rules"])
    finally:
        process.terminate()
        process.wait(60)
