"""What a training gives: a LoRA file and a pack that draw the same pictures as the tuned model, and merged weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tuned(student: Any, lesson: Any, pack: Any, host: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tuning import Schedule, arm_of, tune

    arm = arm_of(host, "located", pack=pack, side="both")
    schedule = Schedule(steps=6, rate=5e-2, warmup=1, average=0.0)
    work = tmp_path_factory.mktemp("work")
    return tune(student, lesson, arm, rank=4, schedule=schedule, work=work, name="a", prompts=["a picture of 1"])


def _pixels(host: Any, plan: Any = None) -> np.ndarray:
    made = host.generate(["a picture of 1", "pip"], plans=[plan, None], seeds=[0, 1])
    return np.stack([np.asarray(i).astype(int) for i in made.images])


def test_the_pack_draws_what_the_tuned_model_drew_and_touches_no_other_row(
    host: Any, tuned: Any, tmp_path: Path
) -> None:
    from steering import Pack
    from tuning import write_result

    stock = _pixels(host)
    card = write_result(tmp_path / "out", host, tuned, concept="character/pip", about={"application": "x", "data": "y"})
    pack = Pack.load(tmp_path / "out" / "pack.safetensors", host=host)
    assert pack.kind == "adapter"
    assert pack.tuned
    assert pack.rows == "both"
    made = _pixels(host, pack.plan())
    want = np.asarray(tuned.after[0]).astype(int)
    solo = np.asarray(host.generate(["a picture of 1"], plans=[pack.plan()], seeds=[0]).images[0]).astype(int)
    assert np.abs(solo - want).max() <= 1 < np.abs(want - np.asarray(tuned.before[0]).astype(int)).max()
    assert np.array_equal(made[1], stock[1])
    told = json.loads((tmp_path / "out" / "lora.safetensors.card.json").read_text("utf-8"))
    assert told["data"] == "y"
    assert told["sha256"] == card["sha256"]
    assert told["rank"] == 4
    page = (tmp_path / "out" / "page.html").read_text("utf-8")
    assert "a picture of 1" in page
    assert page.count("data:image/png") == 2


def test_a_lora_of_whole_blocks_is_written_and_says_that_it_rides_not(
    host: Any, student: Any, lesson: Any, tmp_path: Path
) -> None:
    from steering import read_lora
    from tuning import Schedule, arm_of, tune, write_result

    arm = arm_of(host, host.sites[3].name, side="block")
    made = tune(student, lesson, arm, rank=2, schedule=Schedule(steps=2), work=tmp_path, name="b")
    card = write_result(tmp_path / "out", host, made, concept="character/pip", about={"application": "x", "data": "y"})
    assert card["rides"].startswith("not as a plan")
    assert "attn1" in card["rides"]
    assert not (tmp_path / "out" / "pack.safetensors").exists()
    assert set(read_lora(tmp_path / "out" / "lora.safetensors")) == set(arm.modules)


def test_merged_weights_draw_the_same_pictures_and_the_host_keeps_its_own(
    host: Any, tuned: Any, tmp_path: Path
) -> None:
    from steering import Host
    from tuning import NotKept, merge_lora

    stock, digest = _pixels(host), host.fingerprint.digest
    folder = merge_lora(host, tuned.lora, tmp_path / "merged")
    assert np.array_equal(_pixels(host), stock)
    assert host.fingerprint.digest == digest
    merged = Host.load(folder)
    image = np.asarray(merged.generate(["a picture of 1"], plans=[None], seeds=[0]).images[0]).astype(int)
    assert np.abs(image - np.asarray(tuned.after[0]).astype(int)).max() <= 1
    with pytest.raises(NotKept, match="must be empty"):
        merge_lora(host, tuned.lora, folder)
