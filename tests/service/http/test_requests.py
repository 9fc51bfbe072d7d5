"""What the request models take and refuse."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ApiError, BadRequest, NotFound
from service.http.requests import (
    MAX_DEPTH,
    EditRequest,
    GenerationRequest,
    ModerationRequest,
    nearest_size,
    parse_body,
    parse_json,
)
from service.order import Limits, Order

LIMITS = Limits(
    models=("tiny",),
    sizes=("64x64", "32x32"),
    default_size="64x64",
    default_steps=4,
    default_guidance=3.0,
    max_n=4,
    max_steps=50,
    max_prompt=2000,
)


def ask(**fields: Any) -> Order:
    return parse_body(json.dumps({"prompt": "a red star", **fields}).encode(), GenerationRequest)[0].within(LIMITS)


def refused(raw: bytes) -> ApiError:
    with pytest.raises((BadRequest, NotFound)) as error:
        parse_body(raw, GenerationRequest)[0].within(LIMITS)
    return error.value


def outcome(raw: bytes) -> Order | ApiError:
    try:
        return parse_body(raw, GenerationRequest)[0].within(LIMITS)
    except ApiError as error:
        return error


def test_what_a_request_leaves_open_is_filled_from_the_model() -> None:
    asked = ask()
    assert (asked.model, asked.n, asked.size, asked.steps, asked.guidance) == (
        "tiny",
        1,
        "64x64",
        4,
        3,
    )
    assert asked.seed is not None
    assert len({ask().seed for _ in range(20)}) > 1, "a seed that nobody gave must be drawn"


def test_of_a_size_that_the_model_does_not_have_the_nearest_aspect_counts_then_the_nearest_area() -> None:
    sizes = ("512x512", "1024x1024", "1024x768", "768x1024")
    assert nearest_size("4096x4096", sizes) == "1024x1024"
    assert nearest_size("300x300", sizes) == "512x512"
    assert nearest_size("1536x1024", sizes) == "1024x768"
    assert nearest_size("1024x1792", sizes) == "768x1024"


@pytest.mark.parametrize("size", ["64", "0x64", "64x", "64X32", "-64x64", "1e3x64", "640000x64", "64x64 ", "big"])
def test_what_is_no_size_has_no_nearest_one(size: str) -> None:
    limits = replace(LIMITS, nearest_size=True)
    body = parse_body(json.dumps({"prompt": "x", "size": size}).encode(), GenerationRequest)[0]
    with pytest.raises(BadRequest, match="unknown size"):
        body.within(limits)


def test_every_field_of_openai_s_own_client_is_known() -> None:
    from openai.types.image_edit_params import ImageEditParamsStreaming
    from openai.types.image_generate_params import ImageGenerateParamsStreaming

    files = {"image", "mask", "markup"}
    for model, params in ((GenerationRequest, ImageGenerateParamsStreaming), (EditRequest, ImageEditParamsStreaming)):
        assert set(params.__annotations__) - files <= set(model.model_fields) | model.IGNORED


def test_guidance_zero_and_seed_zero_are_values_and_not_absent() -> None:
    asked = ask(guidance_scale=0, seed=0)
    assert (asked.guidance, asked.seed) == (0, 0)


def test_a_number_without_a_fraction_is_whole_however_it_is_written() -> None:
    assert (ask(n=2.0).n, ask(seed=7.0).seed) == (2, 7)


def test_openai_fields_without_meaning_are_accepted_and_named() -> None:
    raw = json.dumps({"prompt": "x", "quality": "hd", "metadata": 3, "style": {"any": 1}}).encode()
    _, ignored = parse_body(raw, GenerationRequest)
    assert ignored == ("metadata", "quality", "style")


def test_the_older_field_for_a_person_counts_where_the_newer_is_absent() -> None:
    def told(**fields: Any) -> tuple[str, tuple[str, ...]]:
        body, ignored = parse_body(json.dumps({"prompt": "x", **fields}).encode(), GenerationRequest)
        return body.identifier, (*ignored, *body.unused)

    assert told() == ("", ())
    assert told(user="me") == ("me", ())
    assert told(user="") == ("", ("user",))
    assert told(user="me", safety_identifier="you") == ("you", ("user",))
    for long in ({"user": "m" * 257}, {"safety_identifier": "m" * 257}, {"safety_identifier": ""}):
        error = refused(json.dumps({"prompt": "x", **long}).encode())
        assert error.param == next(iter(long))
        assert error.message.endswith("at most 256 characters, got 257" if all(long.values()) else "got a string")


def test_an_unknown_field_is_refused_with_the_nearest_name() -> None:
    error = refused(b'{"promt": "x", "prompt": "y"}')
    assert "did you mean `prompt`" in error.message
    assert (error.code, error.param) == ("unknown_parameter", "promt")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("step", "num_inference_steps"), ("Steps", "num_inference_steps"), ("inference_steps", "num_inference_steps"),
        ("num-steps", "num_inference_steps"), ("cfg_scale", "guidance_scale"), ("guidance", "guidance_scale"),
        ("negative", "negative_prompt"), ("num_images", "n"), ("width", "size"), ("sizes", "size"), ("text", "prompt"),
        ("noise_seed", "seed"), ("format", "output_format"), ("qualty", "quality"), ("styl", "style"), ("zzz", None),
    ],
)  # fmt: skip
def test_the_hint_for_an_unknown_field_names_one_that_does_something(name: str, meant: str | None) -> None:
    message = refused(json.dumps({"prompt": "x", name: 20}).encode()).message
    assert message == f"unknown field `{name}`" + (f"; did you mean `{meant}`?" if meant else "")


def test_a_byte_order_mark_is_no_part_of_the_body() -> None:
    body, _ = parse_body(b"\xef\xbb\xbf" + b'{"prompt": "x"}', GenerationRequest)
    assert body.prompt == "x"
    assert "not JSON" in refused(b'{"prompt": \xef\xbb\xbf"x"}').message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "a" * 10_000}, "prompt"),
        ({"prompt": "half \ud83d"}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"negative_prompt": "a" * 2001}, "negative_prompt"),
        ({"n": 0}, "n"),
        ({"n": 5}, "n"),
        ({"n": "2"}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"size": "65x64"}, "size"),
        ({"size": "64"}, "size"),
        ({"model": "dall-e-3"}, "model"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"stream": 1}, "stream"),
        ({"partial_images": 1}, "partial_images"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 51}, "num_inference_steps"),
        ({"guidance_scale": -0.1}, "guidance_scale"),
        ({"guidance_scale": 31}, "guidance_scale"),
        ({"guidance_scale": "4"}, "guidance_scale"),
    ],
)
def test_a_bad_value_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refused(json.dumps({"prompt": "x", **fields}).encode())
    assert error.param == param
    assert param in error.message
    assert error.message.count(f"`{param}`") <= 1, "told once, in one way"


@pytest.mark.parametrize(
    "given",
    [
        *(None, 3, [], [""], " ", "x" * 3000, ["x"] * 33, ["x", 3], [{"type": "text", "text": "x"}] * 2),
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
    ],
)
def test_what_moderation_cannot_judge_is_refused_by_name(given: Any) -> None:
    with pytest.raises(BadRequest) as error:
        parse_body(json.dumps({"input": given}).encode(), ModerationRequest)[0].within(LIMITS)
    assert error.value.param == "input"
    assert error.value.message.count("`input`") == 1


def test_several_mistakes_are_told_together() -> None:
    error = refused(b'{"n": 0, "seed": -1}')
    assert all(f"`{name}`" in error.message for name in ("prompt", "n", "seed"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "line 1, column 1"),
        (b'{"prompt": "x"', "line 1"),
        (b'{"prompt": "x"} {}', "extra data"),
        (b"[]", "got an array"),
        (b'"x"', "got a string"),
        (b"null", "got null"),
        (b"3", "got a number"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"prompt": "x", "prompt": "y"}', "appears twice"),
        (b'{"prompt": "x", "guidance_scale": NaN}', "`NaN` is not JSON"),
        (b'{"prompt": "x", "guidance_scale": 1e999}', "guidance_scale"),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"[" * 100_000, "levels deep"),
        (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, "levels deep"),
    ],
)
def test_what_is_not_one_json_object_is_refused_and_says_why(raw: bytes, said: str) -> None:
    assert said in refused(raw).message


def test_a_name_that_stands_twice_is_found_in_the_time_of_reading() -> None:
    names = ",".join(f'"{k}":1' for k in range(7000))
    start = time.thread_time()
    with pytest.raises(BadRequest, match="`6999` appears twice"):
        parse_json(f'{{{names},"6999":2}}'.encode())
    assert time.thread_time() - start < 0.2  # in a loop over all names for each: some 0.7


def test_brackets_inside_strings_are_not_depth() -> None:
    text = "[" * (MAX_DEPTH + 5) + '\\"' + "{"
    assert parse_json(json.dumps({"prompt": text}).encode()) == {"prompt": text}


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_bring_anything_but_a_request_or_a_clear_refusal(raw: bytes) -> None:
    answer = outcome(raw)
    assert isinstance(answer, Order) or (answer.status == 400 and answer.message)


@given(
    st.dictionaries(
        st.sampled_from([*GenerationRequest.model_fields, "quality", "promt"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers()),
    )
)
def test_no_values_pass_the_limits(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields).encode("utf-8", "surrogatepass")
    asked = outcome(raw)
    if isinstance(asked, ApiError):
        assert asked.status == 400
        return
    assert asked.prompt.strip()
    assert 1 <= (asked.n or 0) <= 4
    assert 1 <= (asked.steps) <= 50
    assert asked.size in LIMITS.sizes
