"""Tries clients of others against a running service, and writes the table in `docs/clients.md`.

`python -m tests.clients.table` installs the clients into a temporary folder, never into this environment: it needs the
package registries of Python and Node, and some minutes. `--at FOLDER` keeps the folder for the next time. Two services
are tried, one after the other: one with the defaults, and one with the settings of that page.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.running import ROOT, free_port

HERE, PAGE = Path(__file__).parent, ROOT / "docs" / "clients.md"
PYTHON = ("openai", "litellm", "langchain-community", "llama-index-tools-openai-image-generation", "pillow")
NODE = ("openai", "ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible")
SETTINGS = {
    "PALIMPSEST_MODEL_ALIASES": "gpt-image-1,dall-e-2,dall-e-3",
    "PALIMPSEST_SIZES": "nearest",
    "PALIMPSEST_PICTURE_URLS": "files",
}
START, END = "<!-- clients -->\n", "<!-- /clients -->"


def install(folder: Path) -> None:
    """Installs the clients into `folder`, unless they are there."""
    if not (folder / "venv").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(folder / "venv")], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "--python", str(folder / "venv/bin/python"), *PYTHON], check=True)
    if shutil.which("npm") and not (folder / "node_modules").exists():
        quiet = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
        subprocess.run(["npm", "install", *quiet, "--prefix", str(folder), *NODE], check=True)


def tried(folder: Path, settings: dict[str, str]) -> list[dict[str, str | None]]:
    """What each call said against a service with these settings."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    state = tempfile.mkdtemp(prefix="palimpsest-clients-")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")}
    code = "from palimpsest.cli.main import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--port", str(port)],
        env={**env, **settings, "PALIMPSEST_STATE": state},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait(f"{url}/readyz", server)
        found = lines([str(folder / "venv/bin/python"), str(HERE / "cases.py"), url], folder)
        if (folder / "node_modules").exists():
            shutil.copy(HERE / "cases.mjs", folder)  # Node looks for packages beside the file
            found += lines(["node", "cases.mjs", url], folder)
        return found
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(state, ignore_errors=True)


def wait(url: str, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the service did not start; `palimpsest serve` says why")


def lines(command: list[str], folder: Path) -> list[dict[str, str | None]]:
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # or it asks the network at import
    done = subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"client"')]


def table(usual: list[dict[str, str | None]], chosen: list[dict[str, str | None]]) -> str:
    rows = ["| client | call | default settings | with these settings |", "|---|---|---|---|"]
    for before, after in zip(usual, chosen, strict=True):
        said = ("works" if each["error"] is None else _cell(each["error"]) for each in (before, after))
        rows.append(f"| {before['client']} | {before['call']} | {' | '.join(said)} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return "no: " + (text if len(text) < 100 else text[:100] + " ...").replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", type=Path, help="folder of the clients")
    at = parser.parse_args().at
    with tempfile.TemporaryDirectory() as temporary:
        folder = (at or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        install(folder)
        found = table(tried(folder, {}), tried(folder, SETTINGS))
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    PAGE.write_text(f"{before}{START}{found}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
