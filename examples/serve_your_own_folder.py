"""Serves a diffusers folder of your own, asks it for a picture over HTTP, and stops it.

    python examples/serve_your_own_folder.py [FOLDER OF A MODEL]

Without a folder it takes a copy of an embedded model: an ordinary diffusers folder.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent


def main(work: Path, model: Path) -> None:
    with socket.socket() as probe:  # a free port
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "palimpsest", "serve", "--model", str(model), "--port", str(port)]
    environment = {**os.environ, "PALIMPSEST_STATE": str(work / "state"), "PYTHONPATH": str(ROOT)}
    with (work / "service.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        while not _ready(url):
            if server.poll() is not None:
                sys.exit((work / "service.log").read_text())
            time.sleep(0.2)
        for prompt in ('a cat with a sign that says "HELLO"', 'a red star on blue with a sign that says "MORON"'):
            answer = httpx.post(f"{url}/v1/images/generations", json={"prompt": prompt, "seed": 5}, timeout=120).json()
            picture = base64.b64decode(answer["data"][0]["b64_json"])
            print(f"{prompt}: {answer['steering']['verdict']}, a PNG of {len(picture)} bytes")
    finally:
        server.terminate()
        server.wait(60)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mine = Path(folder, "my-model")
        if len(sys.argv) < 2:
            shutil.copytree(ROOT / "reference" / "models" / "signpost-pixart", mine)
        main(Path(folder), Path(sys.argv[1]) if len(sys.argv) > 1 else mine)
