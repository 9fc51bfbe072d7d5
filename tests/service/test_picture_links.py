"""Pictures behind links: found by their names only, until their end, and never more of them than there is room for.

| the law that goes red | when this is broken |
|---|---|
| the folder opens for nobody | the file is written unsealed, or called by its link's name |
| a link ends | `open` does not look at the time |
| there is no more than the room | `check_room` is called outside of the lock |
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service import picture_links
from service.picture_links import Full, NoPicture, PictureLinks

FILE = b"\x89PNG a picture"


@pytest.fixture
def links(tmp_path: Path) -> PictureLinks:
    """Links for an hour."""
    return PictureLinks(tmp_path / "state" / "pictures", 3600.0, 10_000)


def test_a_picture_is_found_by_its_name_in_every_worker_and_by_no_other(links: PictureLinks) -> None:
    name, other = links.keep(FILE, "png"), links.keep(b"another", "webp")
    assert replace(links).open(name) == FILE
    assert (name[43:], other[43:], name[:43] != other[:43]) == (".png", ".webp", True)
    (place, *_) = [p for p in links.folder.iterdir() if p.name != ".lock"]
    for wrong in (
        "",
        "x",
        name[:-4] + ".jpeg",
        name[:-1],
        f"../pictures/{name}",
        place.name,
        ".lock",
        "A" * 43 + ".png",
    ):
        with pytest.raises(NoPicture):
            links.open(wrong)


def test_the_folder_opens_for_nobody_who_was_not_given_the_link(links: PictureLinks) -> None:
    name = links.keep(FILE, "png")
    assert links.folder.stat().st_mode & 0o777 == 0o700
    files = [p for p in links.folder.iterdir() if p.name != ".lock"]
    assert len(files) == 1
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert name not in files[0].name
    assert name[:43] not in files[0].name
    assert FILE not in files[0].read_bytes()
    files[0].write_bytes(files[0].read_bytes()[:-1] + b"x")
    with pytest.raises(NoPicture):
        links.open(name)


def test_a_link_ends_at_its_time_and_its_file_is_swept(links: PictureLinks) -> None:
    name = links.keep(FILE, "png")
    (file,) = [p for p in links.folder.iterdir() if p.name != ".lock"]
    (links.folder / "0000.part").write_bytes(b"of a killed worker")
    end = file.stat().st_mtime + 3600.0
    replace(links, clock=lambda: end - 1).sweep()
    assert replace(links, clock=lambda: end - 1).open(name) == FILE
    with pytest.raises(NoPicture):
        replace(links, clock=lambda: end).open(name)
    assert file.exists()
    replace(links, clock=lambda: end + 60).sweep()
    assert [p.name for p in links.folder.iterdir()] == [".lock"]


def test_what_is_over_takes_no_room(links: PictureLinks) -> None:
    links = replace(links, most_bytes=100)
    first = links.keep(bytes(60), "png")
    with pytest.raises(Full):
        links.keep(bytes(60), "png")
    assert links.open(first) == bytes(60)
    (file,) = [p for p in links.folder.iterdir() if p.name != ".lock"]
    os.utime(file, (0, 0))
    links.keep(bytes(60), "png")


def test_callers_at_once_never_get_more_than_there_is_room_for(
    links: PictureLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = PictureLinks.check_room

    def slow(self: PictureLinks, size: int = 0) -> None:
        checked(self, size)
        time.sleep(0.01)

    monkeypatch.setattr(PictureLinks, "check_room", slow)
    monkeypatch.setattr(picture_links, "MOST_FILES", 5)
    kept: list[str] = []

    def keep() -> None:
        for _ in range(3):
            with contextlib.suppress(Full):
                kept.append(replace(links).keep(FILE, "png"))

    threads = [threading.Thread(target=keep) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 5
    assert all(links.open(name) == FILE for name in kept)


def test_before_anything_was_kept_there_is_nothing_to_sweep(links: PictureLinks) -> None:
    links.sweep()
    links.check_room()
    assert not links.folder.exists()
