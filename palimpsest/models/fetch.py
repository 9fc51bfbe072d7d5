"""Downloads the files of a model at a commit: into the hub's cache on this machine, or into a folder.

huggingface_hub asks the hub, knows its tokens and retries. Its own downloads begin anew in each process, so here a file
grows as a hidden `.part`, which a later run continues. A part has the digest of its file in its name: what a stopped
run left of another commit is never continued.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from palimpsest.models.choice import Choice, ChoiceError, HubFile, choose
from palimpsest.models.lock import Lock, digests_of, write_lock

__all__ = ["FetchError", "Fetcher", "Plan"]

_INDEX = "model_index.json"


class FetchError(ValueError):
    """A model cannot be fetched. The message is one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a download would do: all files, those that are not there yet, and how many bytes are missing."""

    choice: Choice
    missing: tuple[HubFile, ...]
    to_load: int


class Fetcher:
    """A model of a hub at a commit, and where its files go: `into` a folder, or the hub's cache on this machine.

    `endpoint`: the hub; default: `HF_ENDPOINT`, or Hugging Face's. Every method raises `FetchError`.
    """

    def __init__(self, model: str, revision: str, *, into: Path | None = None, endpoint: str | None = None) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self.model = model
        self.revision = revision
        self._endpoint = endpoint
        self._cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model")
        self._into = into

    @property
    def folder(self) -> Path:
        """The folder that the model is in, once it is fetched."""
        return self._into or self._cache / "snapshots" / self.revision

    def plan(self, *, variant: str | None = None, only: Sequence[str] = ()) -> Plan:
        """Asks the hub which files there are, and looks which of them are here. Downloads the index alone."""
        files = self._listed()
        index = next((file for file in files if file.path == _INDEX), None)
        try:
            choice = choose(files, self._read(index) if index and not only else None, variant=variant, only=only)
        except ChoiceError as error:
            raise FetchError(f"`{self.model}`: {error}") from None
        missing = tuple(file for file in choice.files if not self._is_here(file))
        to_load = sum(file.size - _size(self._part(file)) for file in missing)
        free = shutil.disk_usage(_existing(self.folder)).free
        if to_load > free:
            raise FetchError(f"`{self.folder}` has room for {free} bytes, and {to_load} are to be downloaded")
        return Plan(choice, missing, to_load)

    def run(self, plan: Plan, *, variant: str | None = None, told: Callable[[HubFile], None]) -> Lock:
        """Downloads what is missing, verifies every file, and writes the lock. `told` is called before each file."""
        for file in plan.missing:
            told(file)
            self._load(file)
        if self._into is None:
            self._link(plan.choice.files)
        digests = {file.path: (file.size, digests_of(self._place(file))[0]) for file in plan.choice.files}
        lock = Lock(self.model, self.revision, variant, digests)
        write_lock(self.folder, lock)
        return lock

    def _listed(self) -> list[HubFile]:
        from huggingface_hub import HfApi

        asked = partial(HfApi(endpoint=self._endpoint).model_info, self.model)
        info = self._of_hub(lambda: asked(revision=self.revision, files_metadata=True))
        if info.sha != self.revision:
            raise FetchError(f"the hub answers with commit `{info.sha}` of `{self.model}`, not `{self.revision}`")
        return [
            HubFile(each.rfilename, int(each.size or 0), each.lfs.sha256 if each.lfs else str(each.blob_id))
            for each in info.siblings or ()
        ]

    def _read(self, file: HubFile) -> dict[str, Any]:
        """The JSON object in a small file of the repository."""
        with TemporaryFile() as content:
            self._of_hub(lambda: self._get(file, content, 0))
            content.seek(0)
            try:
                value = json.load(content)
            except ValueError as error:
                raise FetchError(f"`{file.path}` of `{self.model}` must be JSON: {error}") from None
        if not isinstance(value, dict):
            raise FetchError(f"`{file.path}` of `{self.model}` must be a JSON object, got `{type(value).__name__}`")
        return value

    def _load(self, file: HubFile) -> None:
        """Downloads a file, beginning where a stopped run ended."""
        part = self._part(file)
        part.parent.mkdir(parents=True, exist_ok=True)
        if _size(part) > file.size:
            part.unlink()
        with part.open("ab") as content:
            self._of_hub(lambda: self._get(file, content, _size(part)))
        if file.digest not in digests_of(part):
            part.unlink()
            raise FetchError(f"`{file.path}` came with another content than the hub lists, and was removed; try again")
        place = self._place(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)

    def _get(self, file: HubFile, content: Any, begin: int) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.model, file.path, revision=self.revision, endpoint=self._endpoint)
        http_get(
            url,
            content,
            resume_size=begin,
            headers=build_hf_headers(),
            expected_size=file.size,
            displayed_filename=file.path,
        )

    def _link(self, files: Sequence[HubFile]) -> None:
        """Makes the snapshot of the hub's cache: a folder of links to contents."""
        for file in files:
            link = self.folder / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            target = os.path.relpath(self._place(file), link.parent)
            if not (link.is_symlink() and os.readlink(link) == target):
                link.unlink(missing_ok=True)
                link.symlink_to(target)

    def _place(self, file: HubFile) -> Path:
        """Where the content of a file is stored."""
        return self._cache / "blobs" / file.digest if self._into is None else self._into / file.path

    def _part(self, file: HubFile) -> Path:
        place = self._place(file)
        return place.with_name(f".{place.name}.{file.digest[:16]}.part")

    def _is_here(self, file: HubFile) -> bool:
        place = self._place(file)
        return place.is_file() and _size(place) == file.size and file.digest in digests_of(place)

    def _of_hub(self, ask: Callable[[], Any]) -> Any:
        """What the hub answers."""
        from huggingface_hub import errors

        where = f"`{self.model}` at `{self.revision}`"
        try:
            return ask()
        except errors.GatedRepoError:
            raise FetchError(
                f"{where} is gated: accept its terms on the hub, and log in with `hf auth login`"
            ) from None
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError):
            raise FetchError(f"the hub has no {where}, or it needs a token (`hf auth login`)") from None
        except errors.HFValidationError as error:
            raise FetchError(f"`{self.model}` must be a hub id `owner/name`: {_said(error)}") from None
        except errors.OfflineModeIsEnabled:
            raise FetchError("`HF_HUB_OFFLINE` is set; unset it to download") from None
        except Exception as error:  # of the network; the client's classes differ between versions of huggingface_hub
            raise FetchError(f"{where} could not be fetched: {type(error).__name__}: {_said(error)}") from error


def _size(file: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return file.stat().st_size if file.is_file() else 0


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
