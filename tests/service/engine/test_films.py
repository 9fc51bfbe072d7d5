"""A model that draws films, or that cannot be asked for a picture by words alone, is refused in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.engine.host import load_host
from service.settings import Settings, SettingsError, load_settings
from tests.steering import zoo
from tests.steering.today import zoo as today
from tests.tiny import save_pixart


@pytest.fixture
def loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Settings]:
    """Settings with which a host of this pipeline is loaded."""
    from steering import Host

    def of(pipe: Any) -> Settings:
        host = Host(pipe)
        monkeypatch.setattr(Host, "load", lambda *_, **__: host)
        folder = save_pixart(tmp_path / "model")
        return load_settings({"model": str(folder), "state": str(tmp_path / "state"), "threads": 1}).settings

    return of


def from_pictures(family: str, name: str) -> Any:
    """The pipeline `name`, which starts from pictures, of the components of one that does not."""
    import diffusers

    kind = getattr(diffusers, name)
    parts = (zoo if family == "sd1" else today).build(family).components
    wanted = [n for n in inspect.signature(kind.__init__).parameters if n != "self"]
    made = kind(**{n: parts.get(n) for n in wanted if n in parts or n == "processor"})
    made.set_progress_bar_config(disable=True)
    return made


def without_names() -> Any:
    pipe = zoo.build("pixart-alpha")
    kind = type(pipe)

    class Loose(kind):  # type: ignore[misc, valid-type]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    pipe.__class__ = Loose
    return pipe


def test_a_model_that_draws_films_is_refused(loading: Callable[[Any], Settings]) -> None:
    with pytest.raises(SettingsError, match=r"`model`: `WanPipeline` draws films.*steering\.Host"):
        load_host(loading(today.build("wan")))


@pytest.mark.parametrize(
    ("family", "name"), [("sd1", "StableDiffusionImg2ImgPipeline"), ("qwen-image", "QwenImageEditPipeline")]
)
def test_a_pipeline_that_starts_from_a_picture_is_refused(
    family: str, name: str, loading: Callable[[Any], Settings]
) -> None:
    with pytest.raises(SettingsError, match=rf"`model`: `{name}` starts from a picture \(`image`\)"):
        load_host(loading(from_pictures(family, name)))


def test_one_that_may_start_from_a_picture_or_from_words_is_served(loading: Callable[[Any], Settings]) -> None:
    assert load_host(loading(today.build("flux2-klein"))).family.name


def test_a_pipeline_whose_call_has_no_names_is_refused(loading: Callable[[Any], Settings]) -> None:
    with pytest.raises(SettingsError, match="`Loose` must take `prompt`, `height`, `width`, `num_inference_steps`"):
        load_host(loading(without_names()))
