"""A model family of another package: one file and one entry-point line, and nothing of this project is changed.

| mutation | turns red |
|---|---|
| `load_host` does not pass the families on | a family of another package is used |
| `known_family` asks the table alone | a family of another package is used |
| `check_families` is not called | a record for a class that is described is refused |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.installed import install, python

# a record as a package would write it; `fewest_steps` tells it from what the probe finds
FAMILY = """
from steering.families.description import Encode, Family, Inputs, SiteRule

FAMILY = Family(
    name="Bria",
    pipelines=("BriaPipeline",),
    denoiser="transformer",
    denoiser_class="BriaTransformer2DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\\.\\d+\\.attn",
            module_class="BriaAttention",
            kind="joint",
            keys=("add_k_proj", "add_v_proj"),
            stream="encoder_hidden_states",
            output="first",
        ),
        SiteRule(
            pattern=r"single_transformer_blocks\\.\\d+\\.attn",
            module_class="BriaAttention",
            kind="joint",
            keys=("to_k", "to_v"),
            text="hidden_states",
            span="first",
            stream="encoder_hidden_states",
            output="sequence",
        ),
    ),
    encode=Encode(
        guidance="do_classifier_free_guidance",
        cleared=("negative_prompt", "prompt_embeds", "negative_prompt_embeds"),
        returns=("text", "negative_text", "text_ids"),
        encoders=("text_encoder",),
    ),
    guidance="uncond-first",
    inputs=Inputs(shared=("txt_ids", "img_ids")),
    fewest_steps=3,
)
"""
LOAD = """
from service.engine.host import load_host
from service.settings import load_settings
host = load_host(load_settings({"model": MODEL, "device": "cpu", "threads": 1}).settings)
print(host.family.name, len(host.sites), host.tested.passed, host.fewest_steps)
"""
GROUP = "palimpsest.families"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of a class that the table of families does not have, as a diffusers folder."""
    from tests.steering.families.test_probe import bria

    folder = tmp_path_factory.mktemp("models") / "tiny-bria"
    bria().save_pretrained(folder)
    (folder / "defaults.json").write_text('{"call": {"max_sequence_length": 24}}')
    return folder


def loaded(model: Path, packages: Path, **environment: str) -> Any:
    return python(f"MODEL = {str(model)!r}\n{LOAD}", packages, **environment)


def test_a_family_of_another_package_is_used_when_the_settings_allow_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.engine.host import load_host
    from service.settings import load_settings

    install(tmp_path, "team_bria", FAMILY, {GROUP: "team-bria = team_bria:FAMILY"})
    allowed = loaded(model, tmp_path, PALIMPSEST_PLUGINS="team-bria")
    assert allowed.stdout.split() == ["Bria", "4", "True", "3"], allowed.stderr[-2000:]
    monkeypatch.syspath_prepend(str(tmp_path))
    probed = load_host(load_settings({"model": str(model), "device": "cpu"}).settings)
    assert (probed.family.name, probed.fewest_steps) == ("BriaPipeline", 1), "without the setting the class is probed"


def test_a_described_family_needs_no_self_test_to_know_its_sites(tmp_path: Path) -> None:
    from steering import Host
    from tests.steering.families.test_probe import bria

    names: dict[str, Any] = {}
    exec(FAMILY, names)
    host = Host(bria(), self_test=False, families=[names["FAMILY"]])
    assert host.family is names["FAMILY"]
    assert host.joint
    host.close()


def test_a_record_for_a_class_that_is_described_already_is_refused() -> None:
    from dataclasses import replace

    from steering import BadFamily, Host
    from steering.families.table import FAMILIES, family_of, known_family
    from tests.steering import zoo

    names: dict[str, Any] = {}
    exec(FAMILY, names)
    mine = names["FAMILY"]
    theirs = replace(family_of("SanaPipeline"), name="mine")
    pipe = zoo.build("sana")
    with pytest.raises(BadFamily, match=r"`mine` must not describe `SanaPipeline`, which family `SANA` describes"):
        Host(pipe, self_test=False, families=[theirs])
    with pytest.raises(BadFamily, match=r"`again` must not describe `BriaPipeline`, which family `Bria` describes"):
        Host(pipe, self_test=False, families=[mine, replace(mine, name="again")])
    with pytest.raises(BadFamily, match="must hold `Family` records, got `dict`"):
        Host(pipe, self_test=False, families=[{}])  # type: ignore[list-item]
    derived = type("TeamSanaPipeline", (type(pipe),), {})
    own = replace(theirs, pipelines=("TeamSanaPipeline",))
    assert known_family(derived, [own]) is own
    assert known_family(derived) is family_of("SanaPipeline")
    assert own not in FAMILIES


def test_a_pipeline_that_is_refused_by_name_stays_refused() -> None:
    from dataclasses import replace

    from steering import NotSupported
    from steering.families.table import family_of, known_family

    refused = type("TeamControlNetPipeline", (), {})
    own = replace(family_of("SanaPipeline"), name="mine", pipelines=("TeamControlNetPipeline",))
    with pytest.raises(NotSupported, match="its ControlNet has text inputs of its own"):
        known_family(refused, [own])
