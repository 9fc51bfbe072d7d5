"""`palimpsest models fetch | verify` against a local server that speaks the part of the hub's API that is needed.

| the law that goes red | when this is broken |
|---|---|
| a stopped download is continued | `_load` opens its part anew |
| another content than the hub lists is removed | the digest is not compared |
| no pickle is taken | `_PICKLES` is empty |
| a changed, a missing and an unknown file are found | `verify` leaves out one of the three |
| what was fetched is what the service opens | `_link` is not called |
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palimpsest.cli.main import app
from palimpsest.models import LOCK, HubFile, choose
from palimpsest.models.choice import ChoiceError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = f"someone/tiny@{COMMIT}"


class Hub:
    """A repository as the hub shows it: `files` by path. `cut`: bytes after which an answer breaks off, once."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cut: int | None = None
        self.sha = COMMIT
        self.asked: list[tuple[str, str | None]] = []  # path and range of each download
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                if self.path.startswith("/api/models/someone/tiny/revision/"):
                    return self.answer(json.dumps(hub.info()).encode())
                found = re.fullmatch(rf"/someone/tiny/resolve/{COMMIT}/(.+)", self.path)
                if found is None or found[1] not in hub.files:
                    return self.answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})
                hub.asked.append((found[1], asked := self.headers.get("Range")))
                content = hub.files[found[1]]
                begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0  # type: ignore[index]
                about = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if asked else {}
                return self.answer(content[begin:], 206 if asked else 200, about)

            def answer(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
                    self.send_header(name, value)
                self.end_headers()
                if hub.cut is not None and len(content) > hub.cut:
                    self.wfile.write(content[: hub.cut])
                    hub.cut = None
                    self.close_connection = True
                    raise ConnectionAbortedError
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def info(self) -> dict[str, Any]:
        siblings = []
        for path, content in self.files.items():
            git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            one: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git}
            if path.endswith(".safetensors"):
                sha = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"size": len(content), "sha256": sha, "pointerSize": 130}
            siblings.append(one)
        return {"id": "someone/tiny", "sha": self.sha, "siblings": siblings, "tags": [], "downloads": 0}


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The tiny PixArt of the service's tests on a hub, beside what nobody needs. The cache is a folder of the test."""
    from huggingface_hub import constants

    files = {str(f.relative_to(model)): f.read_bytes() for f in sorted(model.rglob("*")) if f.is_file()}
    files |= {"README.md": b"# Tiny", "transformer/diffusion_pytorch_model.bin": b"pickle", "big.safetensors": b"other"}
    files |= {"transformer/diffusion_pytorch_model.fp16.safetensors": b"half", "vae/model.onnx": b"onnx"}
    it = Hub(files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", it.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", it.url + "/{repo_id}/resolve/{revision}/{filename}")
    yield it
    it.server.shutdown()


@pytest.fixture
def command() -> Callable[..., Any]:
    runner = CliRunner()

    def run(*arguments: object) -> Any:
        return runner.invoke(app, ["models", *map(str, arguments)])

    return run


def wanted(model: Path) -> set[str]:
    return {str(f.relative_to(model)) for f in model.rglob("*") if f.is_file()}


