"""Published presets: each fits the model that its paper measured and nothing else, and says what it rests on.

No weights are at hand, so models stand at their released sizes on the meta device, and what a preset asks for is
carried out on tiny models of the same families.

| law | mutation that turned it red |
|---|---|
| the files are what the command writes | a site's number changed in the table |
| sites in execution order | the U-Nets' middle counted last |
| the papers' counts of parameters | IF's site one level higher, SDXL's one group earlier |
| other models are refused | `qk_norm` left out of SD3's facts or SANA's, `guidance_embeds` out of FLUX's |
| a derived pipeline, a compiled denoiser | `type(pipe).__name__` compared alone, `_orig_mod` not looked behind |
| the first pipeline decides | sites of later stages counted in |
| a category serves its concepts | the category preferred to a pack of the concept's own |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.released import RELEASED

PUBLISHED = Path(__file__).parents[3] / "steering" / "published"
CATEGORIES = ("style", "animal", "place", "character", "person", "harm")
FILES = {
    "stable-diffusion-xl-base-1.0": {"sdxl-lettering"},
    "IF-I-XL-v1.0": {"if-lettering"},
    "stable-diffusion-3-medium": {"sd3-lettering"},
    "PixArt-XL-2-1024-MS": {f"pixart-alpha-{c}" for c in CATEGORIES},
    "Sana_1600M_1024px": {f"sana-{c}" for c in CATEGORIES},
    "FLUX.1-dev": {f"flux-{c}" for c in CATEGORIES},
}
TINY = {
    "StableDiffusionXLPipeline": "sdxl",
    "IFPipeline": "if1",
    "StableDiffusion3Pipeline": "sd3",
    "PixArtAlphaPipeline": "pixart-alpha",
    "SanaPipeline": "sana",
    "FluxPipeline": "flux-dev",
}
RED, GREEN = "a red star", "a green ring"


@pytest.fixture(scope="module")
def on_meta() -> Callable[[str], Any]:
    """Hosts of released models without weights: the denoiser at its size, nothing else loaded."""
    made: dict[str, Any] = {}

    def host(name: str) -> Any:
        import diffusers

        from steering import Host

        if name not in made:
            released = RELEASED[name]
            with torch.device("meta"):
                denoiser = getattr(diffusers, released.denoiser)(**released.config)
            kind = getattr(diffusers, released.pipeline)
            part = "unet" if released.denoiser.startswith("UNet") else "transformer"
            given = [n for n, p in signature(kind.__init__).parameters.items() if n != "self" and p.default is p.empty]
            parts = dict.fromkeys(given) | {part: denoiser, "scheduler": diffusers.DDIMScheduler()}
            made[name] = Host(kind(**parts), name=name, self_test=False)
        return made[name]

    return host


def denoiser_of(host: Any) -> Any:
    return host.pipe.unet if hasattr(host.pipe, "unet") else host.pipe.transformer


def like(host: Any) -> Any:
    """A likeness of a host that asks for nothing but its classes."""
    from steering.families.fingerprint import Likeness

    return Likeness(type(host.pipe).__name__, type(denoiser_of(host)).__name__, {})


def published(on: Any, **more: Any) -> Any:
    """A published pack for a host."""
    from steering import Pack

    names = tuple(s.name for s in on.sites if "/" not in s.name)
    source = {"kind": "published", "source": {"paper": "none"}}
    parts = {"concept": "lettering", "host": like(on), "sites": names[1:2], "wider": names[:3], "site_names": names}
    return Pack(**(parts | {"evidence": source} | more))


def test_the_files_are_what_the_command_writes(tmp_path: Path) -> None:
    from steering.packs.presets import write

    written = {path.name: path.read_bytes() for path in write(tmp_path)}
    assert {path.name: path.read_bytes() for path in PUBLISHED.glob("*.safetensors")} == written
    assert {path.name for path in PUBLISHED.iterdir()} == {*written, "README.md"}
    assert max(map(len, written.values())) < 10_000
    assert {Path(name).stem for name in written} == set().union(*FILES.values())


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_model_has_its_own_presets_and_no_other(on_meta: Any, name: str) -> None:
    from steering.packs.lookup import published_packs

    host = on_meta(name)
    packs = published_packs(host)
    assert set(packs) == FILES.get(name, set())
    for pack in packs.values():
        assert pack.published
        assert pack.site_names == tuple(s.name for s in host.sites)
        assert set(pack.sites) < set(pack.wider)
        plan = pack.plan(GREEN)
        assert plan.made_for is None
        host._check_plans([plan, pack.plan(GREEN, wider=True)])


@pytest.mark.parametrize(
    ("name", "file", "sites"),
    [
        (
            "stable-diffusion-xl-base-1.0",
            "sdxl-lettering",
            {i: f"up_blocks.0.attentions.2.transformer_blocks.{i - 54}.attn2" for i in (55, 56, 57)},
        ),
        ("IF-I-XL-v1.0", "if-lettering", {17: "up_blocks.1.attentions.3"}),
        ("stable-diffusion-3-medium", "sd3-lettering", {10: "transformer_blocks.10.attn"}),
        (
            "PixArt-XL-2-1024-MS",
            "pixart-alpha-style",
            {i: f"transformer_blocks.{i}.attn2" for i in (0, 1, 2, 3, 4, 9, 10, 11, 12, 19, 27)},
        ),
        ("Sana_1600M_1024px", "sana-style", {i: f"transformer_blocks.{i}.attn2" for i in range(5, 13)}),
        ("FLUX.1-dev", "flux-style", {i: f"transformer_blocks.{i}.attn" for i in range(3, 19)}),
    ],
)
def test_a_papers_numbers_are_places_in_execution_order(
    on_meta: Any, name: str, file: str, sites: dict[int, str]
) -> None:
    from steering.packs.lookup import published_packs

    host = on_meta(name)
    assert {i: host.sites[i].name for i in sites} == sites
    assert published_packs(host)[file].sites == tuple(sites.values())


@pytest.mark.parametrize(
    ("name", "projections", "millions"),
    [
        ("stable-diffusion-xl-base-1.0", ("to_k", "to_v"), 15.7),
        ("IF-I-XL-v1.0", ("to_k", "to_v"), 8.9),  # the picture's, of the same attention
        ("stable-diffusion-3-medium", ("add_k_proj", "add_v_proj"), 4.7),
    ],
)
def test_the_sites_have_as_many_parameters_as_the_paper_counts(
    on_meta: Any, name: str, projections: tuple[str, str], millions: float
) -> None:
    from steering.packs.lookup import published_packs

    host = on_meta(name)
    (pack,) = published_packs(host).values()
    modules = [denoiser_of(host).get_submodule(f"{site}.{p}") for site in pack.sites for p in projections]
    assert sum(m.weight.numel() for m in modules) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        (
            "stable-diffusion-3.5-medium",
            "sd3-lettering",
            r"qk_norm `null` is `.rms_norm.` here$",
        ),
        ("stable-diffusion-3.5-large", "sd3-lettering", r"num_layers `24` is `38` here"),
        ("FLUX.1-schnell", "flux-style", r"guidance_embeds `true` is `false` here$"),
        ("Sana_600M_1024px", "sana-style", r"num_layers `20` is `28` here"),
        ("Sana_Sprint_1600M_1024px", "sana-style", r"pipeline `SanaPipeline` is `SanaSprintPipeline` here$"),
        ("stable-diffusion-xl-refiner-1.0", "sdxl-lettering", r"is `StableDiffusionXLImg2ImgPipeline` here$"),
        ("PixArt-XL-2-1024-MS", "sana-style", r"pipeline `SanaPipeline` is `PixArtAlphaPipeline` here$"),
    ],
)
def test_another_model_is_refused_naming_what_differs(on_meta: Any, name: str, file: str, says: str) -> None:
    from steering import Pack, PackMismatch

    with pytest.raises(PackMismatch, match=rf"made for another host than `{name}`: .*{says}"):
        Pack.load(PUBLISHED / f"{file}.safetensors", host=on_meta(name))


def test_a_later_release_in_the_same_shape_is_another_model() -> None:
    """SANA 1.5 has the blocks and widths of SANA, and a norm that its paper's model has not."""
    import diffusers

    from steering import Host, PackNotFound, find_pack

    with torch.device("meta"):
        later = diffusers.SanaTransformer2DModel(num_layers=20, qk_norm="rms_norm_across_heads")
    pipe = diffusers.SanaPipeline(None, None, None, later, diffusers.DDIMScheduler())
    host = Host(pipe, name="later", self_test=False)
    with pytest.raises(PackNotFound, match=r"sana-style.*: qk_norm `null` is `.rms_norm_across_heads.` here"):
        find_pack("style/monet", host, [PUBLISHED])
    host.close()


