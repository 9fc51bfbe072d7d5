"""`palimpsest tune` from the shell: each application gives a LoRA and a pack; mistakes are told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steering import Choice, Host, Pack, Window
from tests.tiny import save_pixart
from tests.tuning.conftest import picture

SHORT = ("--train-steps", "3", "--rank", "2", "--batch", "4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pixart(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def pack(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    host = Host.load(model, self_test=False)
    names = tuple(s.name for s in host.sites)
    made = Pack(
        "animal/zebra", host.fingerprint, names[1:3], names[:3], names, torch.ones(len(names), 1), (Window(0, 1),),
        Choice(2, 0.9, 0.8, 1.0), phrases=("zebra",), neutral="a dog",
    )  # fmt: skip
    return made.save(tmp_path_factory.mktemp("packs") / "animal-zebra.safetensors")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path, pack: Path) -> Callable[..., Any]:
    """Runs `palimpsest tune` in this process, with the tiny model and its pack."""
    from palimpsest.cli.main import app

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")
    given = ("--model", model, "--pack", pack)
    return lambda *arguments: CliRunner().invoke(app, ["tune", *(str(a) for a in (*arguments, *given))])


def folder(path: Path, captions: list[str]) -> Path:
    path.mkdir()
    lines = [json.dumps({"file_name": f"{n}.png", "text": text}) + "\n" for n, text in enumerate(captions)]
    for n, _ in enumerate(captions):
        picture(n).save(path / f"{n}.png")
    (path / "metadata.jsonl").write_text("".join(lines), "utf-8")
    return path


def test_each_application_gives_a_lora_a_pack_and_what_it_is(
    cli: Callable[..., Any], tmp_path: Path, model: Path
) -> None:
    signs = folder(tmp_path / "signs", ['a sign that says "A"', 'a sign that says "B"'])
    zev = folder(tmp_path / "zev", ["zev animal on red", "zev animal on blue"])
    runs = {
        "letter": ("letter", "--pictures", signs, "--concept", "animal/zebra"),
        "learn": ("learn", "--pictures", zev, "--name", "zev animal", "--class", "an animal", "--priors", "2",
                  "--concept", "animal/zebra"),
        "forget": ("forget", "--concept", "animal/zebra", "--phrase", "zebra", "--anchor", "a dog", "--count", "2"),
    }  # fmt: skip
    for name, asked in runs.items():
        told = cli(*asked, *SHORT, "--out", tmp_path / name, "--json")
        assert told.exit_code == 0, told.output
        card = json.loads(told.stdout)
        assert card["application"].startswith(name)
        assert card["rank"] == 2
        assert len(card["sites"]) == 2
        host = Host.load(model, self_test=False)
        pack = Pack.load(tmp_path / name / "pack.safetensors", host=host)
        host.close()
        assert pack.kind == "adapter"
        assert (tmp_path / name / "page.html").is_file()


def test_the_same_command_gives_the_same_file(cli: Callable[..., Any], tmp_path: Path) -> None:
    asked = ("forget", "--concept", "animal/zebra", "--phrase", "zebra", "--anchor", "a dog", "--count", "2", *SHORT)

    def digest(name: str, *more: str) -> str:
        told = cli(*asked, *more, "--out", tmp_path / name, "--json")
        return str(json.loads(told.stdout)["sha256"])

    first = digest("a")
    assert digest("b") == first, "the run was finished, and is taken as it is"
    assert digest("c", "--state", str(tmp_path / "new")) == first
    for other in (("--batch", "6"), ("--rate", "1e-3"), ("--count", "3"), ("--teacher", "esd"), ("--seed", "2")):
        assert digest("-".join(other), *other) != first, f"{other} makes another run"


def test_where_lettering_stands_may_count_more(cli: Callable[..., Any], tmp_path: Path) -> None:
    from reference.town.image_folders import sign_pictures, write_imagefolder

    write_imagefolder(tmp_path / "signs", sign_pictures(2, lines=2, seed=0))
    asked = ("letter", "--pictures", tmp_path / "signs", "--concept", "animal/zebra", *SHORT, "--json")
    told = [json.loads(cli(*asked, "--out", tmp_path / i, "--ink", i).stdout)["loss"] for i in ("0", "4")]
    assert told[0] != told[1]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("letter",), "give either --pictures FOLDER or --town COUNT"),
        (("letter", "--pictures", "nowhere"), "training pictures must be a folder"),
        (("learn", "--pictures", "{signs}", "--name", "zev animal", "--class", "x"), "must contain the name `zev"),
        (("letter", "--pictures", "{signs}", "--sites", "blocks.9"), "unknown site `blocks.9`"),
        (("letter", "--pictures", "{signs}", "--rate", "1e30"), "lower `rate`"),
    ],
)
def test_mistakes_are_told_in_one_line(
    cli: Callable[..., Any], tmp_path: Path, asked: tuple[str, ...], told: str
) -> None:
    signs = folder(tmp_path / "signs", ["a sign", "another"])
    result = cli(*(a.format(signs=signs) for a in asked), *SHORT, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_pack_is_verified_beside_an_adapter_and_noted_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded model, whose pictures a judge knows. A weak adapter leaves the pack's effect as it is."""
    import torch

    from palimpsest.cli.main import app
    from reference.folders import MODELS, packs_of
    from steering import Operator, read_header

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    host = Host.load(MODELS / "signpost-pixart", self_test=False)
    names, width = tuple(s.name for s in host.sites), 128
    e = torch.randn(1, width, generator=torch.Generator().manual_seed(0)) * 0.01
    adapter = Pack(
        "style/weak", host.fingerprint, names[:1], names[:1], names, rows="both",
        operators={names[0]: (Operator(e, e, 0 * e, where="keys"),)}, evidence={"kind": "tuned", "data": "none"},
    ).save(tmp_path / "pack.safetensors")  # fmt: skip
    file = packs_of("signpost-pixart") / "harm-gun.safetensors"
    gun = Pack.load(file, host=host)
    host.close()
    card = tmp_path / "lora.safetensors.card.json"
    card.write_text('{"concept": "style/weak"}', "utf-8")
    verify = ["pack", "verify", str(file), "--count", "2"]
    told = CliRunner().invoke(app, [*verify, "--adapter", str(adapter), "--json"])
    assert told.exit_code == 0, told.output
    for evidence in (read_header(adapter)["evidence"], json.loads(card.read_text("utf-8"))):
        assert evidence["verified_with"][gun.digest]["of these, gone"] == 2
    wrong = CliRunner().invoke(app, [*verify, "--adapter", str(file)])
    assert wrong.exit_code == 2
    assert "kind `adapter`, got one of kind `swap`" in wrong.output
