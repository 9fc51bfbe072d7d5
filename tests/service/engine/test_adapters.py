"""Adapters on a tiny host: LoRA files in batches of their own, packs in mixed batches, and rules that were not verified
with them.

| law | mutation that turned it red |
|---|---|
| who did not ask for it does not get it | `lora` left out of `BatchKey` |
| an adapter stays in a repair | `_whole` with `plan=None` |
| a rule that was not verified with it is unfit | `why_unverified` without the adapter |
| evidence holds up to its scale | `vouches_for` without the scale |
| a sentinel is silent with an adapter | `watching` without `adapter is None` |
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

BENIGN = "a red star on a blue background"
TOXIC = 'a red star with a sign that says "idiot"'
BENIGN_WORDS = ("bread", "music")


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image).astype(int)


def picture(answer: Any, k: int = 0) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return pixels(Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][k]["b64_json"]))))


@pytest.fixture
def offered(serve: Callable[..., Any], loud: Path, editing: Path) -> Any:
    """A service with both kinds, without policies."""
    return serve(policy="none", adapters=(f"loud={loud}@0.8", f"zub={editing}"), batching="dynamic", max_batch=8)


def ask(client: Any, prompt: str = BENIGN, seed: int = 3, **body: Any) -> Any:
    body = {"num_inference_steps": 2, **body}
    return client.post("/v1/images/generations", json={"prompt": prompt, "seed": seed, **body})


class Counted:
    """What the metrics of a service counted since this was made; the values of one process add up over tests."""

    def __init__(self, client: Any) -> None:
        self._series = client.runtime.recorder.series
        self._before = {each: self._series(*each)._value.get() for each in _COUNTED}

    def __call__(self, *series: str) -> float:
        now: float = self._series(*series)._value.get()
        return now - self._before[series]


_COUNTED = (
    ("fallbacks_total", "unfit"), ("fallbacks_total", "steering"), ("steered_pictures_total", "lettering"),
    ("adapter_pictures_total", "loud"), ("adapter_pictures_total", "zub"),
)  # fmt: skip


def stock(host: Any, prompt: str, answer: Any, *, plan: Any = None, seed: int = 3) -> np.ndarray:
    """What the host draws in the shape of an answer."""
    shape = answer.json()["steering"]["shape"]
    size, row = shape["batch"], shape["row"]
    prompts, seeds, plans = ["a filler"] * size, [0] * size, [None] * size
    prompts[row], seeds[row], plans[row] = prompt, seed, plan
    return pixels(host.generate(prompts, plans=plans, seeds=seeds, num_inference_steps=2).images[row])


def test_with_and_without_at_once_everyone_gets_what_was_asked_for(
    offered: Any, host: Any, loud: Path, editing: Path, model: Path
) -> None:
    from steering import Host, Pack

    counted = Counted(offered)
    wants = [None, {"name": "loud"}, {"name": "loud", "scale": 0.3}, {"name": "zub"}] * 4
    with ThreadPoolExecutor(len(wants)) as pool:
        answers = list(
            pool.map(lambda k: ask(offered, seed=k, **({"lora": wants[k]} if wants[k] else {})), range(len(wants)))
        )
    apart = Host.load(model)
    apart.load_lora("loud", loud)
    pack = Pack.load(editing, host=host)
    batched = 0
    for k, (want, answer) in enumerate(zip(wants, answers, strict=True)):
        got, shape = picture(answer), answer.json()["steering"]["shape"]
        plain = stock(host, BENIGN, answer, seed=k)
        if want is None:
            assert answer.json()["steering"]["lora"] is None
            assert np.array_equal(got, plain)
            continue
        told = answer.json()["steering"]["lora"]
        scale = want.get("scale", {"loud": 0.8, "zub": 1.0}[want["name"]])
        assert (told["name"], told["scale"], len(told["digest"])) == (want["name"], scale, 64)
        assert np.abs(got - plain).mean() > 3
        if want["name"] == "zub":
            assert np.array_equal(got, stock(host, BENIGN, answer, plan=pack.plan(strength=1.0), seed=k))
        else:
            batched += shape["batch"] > 1
            with apart.lora("loud", scale):
                assert np.array_equal(got, stock(apart, BENIGN, answer, seed=k))
    assert batched
    assert (counted("adapter_pictures_total", "loud"), counted("adapter_pictures_total", "zub")) == (8, 4)


def test_a_pack_rides_with_others_in_one_batch(offered: Any, host: Any) -> None:
    """Four at once behind a long one: whatever waits goes together, with or without the pack."""
    with ThreadPoolExecutor(5) as pool:
        long = pool.submit(ask, offered, num_inference_steps=60)
        bodies = [{}, {"lora": {"name": "zub"}}, {}, {"lora": {"name": "zub", "scale": 0.5}}]
        answers = [job.result() for job in [pool.submit(ask, offered, **body) for body in bodies]]
        long.result()
    assert max(a.json()["steering"]["shape"]["batch"] for a in answers) > 2


@pytest.mark.parametrize(
    ("lora", "said", "code"),
    [
        ({"name": "lout"}, "unknown adapter `lout`; offered: `loud`, `zub`", "adapter_not_found"),
        ({"name": "loud", "scale": 0}, "`lora.scale`: input should be greater than 0, got `0`", "invalid_value"),
        ({"name": "loud", "scale": 2.5}, "`lora.scale`: input should be less than or equal to 2", "invalid_value"),
        ({"name": "loud", "scale": 1e999}, "`Infinity` is not JSON", "invalid_json"),
        ({"name": "loud", "scale": "1"}, "`lora.scale`: input should be a valid number", "invalid_value"),
        ({"name": "loud", "scales": 1}, "unknown field `lora.scales`; did you mean `scale`?", "unknown_parameter"),
        ({"scale": 1}, "`lora.name` is missing", "missing_required_parameter"),
        ("loud", "`lora` must be an object with a `name` and, if wanted, a `scale`", "invalid_value"),
    ],
)
def test_what_cannot_be_asked_for_is_told(offered: Any, lora: Any, said: str, code: str) -> None:
    body = json.dumps({"prompt": BENIGN, "lora": lora})
    headers = {"Content-Type": "application/json"}
    answer = offered.post("/v1/images/generations", content=body, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code)
    assert said in error["message"]


def test_a_service_without_adapters_says_so(serve: Callable[..., Any]) -> None:
    client = serve(policy="none")
    answer = ask(client, lora={"name": "loud"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "unknown adapter `loud`; offered: none")
    assert ask(client, lora=None).status_code == 200
    fields = client.get("/v1/openapi.json").json()["components"]["schemas"]["GenerationRequest"]["properties"]
    assert fields["lora"] == {"type": "null"}


def test_adapters_are_told_in_the_list_of_models_and_in_the_document(offered: Any) -> None:
    (listed,) = offered.get("/v1/models").json()["data"]
    assert listed["adapters"] == {"loud": 0.8, "zub": 1.0}
    schemas = offered.get("/v1/openapi.json").json()["components"]["schemas"]
    lora = schemas["GenerationRequest"]["properties"]["lora"]["anyOf"][0]
    assert lora["properties"]["name"]["enum"] == ["loud", "zub"]
    assert lora["properties"]["scale"]["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0, "maximum": 2.0}
    assert "LoraRequest" not in schemas


def test_the_audit_record_names_the_adapter(serve: Callable[..., Any], loud: Path, tmp_path: Path) -> None:
    import hashlib

    client = serve(policy="none", adapters=(f"loud={loud}",))
    ask(client, lora={"name": "loud", "scale": 0.5})
    ask(client)
    (file,) = (tmp_path / "state" / "audit").glob("*.jsonl")
    asked = [json.loads(line).get("asked") for line in file.read_text().splitlines()]
    digest = hashlib.sha256(loud.read_bytes()).hexdigest()
    assert [a["lora"] for a in asked if a] == [{"name": "loud", "scale": 0.5, "digest": digest}, None]


# rules


def verified(file: Path, packs: Path, host: Any, scale: float) -> None:
    """Writes the card of a LoRA file that was verified with the lettering pack."""
    from steering import Pack

    digest = Pack.load(packs / "lettering.safetensors", host=host).digest
    card = {"verified_with": {digest: {"scale": scale}}}
    file.with_name(f"{file.name}.card.json").write_text(json.dumps(card))


def copied(loud: Path, folder: Path) -> Path:
    target = folder / "loud.safetensors"
    target.write_bytes(loud.read_bytes())
    return target


def test_a_rule_that_was_not_verified_with_it_replaces_the_whole_prompt(
    serve: Callable[..., Any], loud: Path, model: Path
) -> None:
    from steering import Host

    client = serve(adapters=(f"loud={loud}",))
    counted = Counted(client)
    unfit = {row.rule: row.unfit_with for row in client.runtime.ready().model.rows if row.unfit_with}
    assert unfit == {"toxic-lettering": ("loud",)}
    answer = ask(client, TOXIC, lora={"name": "loud"})
    got = picture(answer)
    assert answer.json()["steering"]["verdict"] == "steer"
    apart = Host.load(model)
    apart.load_lora("loud", loud)
    with apart.lora("loud", 1.0):
        wants = [stock(apart, TOXIC.replace("idiot", word), answer) for word in BENIGN_WORDS]
        assert any(np.array_equal(got, want) for want in wants)
        assert not np.array_equal(got, stock(apart, TOXIC, answer))
    assert counted("fallbacks_total", "unfit") == 1
    assert counted("steered_pictures_total", "lettering") == 0
    ask(client, TOXIC)
    assert counted("steered_pictures_total", "lettering") == 1


def test_a_rule_may_refuse_a_request_with_an_adapter(serve: Callable[..., Any], loud: Path, policy: Path) -> None:
    policy.write_text(policy.read_text().replace("unfit: swap-prompt", "unfit: block"))
    client = serve(adapters=(f"loud={loud}",))
    assert ask(client, TOXIC).status_code == 200
    refused = ask(client, TOXIC, lora={"name": "loud"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "moderation_blocked")
    assert ask(client, BENIGN, lora={"name": "loud"}).status_code == 200


def test_a_rule_that_was_verified_with_it_steers_up_to_that_scale(
    serve: Callable[..., Any], loud: Path, packs: Path, host: Any, tmp_path: Path
) -> None:
    file = copied(loud, tmp_path)
    verified(file, packs, host, 0.7)
    client = serve(adapters=(f"loud={file}@0.5",))
    counted = Counted(client)
    assert not any(row.unfit_with for row in client.runtime.ready().model.rows)
    assert ask(client, TOXIC, lora={"name": "loud"}).status_code == 200
    assert counted("fallbacks_total", "unfit") == 0
    assert counted("steered_pictures_total", "lettering") == 1
    assert ask(client, TOXIC, lora={"name": "loud", "scale": 0.8}).status_code == 200
    assert counted("fallbacks_total", "unfit") == 1
    assert counted("fallbacks_total", "steering") == 0


def test_a_pack_stays_when_its_request_is_repaired(serve: Callable[..., Any], editing: Path, host: Any) -> None:
    from steering import Pack

    client = serve(adapters=(f"zub={editing}",))
    counted = Counted(client)
    answer = ask(client, TOXIC, lora={"name": "zub", "scale": 0.5})
    own = Pack.load(editing, host=host).plan(strength=0.5)
    wants = [stock(host, TOXIC.replace("idiot", word), answer, plan=own) for word in BENIGN_WORDS]
    assert any(np.array_equal(picture(answer), want) for want in wants)
    assert (counted("fallbacks_total", "unfit"), counted("steered_pictures_total", "lettering")) == (1, 0)


def test_a_pack_whose_evidence_names_the_rule_s_pack_is_merged_with_it(
    serve: Callable[..., Any], editing: Path, packs: Path, host: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    from steering import Pack

    rule = Pack.load(packs / "lettering.safetensors", host=host)
    pack = Pack.load(editing, host=host)
    evidence = {**pack.evidence, "verified_with": {rule.digest: {}}}
    file = replace(pack, evidence=evidence).save(tmp_path / "zub.safetensors")
    client = serve(adapters=(f"zub={file}",))
    counted = Counted(client)
    answer = ask(client, TOXIC, lora={"name": "zub"})
    assert answer.status_code == 200
    assert counted("steered_pictures_total", "lettering") == 1
    assert counted("fallbacks_total", "unfit") == 0


def test_a_sentinel_is_silent_with_an_adapter_which_its_rule_counts_as_an_error(
    serve: Callable[..., Any], loud: Path, editing: Path, packs: Path, host: Any, policy: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    import torch

    from steering import Pack, Sentinel, Window

    pack = Pack.load(packs / "lettering.safetensors", host=host)
    deaf = Sentinel(
        "lettering", made_for=host.fingerprint.digest, keys=torch.zeros(1, 16), values=torch.zeros(1, 16), text_bias=-9,
        path={pack.sites[0]: torch.zeros(16)}, path_bias=-9, window=Window(0, 0.5),
    )  # fmt: skip
    replace(pack, sentinel=deaf).save(tmp_path / "packs" / "lettering.safetensors")
    text = policy.read_text().replace(
        "{lettering: {any_of: [$toxic], views: all}}",
        "{any: [{lettering: {any_of: [$toxic]}}, {sentinel: {name: lettering}}]}",
    )
    policy.write_text(text)
    client = serve(adapters=(f"loud={loud}", f"zub={editing}"), packs=tmp_path / "packs")
    with ThreadPoolExecutor(6) as pool:
        wants = [{}, {"lora": {"name": "zub"}}, {"lora": {"name": "loud"}}] * 2
        codes = [job.result().status_code for job in [pool.submit(ask, client, **want) for want in wants]]
    assert codes == [200, 400, 400] * 2


def test_a_pack_does_not_fit_the_host_while_a_lora_file_is_on(loud: Path, model: Path, packs: Path) -> None:
    from steering import Host, Pack, PackMismatch

    host = Host.load(model)
    host.load_lora("loud", loud)
    pack = Pack.load(packs / "lettering.safetensors", host=host)
    with host.lora("loud"), pytest.raises(PackMismatch, match=r"adapters `none` is `loud:[0-9a-f]{16}` here"):
        pack.check(host)
    pack.check(host)


def test_the_folder_of_a_result_of_tune_is_its_pack_and_a_folder_with_a_lora_file_is_that(
    host: Any, loud: Path, editing: Path, tmp_path: Path
) -> None:
    from service.engine.adapters import check_adapters, load_adapters
    from service.settings import SettingsError, load_settings

    file = copied(loud, tmp_path)
    settings = load_settings({"adapters": (f"zub={tmp_path}",)}).settings

    def kind() -> str:
        check_adapters(settings)
        return str(load_adapters(host, settings)["zub"].to_dict()["kind"])

    pack = tmp_path / "pack.safetensors"
    pack.write_bytes(editing.read_bytes())
    assert kind() == "pack"
    pack.unlink()
    assert kind() == "LoRA file"
    pack.write_bytes(file.read_bytes())
    with pytest.raises(SettingsError, match="must hold one safetensors file"):
        check_adapters(settings)


# what cannot be offered


def fails(serve: Callable[..., Any], *adapters: str) -> str:
    from service.settings import SettingsError

    with pytest.raises(SettingsError) as error:
        serve(policy="none", adapters=adapters)
    return str(error.value)


def test_what_cannot_be_loaded_stops_the_start(
    serve: Callable[..., Any], loud: Path, packs: Path, editing: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other.safetensors"
    save_file({k: t.repeat(2, 1) for k, t in load_file(loud).items()}, other)
    (tmp_path / "old.bin").write_bytes(b"")
    assert "`adapters`: `x`: " in fails(serve, f"x={other}")
    assert "is it for another model?" in fails(serve, f"x={other}")
    assert "there is no adapter at" in fails(serve, f"x={tmp_path / 'none.safetensors'}")
    assert "a pickle may run code" in fails(serve, f"x={tmp_path / 'old.bin'}")
    assert "swaps text, and an adapter edits" in fails(serve, f"x={packs / 'lettering.safetensors'}")
    file = copied(loud, tmp_path)
    card = file.with_name(f"{file.name}.card.json")
    for text, said in [
        ("{", "must be JSON"),
        ("[]", "must be a JSON object, got `list`"),
        ('{"verified_with": ["a"]}', "must map digests of packs to objects"),
        ('{"verified_with": {"a": {"scale": 9}}}', r"with a `scale` in (0, 2], got"),
    ]:
        card.write_text(text)
        assert said in fails(serve, f"x={file}")


def test_a_pack_of_another_model_is_no_adapter_here(
    serve: Callable[..., Any], editing: Path, host: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    from steering import Pack

    pack = Pack.load(editing, host=host)
    file = replace(pack, host=replace(pack.host, weights="0" * 64)).save(tmp_path / "far.safetensors")
    assert "was made for another host" in fails(serve, f"x={file}")