@pytest.mark.parametrize("name", TINY.values())
def test_a_small_model_of_the_same_classes_is_refused_naming_what_differs(name: str) -> None:
    from steering import Host, PackNotFound, find_pack

    host = Host(zoo.build(name), name="tiny", self_test=False)
    concept = "lettering" if name in ("sdxl", "if1", "sd3") else "style/van-gogh"
    with pytest.raises(PackNotFound, match=r"not made for it: .*(num_layers|block_out_channels) `.*` is `.*` here"):
        find_pack(concept, host, [PUBLISHED])
    host.close()


@pytest.mark.parametrize(
    "file", ["sdxl-lettering", "if-lettering", "sd3-lettering", "pixart-alpha-style", "sana-harm", "flux-harm"]
)
def test_what_a_preset_asks_for_is_carried_out_on_its_family(file: str) -> None:
    """The same way of swapping, at sites of a tiny host: its pooled text, its source, its window."""
    from steering import Host
    from steering.packs.pack import read_header

    header = read_header(PUBLISHED / f"{file}.safetensors")
    name = TINY[header["host"]["pipeline"]]
    host = Host(zoo.build(name), self_test=False)
    pack = published(host, pooled=header["pooled"], source=header["source"])
    plans = [pack.plan(GREEN), None, pack.plan(GREEN, wider=True)]
    out = host.generate([RED] * 3, plans=plans, seeds=[1] * 3, **zoo.CALL[name])
    assert set(out.report[0].fired) >= set(pack.sites)
    pictures = [torch.as_tensor(_array(image)) for image in out.images]
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[2], pictures[1])
    host.close()


