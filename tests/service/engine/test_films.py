"""A model that draws films is refused by the service in one line."""

from __future__ import annotations

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
