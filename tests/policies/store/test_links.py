"""What Kubernetes does to a mounted folder is seen: links are followed at each look, and only regular files are opened.

| the law that goes red | when this is broken |
|---|---|
| a swap of `..data` is seen, in subfolders too | `followlinks=True` in `_walk` is dropped |
| links out of the folder or in a circle end | the condition on `top` or `visited` is dropped |
| a FIFO or a device stalls nothing | `read_file` opens without `O_NONBLOCK`, or does not look at the kind |
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from detectors.text import sense
from palimpsest_base.files import read_file
from policies import Loader, PolicyError, Request, Store, decide
from policies.store.sources import FileWatcher
from tests.policies.helpers import policy, rule

FLAT = policy(rule(when="{lettering: {any_of: [grumpf]}}"))
LISTED = policy(rule(when="{lettering: {any_of: [$bad]}}"), more="lists:\n  bad: {file: lists/bad.txt}\n")


class Mount:
    """A ConfigMap or a Secret as Kubernetes mounts it: `name -> ..data/name`, `..data -> ..N`, swapped by a rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 0
        folder.mkdir()

    def put(self, files: dict[str, str]) -> None:
        before, self.version = self.folder / f"..{self.version}", self.version + 1
        fresh = self.folder / f"..{self.version}"
        for name, text in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(text)
            os.utime(fresh / name, (1_000_000, 1_000_000))  # old, and the same each time
        (self.folder / "..fresh").symlink_to(fresh.name)
        (self.folder / "..fresh").rename(self.folder / "..data")
        for name in {name.split("/")[0] for name in files}:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        if before.exists():
            for file in sorted(before.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            before.rmdir()


def lists_of(word: str) -> dict[str, str]:
    return {"p.yaml": LISTED, "lists/bad.txt": f"{word}\n"}


def one_file(word: str) -> dict[str, str]:
    return {"p.yaml": FLAT.replace("grumpf", word)}


@pytest.mark.parametrize(
    ("files", "followed"), [(one_file, "p.yaml"), (one_file, ""), (lists_of, ""), (lists_of, "p.yaml")]
)
def test_a_swap_of_a_mounted_folder_is_seen(
    tmp_path: Path, files: Callable[[str], dict[str, str]], followed: str
) -> None:
    mount = Mount(tmp_path / "mount")
    mount.put(files("grumpf"))
    store = Store(Loader(sense=sense), mount.folder / followed)
    assert blocks(store, "grumpf")
    mount.put(files("snirty"))
    assert store.poll().source == "live"
    assert blocks(store, "snirty")
    assert not blocks(store, "grumpf")


def test_a_link_to_a_folder_that_is_turned_is_seen(tmp_path: Path) -> None:
    for name, word in (("v1", "grumpf"), ("v2", "snirt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_text(FLAT.replace("grumpf", word))
    (tmp_path / "current").symlink_to("v1")
    store = Store(Loader(sense=sense), tmp_path / "current")
    (tmp_path / "fresh").symlink_to("v2")
    (tmp_path / "fresh").rename(tmp_path / "current")
    store.poll()
    assert blocks(store, "snirt")


def test_links_in_a_circle_and_out_of_the_folder_end(tmp_path: Path) -> None:
    folder, outside = tmp_path / "live", tmp_path / "outside"
    (folder / "lists").mkdir(parents=True)
    outside.mkdir()
    (folder / "p.yaml").write_text(FLAT)
    for name in ("a", "b", "c", "d"):
        (folder / "lists" / name).symlink_to("..")
    (folder / "out").symlink_to(outside)
    watcher = FileWatcher(folder)
    before = watcher.fingerprint()
    (outside / "x.txt").write_text("what no list can name")
    assert watcher.fingerprint() == before


def test_a_list_in_a_hidden_folder_is_refused_because_its_changes_go_unnoticed(tmp_path: Path) -> None:
    (tmp_path / ".lists").mkdir()
    (tmp_path / ".lists" / "bad.txt").write_text("grumpf\n")
    (tmp_path / "p.yaml").write_text(LISTED.replace("lists/bad.txt", ".lists/bad.txt"))
    with pytest.raises(PolicyError, match="must not be hidden"):
        Loader(sense=sense).load(tmp_path)


def test_a_list_with_another_suffix_is_refused_because_its_changes_go_unnoticed(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "bad.list").write_text("grumpf\n")
    (tmp_path / "p.yaml").write_text(LISTED.replace("lists/bad.txt", "lists/bad.list"))
    with pytest.raises(PolicyError, match=r"must end in `\.txt`"):
        Loader(sense=sense).load(tmp_path)


@pytest.mark.parametrize("name", ["x.txt", "x.yaml", "x.bundle"])
@pytest.mark.parametrize("kind", ["fifo", "zero", "folder"])
def test_what_is_no_regular_file_stalls_no_poll_and_eats_no_memory(tmp_path: Path, kind: str, name: str) -> None:
    folder = tmp_path / "live"
    folder.mkdir()
    (folder / "p.yaml").write_text(FLAT)
    store = Store(Loader(sense=sense), folder)
    strange(folder / name, kind)
    polled = threading.Thread(target=store.poll, daemon=True)
    polled.start()
    polled.join(10)
    assert not polled.is_alive()
    assert blocks(store, "grumpf")
    (folder / name).rmdir() if kind == "folder" else (folder / name).unlink()
    (folder / "p.yaml").write_text(FLAT.replace("grumpf", "snirt"))
    assert store.poll().source == "live"
    assert blocks(store, "snirt")


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder"])
def test_only_regular_files_are_read_and_never_more_than_is_allowed(tmp_path: Path, kind: str) -> None:
    strange(tmp_path / "strange", kind)
    with pytest.raises(OSError, match=r"regular|directory"):
        read_file(tmp_path / "strange", 100)
    (tmp_path / "large").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_file(tmp_path / "large", 100)
    assert len(read_file(tmp_path / "large", 101)) == 101


def strange(path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


def blocks(store: Store, word: str) -> bool:
    request = Request(f'a sign that says "{word}"')
    return decide(request, sense(request), store.snapshot).verdict != "allow"