def _array(image: Any) -> Any:
    import numpy as np

    return np.asarray(image).astype(int)


def test_a_derived_pipeline_and_a_compiled_denoiser_are_as_good(tmp_path: Path) -> None:
    from steering import Host, Pack

    pipe = zoo.build("pixart-alpha")
    kind = type(pipe)
    plain = Host(pipe, self_test=False)
    path = published(plain, host=replace(like(plain), facts={"num_layers": len(plain.sites)})).save(
        tmp_path / "a.safetensors"
    )
    plain.close()
    pipe.__class__ = type("Derived", (kind,), {"__module__": kind.__module__})
    pipe.transformer = torch.compile(pipe.transformer)
    host = Host(pipe, self_test=False)
    assert Pack.load(path, host=host).plan(GREEN).made_for is None
    host.close()


def test_of_a_host_of_several_pipelines_the_first_decides(tmp_path: Path) -> None:
    from steering import Host, Pack, PackMismatch

    first, second = zoo.build("if1"), zoo.build("if2")
    host = Host(first, second, self_test=False)
    path = published(host).save(tmp_path / "a.safetensors")
    assert all("/" not in site for site in Pack.load(path, host=host).site_names)
    names = tuple(s.name for s in host.sites if "/" not in s.name)
    shorter = published(host, site_names=names[:-1]).save(tmp_path / "b.safetensors")
    with pytest.raises(
        PackMismatch, match=rf"counts {len(names) - 1} sites in execution order, .* others, {len(names)}"
    ):
        Pack.load(shorter, host=host)
    host.close()


def test_a_category_serves_every_concept_in_it(on_meta: Any) -> None:
    from steering import BadPack, PackNotFound, find_pack

    host = on_meta("PixArt-XL-2-1024-MS")
    pack = find_pack("style/van-gogh", host, [PUBLISHED])
    assert pack.concept == "style/van-gogh"
    assert pack.donor_for("a castle in the style of Van Gogh, at night") == "a castle, at night"
    assert pack.donor_for("a van gogh painting by Van Gogh") == "a painting"
    assert pack.donor_for("a castle") is None
    assert pack.donor_for("van gogh") is None
    place = find_pack("place/eiffel-tower", host, [PUBLISHED])
    assert place.donor_for("The Eiffel Tower at night") == "a place at night"
    assert place.about("place/eiffel-tower") is place
    with pytest.raises(BadPack, match="pack `place/eiffel-tower` is not for concept `place/rome`"):
        place.about("place/rome")
    with pytest.raises(PackNotFound):
        find_pack("lettering", host, [PUBLISHED])


def test_without_a_phrase_of_its_own_a_plan_needs_a_donor(on_meta: Any) -> None:
    from steering import BadPlan, find_pack

    host = on_meta("FLUX.1-dev")
    with pytest.raises(BadPlan, match="give a donor prompt as `toward`"):
        find_pack("style/monet", host, [PUBLISHED]).plan()
    (swap,) = find_pack("animal/cat", host, [PUBLISHED]).plan().interventions
    assert (swap.donor, swap.pooled, swap.source, swap.rows) == ("an animal", "donor", "twin", "cond")


def test_a_pack_of_the_concept_itself_comes_before_one_of_its_category(tmp_path: Path) -> None:
    from steering import Host, PackError, find_pack

    host = Host(zoo.build("pixart-alpha"), self_test=False)
    published(host, concept="style/*", neutral="any").save(tmp_path / "a.safetensors")
    assert find_pack("style/monet", host, [tmp_path]).neutral == "any"
    published(host, concept="style/monet", neutral="own").save(tmp_path / "b.safetensors")
    assert find_pack("style/monet", host, [tmp_path]).neutral == "own"
    published(host, concept="style/*").save(tmp_path / "c.safetensors")
    with pytest.raises(PackError, match=r"two packs for `style/klee`.*a\.safetensors.*c\.safetensors"):
        find_pack("style/klee", host, [tmp_path])
    host.close()


@pytest.mark.parametrize("preset", sorted(set().union(*FILES.values())))
def test_every_preset_says_what_it_rests_on(preset: str) -> None:
    from steering.packs.pack import read_header

    evidence = read_header(PUBLISHED / f"{preset}.safetensors")["evidence"]
    assert evidence["kind"] == "published"
    assert "arXiv" in evidence["source"]["paper"]
    assert evidence["checkpoint"].removesuffix("_BF16") in RELEASED
    assert evidence["figures"]
