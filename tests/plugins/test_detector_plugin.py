"""The example plug-in, installed as a package of its own: used where it is allowed, absent where it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed import install

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "plugin-detector"
POLICY = EXAMPLE / "no-codes.yaml"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed, as `pip install` leaves it in site-packages."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())  # a build leaves files behind
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True)
    return folder


def run(installed: Path, *arguments: str, plugins: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(installed), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path} | ({"PALIMPSEST_PLUGINS": plugins} if plugins else {})
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=ROOT, check=False
    )


COMMAND = ("-c", "from palimpsest.cli.main import main; main()", "policy", "test", str(POLICY))


def test_a_policy_about_what_the_plug_in_finds_passes_its_tests(installed: Path) -> None:
    done = run(installed, *COMMAND, plugins="qr-codes")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_installed_plug_in_that_nobody_allowed_does_not_run(installed: Path) -> None:
    done = run(installed, *COMMAND)
    assert done.returncode != 0
    assert "code/qr" in done.stdout + done.stderr


def test_a_name_that_no_package_offers_is_told_the_nearest(installed: Path) -> None:
    done = run(installed, *COMMAND, plugins="qr-code")
    assert done.returncode == 2
    assert "no installed package offers the plug-in `qr-code`; did you mean `qr-codes`?" in done.stderr


def test_a_code_in_a_picture_is_blocked_and_a_picture_without_is_not(installed: Path) -> None:
    done = run(installed, "-c", JUDGE, str(POLICY), plugins="qr-codes")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"code": "block", "plain": "allow", "watched": True}


JUDGE = """
import json, sys
import cv2
import numpy as np
from PIL import Image
from policies import Loader, Request, decide
from service.reading.detectors import build_detection
from service.settings import load_settings

settings = load_settings().settings
detection = build_detection(settings)
snapshot = Loader(detection.sense, reads=detection.reads).load(sys.argv[1])
code = cv2.QRCodeEncoder.create().encode("https://example.com/x")
code = cv2.copyMakeBorder(cv2.resize(code, None, fx=6, fy=6, interpolation=0), 40, 40, 40, 40, 0, value=255)
pictures = {"code": Image.fromarray(code), "plain": Image.fromarray(np.full((200, 200), 255, np.uint8))}
request = Request("a poster on a wall")
signals = detection.sense(request)
before = decide(request, signals, snapshot)
verdicts = {
    name: decide(
        request, signals + detection.look(picture, before.reads), snapshot, stage="picture", before=before
    ).verdict
    for name, picture in pictures.items()
}
print(json.dumps(verdicts | {"watched": "qr-codes" in {h.name for h in detection.health}}))
"""


BROKEN = {
    "a plug-in that raises while it is set up": (
        "def make(settings):\n    raise OSError('no weights')\n",
        "no weights",
    ),
    "one that raises after its first detector": (
        "def make(settings):\n    yield from ()\n    raise OSError('no weights')\n",
        "cannot be set up: no weights",
    ),
    "one that gives something else": ("def make(settings):\n    return 7\n", "must return `PictureDetector`"),
    "one without time to look": (
        "class D:\n    name, version, budget, covers = 'd', '1', 0.0, frozenset({'code/qr'})\n"
        "    def look(self, image):\n        return ()\n\ndef make(settings):\n    return D()\n",
        "must be seconds above 0, got 0.0",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plug_in_is_a_mistake_in_the_settings_that_names_it(what: str, tmp_path: Path) -> None:
    code, told = BROKEN[what]
    install(tmp_path, "team_codes", code, {"palimpsest.detectors": "team-codes = team_codes:make"})
    done = run(tmp_path, *COMMAND, plugins="team-codes")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "`team-codes`" in line
    assert told in line
