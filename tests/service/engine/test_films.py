"""A model that draws films, or that cannot be asked for a picture by words alone, is refused in one line."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from service.engine.host import load_host
from service.settings import SettingsError, load_settings
from tests.steering.today import zoo
from tests.tiny import save_pixart


def test_a_model_that_draws_films_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steering import Host

    host = Host(zoo.build("wan"), self_test=False)
    monkeypatch.setattr(Host, "load", lambda *_, **__: host)
    folder = save_pixart(tmp_path / "model")
    settings = load_settings({"model": str(folder), "state": str(tmp_path / "state"), "threads": 1}).settings
    with pytest.raises(SettingsError, match=r"`model`: `WanPipeline` draws films.*steering\.Host"):
        load_host(settings)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("prompt", "image", "strength", "num_inference_steps"), r"`Other` starts from a picture \(`image`\)"),
        (
            ("prompt", "args", "kwargs"),
            "must take `height`, `width`, `num_inference_steps` by name",
        ),
    ],
)
def test_a_pipeline_that_takes_no_size_or_needs_a_picture_is_refused(
    names: tuple[str, ...], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import PixArtAlphaPipeline

    from steering import Host

    folder = save_pixart(tmp_path / "model")
    other = type("Other", (PixArtAlphaPipeline,), {})
    signature = inspect.Signature([inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None) for n in names])
    other.__call__ = lambda self, **kwargs: None  # type: ignore[method-assign]
    other.__call__.__signature__ = signature  # type: ignore[attr-defined]
    host = Host.load(folder, self_test=False)
    host.pipe.__class__ = other
    monkeypatch.setattr(Host, "load", lambda *_, **__: host)
    settings = load_settings({"model": str(folder), "state": str(tmp_path / "state"), "threads": 1}).settings
    with pytest.raises(SettingsError, match=why):
        load_host(settings)