def test_a_model_is_fetched_into_a_folder_locked_and_verified(
    hub: Hub, command: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    into = tmp_path / "here"
    dry = command("fetch", NAME, "--into", into, "--dry-run")
    assert dry.exit_code == 0
    assert re.search(rf"someone/tiny at {COMMIT}: \d+ files, [\d.]+ kB; [\d.]+ kB to download", dry.stderr)
    assert not into.exists()

    done = command("fetch", NAME, "--into", into)
    assert done.exit_code == 0, done.output
    have = {str(f.relative_to(into)) for f in into.rglob("*") if f.is_file()}
    assert have == wanted(model) | {LOCK}
    lock = json.loads((into / LOCK).read_text())
    assert (lock["model"], lock["revision"], lock["variant"]) == ("someone/tiny", COMMIT, None)
    for name, of in lock["files"].items():
        assert of == {"size": len(hub.files[name]), "sha256": hashlib.sha256(hub.files[name]).hexdigest()}
    assert command("verify", into).exit_code == 0

    loaded = len(hub.asked)
    again = command("fetch", NAME, "--into", into)
    assert "; 0 B to download" in again.stderr
    assert hub.asked[loaded:] == [("model_index.json", None)], "it asks what the model is, and loads nothing"

    weights, other = into / "vae/diffusion_pytorch_model.safetensors", tmp_path / "kept.json"
    (into / LOCK).rename(other)
    assert "no lock at" in command("verify", into).stderr
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    (into / "vae/config.json").unlink()
    (into / "vae/more.safetensors").write_bytes(b"")
    (into / "defaults.json").write_text("{}")
    found = command("verify", into, "--lock", other, "--json")
    assert found.exit_code == 1
    assert {(f["file"], f["what"]) for f in json.loads(found.stdout)["findings"]} == {
        ("vae/diffusion_pytorch_model.safetensors", "changed"),
        ("vae/config.json", "missing"),
        ("vae/more.safetensors", "unknown"),
    } | {("defaults.json", "changed")}
    command("fetch", NAME, "--into", into)
    assert weights.read_bytes() == hub.files["vae/diffusion_pytorch_model.safetensors"], "it is fetched again"


def test_a_model_of_the_cache_is_what_the_service_opens(
    hub: Hub, command: Callable[..., Any], settings: Callable[..., Any], host: Any
) -> None:
    from service.engine.host import check_model, load_host

    done = command("fetch", NAME)
    assert done.exit_code == 0, done.output
    assert command("verify", NAME).exit_code == 0
    hub.server.shutdown()
    for options in ({"model": NAME}, {"model": "someone/tiny", "revision": COMMIT}):
        check_model(settings(**options))
    loaded = load_host(settings(**options))
    assert loaded.name == "someone/tiny"
    assert loaded.fingerprint == host.fingerprint


def test_a_stopped_download_is_continued(hub: Hub, command: Callable[..., Any], tmp_path: Path) -> None:
    into, name = tmp_path / "here", "transformer/diffusion_pytorch_model.safetensors"
    hub.cut = 5_000  # the connection ends once; the client goes on by itself
    assert command("fetch", NAME, "--into", into).exit_code == 0
    assert hub.cut is None
    half = len(hub.files[name]) // 2

    part = into / "transformer" / f".{Path(name).name}.{hashlib.sha256(hub.files[name]).hexdigest()[:16]}.part"
    (into / name).unlink()
    part.write_bytes(hub.files[name][:half])  # as a killed process leaves it
    done = command("fetch", NAME, "--into", into)
    left = len(hub.files[name]) - half
    assert f"; {left / 1000:.1f} kB to download" in done.stderr
    assert hub.asked[-1] == (name, f"bytes={half}-")
    assert (into / name).read_bytes() == hub.files[name]
    assert not list(into.rglob("*.part"))

    (into / name).unlink()
    part.write_bytes(b"x" * half)
    done = command("fetch", NAME, "--into", into)
    assert (done.exit_code, list(into.rglob("*.part"))) == (2, [])
    assert "came with another content than the hub lists, and was removed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "change", "why"),
    [
        (["someone/tiny"], None, "model must be `owner/name@commit`"),
        (["someone/tiny@main"], None, "model must be `owner/name@commit`"),
        ([f"other/tiny@{COMMIT}"], None, "the hub has no `other/tiny` at"),
        ([NAME, "--variant", "bf16"], None, "no component has weights of the variant `bf16`; known: `fp16`"),
        ([NAME, "--only", "*.bin"], None, "`transformer/diffusion_pytorch_model.bin` is a pickle"),
        ([NAME, "--only", "*.onnx"], None, "`vae/model.onnx` is none of"),
        ([NAME, "--only", "*.exe"], None, "no file of the repository matches `*.exe`"),
        ([NAME], "commit", "the hub answers with commit"),
        ([NAME], "pickle", "`vae` has its weights only as a pickle, `vae/diffusion_pytorch_model.bin`"),
        ([NAME], "no index", "has no `model_index.json`; say which files you want, such as `--only '"),
        ([NAME], "outside", "names a file outside of it: `../evil.json`"),
        ([NAME], "no room", "has room for 10 bytes, and"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_and_nothing_is_written(
    arguments: list[str],
    change: str | None,
    why: str,
    hub: Hub,
    command: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil

    if change == "commit":
        hub.sha = COMMIT[::-1]
    elif change == "pickle":
        hub.files["vae/diffusion_pytorch_model.bin"] = hub.files.pop("vae/diffusion_pytorch_model.safetensors")
    elif change == "no index":
        del hub.files["model_index.json"]
    elif change == "outside":
        hub.files["../evil.json"] = b"{}"
    elif change == "no room":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    done = command("fetch", *arguments, "--into", tmp_path / "here")
    assert done.exit_code == 2
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
    assert why in line
    assert not (tmp_path / "here").exists()


def test_the_files_of_a_variant_and_those_of_a_pattern() -> None:
    names = "model_index.json unet/config.json unet/diffusion_pytorch_model.safetensors.index.json"
    names += " unet/diffusion_pytorch_model.safetensors.index.fp16.json vae/diffusion_pytorch_model.safetensors"
    for shard in ("-00001-of-00002", "-00002-of-00002"):
        names += (
            f" unet/diffusion_pytorch_model{shard}.safetensors unet/diffusion_pytorch_model.fp16{shard}.safetensors"
        )
    names += " tokenizer/merges.txt tokenizer/spiece.model tokenizer/tokenizer.json extra/a.safetensors a.safetensors"
    files = [HubFile(name, 1, "0" * 40) for name in names.split()]
    index = {"_class_name": "X", "unet": ["diffusers", "U"], "vae": ["diffusers", "V"], "safety": [None, None]}
    index["tokenizer"] = ["transformers", "T"]

    def taken(**more: Any) -> set[str]:
        return {file.path for file in choose(files, index, **more).files}

    both = {"model_index.json", "unet/config.json", "vae/diffusion_pytorch_model.safetensors"}
    both |= {"tokenizer/merges.txt", "tokenizer/spiece.model", "tokenizer/tokenizer.json"}
    unet = "unet/diffusion_pytorch_model"
    assert taken() - both == {f"{unet}.safetensors.index.json"} | {
        f"{unet}-0000{n}-of-00002.safetensors" for n in (1, 2)
    }
    assert taken(variant="fp16") - both == {f"{unet}.safetensors.index.fp16.json"} | {
        f"{unet}.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)
    }
    assert taken(only=["a.safetensors", "vae/*"]) == {"a.safetensors", "vae/diffusion_pytorch_model.safetensors"}
    with pytest.raises(ChoiceError, match="`unet` has weights of variants only: `fp16`"):
        choose([f for f in files if "fp16" in f.path or "unet" not in f.path], index)
