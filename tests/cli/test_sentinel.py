"""`palimpsest fit-sentinel` from the shell: a pack gets probes and their evidence; mistakes are told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steering import Choice, Host, Pack, Window
from tests.tiny import save_pixart


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pixart(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def host(model: Path) -> Host:
    return Host.load(model, self_test=False)


@pytest.fixture
def pack(host: Host, tmp_path: Path) -> Path:
    names = tuple(s.name for s in host.sites)
    import torch

    made = Pack(
        "animal/zebra",
        host.fingerprint,
        names[1:3],
        names[:3],
        names,
        torch.ones(len(names), 1),
        (Window(0, 1),),
        Choice(2, 0.9, 0.8, 1.0),
        phrases=("zebra",),
        neutral="a dog",
    )
    return made.save(tmp_path / "animal-zebra.safetensors")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs a command in this process."""
    from palimpsest.cli.main import app

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def labelled(file: Path, count: int) -> Path:
    lines = [{"prompt": f"a zebra {i}", "shows": ["animal/zebra"], "wording": f"w{i}"} for i in range(count)]
    lines += [{"prompt": f"a hut {i}", "shows": [], "wording": f"w{i}"} for i in range(count)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


def test_a_pack_gets_a_sentinel_from_labelled_prompts_and_shows_its_evidence(
    cli: Callable[..., Any], model: Path, host: Host, pack: Path, tmp_path: Path
) -> None:
    before = pack.read_bytes()
    prompts = labelled(tmp_path / "prompts.jsonl", 18)
    asked = ["fit-sentinel", pack, "--model", model, "--prompts", prompts, "--steps", 2, "--out", tmp_path / "new"]
    done = cli(*asked, "--false-alarms", 0.1, "--json")
    assert done.exit_code == 0, done.stderr
    (told,) = json.loads(done.stdout).values()
    assert (told["prompts"], told["showing it"], told["steps"]) == (36, 18, 2)
    assert told["false alarms"]["asked"] == 0.1
    assert told["repair"] == "restart"
    assert pack.read_bytes() == before
    written = tmp_path / "new" / pack.name
    sentinel = Pack.load(written, host=host).sentinel
    assert sentinel is not None
    assert sentinel.evidence == told
    shown = json.loads(cli("pack", "show", written, "--model", model, "--json").stdout)
    assert shown["sentinel"] == told
    assert json.loads(cli("pack", "show", pack, "--model", model, "--json").stdout)["sentinel"] is None


def test_mistakes_are_told_in_one_line(cli: Callable[..., Any], model: Path, pack: Path, tmp_path: Path) -> None:
    done = cli("fit-sentinel", pack, "--model", model, "--steps", 2)
    assert done.exit_code == 2
    assert "give --prompts" in done.stderr
    few = labelled(tmp_path / "few.jsonl", 3)
    done = cli("fit-sentinel", pack, "--model", model, "--prompts", few, "--steps", 2)
    assert done.exit_code == 2
    assert "at least 8 prompts in each half whose pictures show it" in done.stderr
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a zebra"}\n', "utf-8")
    done = cli("fit-sentinel", pack, "--model", model, "--prompts", tmp_path / "bad.jsonl")
    assert done.exit_code == 2
    assert "line 1" in done.stderr
    assert "`shows`" in done.stderr
    assert cli("fit-sentinel", tmp_path / "none.safetensors", "--model", model).exit_code == 2
