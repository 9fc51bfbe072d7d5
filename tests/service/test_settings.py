"""Settings: sources, their order, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Loaded, Settings, SettingsError, load_settings


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "palimpsest.toml"
    file.write_text('port = 3001\nmax_batch = 4\napi_keys = ["a", "b"]\n')
    return file


def test_an_option_beats_the_environment_which_beats_the_file_which_beats_the_default(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_PORT", "3002")
    loaded = load_settings({"port": 3003}, file=toml)
    assert (loaded.settings.port, loaded.sources["port"]) == (3003, "option")
    assert (loaded.settings.max_batch, loaded.sources["max_batch"]) == (4, f"file {toml}")
    assert (loaded.settings.host, loaded.sources["host"]) == ("127.0.0.1", "default")
    assert load_settings(file=toml).settings.port == 3002
    monkeypatch.delenv("PALIMPSEST_PORT")
    assert load_settings(file=toml).settings.port == 3001


def test_the_file_may_be_named_by_the_environment(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CONFIG", str(toml))
    assert load_settings().settings.port == 3001


def test_a_mistyped_environment_variable_is_an_error_that_names_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_POLCY", "none")
    with pytest.raises(SettingsError, match="did you mean `PALIMPSEST_POLICY`"):
        load_settings()


def test_a_mistyped_name_in_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(SettingsError, match="did you mean `port`"):
        load_settings(file=file)


def test_every_bad_value_is_told_at_once_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_PORT", "0")
    with pytest.raises(SettingsError) as error:
        load_settings({"batching": "lots"})
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert any("`port` (from environment)" in line and "got `0`" in line for line in lines)
    assert any("`batching` (from option)" in line for line in lines)


def test_adapters_are_names_paths_and_scales_in_every_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def shown(loaded: Loaded) -> list[str]:
        return [str(each) for each in loaded.settings.adapters]

    monkeypatch.setenv("PALIMPSEST_ADAPTERS", "pip=loras/pip.safetensors@0.8, v2=loras/a@b=c")
    assert shown(load_settings()) == ["pip=loras/pip.safetensors@0.8", "v2=loras/a@b=c@1"]
    assert shown(load_settings({"adapters": ["x=y@2"]})) == ["x=y@2"]
    monkeypatch.delenv("PALIMPSEST_ADAPTERS")
    file = tmp_path / "c.toml"
    file.write_text('adapters = ["x=y", {name = "z", path = "w", scale = 0.5}]\n')
    assert shown(load_settings(file=file)) == ["x=y@1", "z=w@0.5"]


@pytest.mark.parametrize(
    ("adapters", "said"),
    [
        (["pip"], "`adapters` (from option): must be `name=path` or `name=path@scale`, got `pip`"),
        (["=x"], "must be `name=path`"),
        (["a.b=x"], "`adapters` `name` (from option): string should match pattern"),
        (["a=x@nan"], "`adapters` `scale` (from option): input should be a finite number, got `nan`"),
        (["a=x@-1"], "input should be greater than 0"),
        (["a=x@3"], "input should be less than or equal to 2"),
        (["a=x", "a=y"], "names must differ, and `a` is given twice"),
        ([f"a{k}=x" for k in range(33)], "at most 32 items"),
    ],
)
def test_a_bad_adapter_is_told(adapters: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({"adapters": adapters})
    assert said in str(error.value)


TABLE = """
max_batch = 4
[models.signs]
source = "signpost-pixart"
aliases = ["gpt-image-1", "dall-e-3"]
[models.signpost-sdxl]
max_batch = 2
policy = ["none"]
adapters = ["pip=loras/pip.safetensors@0.8"]
"""


def test_a_table_of_models_sets_what_differs_and_the_first_is_for_requests_that_name_none(tmp_path: Path) -> None:
    from service.worker.launch import environment

    file = tmp_path / "c.toml"
    file.write_text(TABLE)
    settings = load_settings(file=file).settings

    def told(settings: Settings) -> list[object]:
        return [
            (s.name, s.settings.model, s.settings.max_batch, s.settings.policy, s.settings.model_aliases)
            for s in settings.served()
        ]

    own = [
        ("signs", "signpost-pixart", 4, ("shipped",), ("gpt-image-1", "dall-e-3")),
        ("signpost-sdxl", "signpost-sdxl", 2, ("none",), ()),
    ]
    assert told(settings) == own
    assert told(load_settings({"model": "signpost-sdxl"}, file=file).settings) == own[::-1]
    assert [s.name for s in Settings().served()] == [None]
    sent = {name.removeprefix("PALIMPSEST_").lower(): v for name, v in environment(settings, tmp_path).items()}
    there = Settings(**{name: v for name, v in sent.items() if name in Settings.model_fields})
    assert told(there) == own, "workers get the same table by their environment"
    assert there.served()[1].settings.adapters[0].path == Path("loras/pip.safetensors").absolute()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"models": {"a b": {}}}, "`models.a b`: a name must match"),
        ({"models": {"a": {"sorce": "x"}}}, "`models.a`: unknown setting `sorce`; did you mean `source`?"),
        ({"models": {"a": {"max_batch": 0}}}, "`models.a`: `max_batch`: input should be greater than or equal to 1"),
        ({"models": {"a": {"port": 1}}}, "`models.a`: unknown setting `port`"),
        ({"models": {"a": {}, "b": {"aliases": ["a"]}}}, "`models.b`: the alias `a` belongs to `a`"),
        ({"models": {"a": {}}, "model": "q"}, "`model` must be a name of the table `models`, `a`, got `q`"),
        ({"models": {"a": {}}, "model_aliases": ["z"]}, "`model_aliases` must be empty beside a table `models`"),
        ({"models": {"a": {"compile": True}}, "model_memory": 1}, "`compile` does not go with `model_memory`"),
        ({"models": {f"m{k}": {} for k in range(9)}}, "at most 8 items"),
        ({"models": "{"}, "`models` must be a table, as JSON"),
        ({"models": {"a": 1}}, "`models` (from option): input should be a valid dictionary, got `1`"),
    ],
)
def test_a_mistake_in_the_table_is_one_line(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_API_KEYS", "open-sesame,second")
    monkeypatch.setenv("PALIMPSEST_AUDIT_KEY", "buried")
    loaded = load_settings()
    assert [k.get_secret_value() for k in loaded.settings.api_keys] == ["open-sesame", "second"]
    shown = f"{loaded.rows()} {loaded.settings!r}"
    assert "sesame" not in shown
    assert "buried" not in shown


@pytest.mark.parametrize("source", ["environment", "file", "option"])
def test_policies_may_be_several_from_every_source(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "c.toml"
    file.write_text('policy = ["shipped", "a.yaml"]\nfloor = false\n')
    if source == "environment":
        monkeypatch.setenv("PALIMPSEST_POLICY", "shipped, a.yaml")
        monkeypatch.setenv("PALIMPSEST_FLOOR", "false")
    options = {"policy": ["shipped", "a.yaml"], "floor": False} if source == "option" else None
    got = load_settings(options, file=file if source == "file" else None).settings
    assert (got.policy, got.floor) == (("shipped", "a.yaml"), False)
    one = load_settings({"policy": "a.yaml"}).settings
    assert one.policy == ("a.yaml",)
    assert Settings().policy == ("shipped",)
    assert Settings().floor is True
    with pytest.raises(SettingsError, match="`policy`"):
        load_settings({"policy": []})


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False)]
)
def test_only_loopback_addresses_count_as_this_machine(host: str, loopback: bool) -> None:
    assert Settings(host=host).loopback is loopback


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"api_keys": [""]}, "`api_keys` (from option): holds a blank value"),
        ({"api_keys": ["good", " "]}, "`api_keys` (from option): holds a blank value"),
        ({"api_keys": ","}, "`api_keys` (from option): must not be blank"),
        ({"api_keys": ["open sesame"]}, "`api_keys` (from option): must be visible ASCII characters without blanks"),
        ({"api_keys": ["open\nsesame"]}, "`api_keys` (from option): must be visible ASCII characters without blanks"),
        ({"audit_key": " "}, "`audit_key` (from option): must not be blank"),
        ({"policy_keys": ["", ""]}, "`policy_keys` (from option): holds a blank value"),
        ({"policy_keys": ","}, "`policy_keys` (from option): must not be blank"),
        ({"policy": [""]}, "`policy` (from option): holds a blank value"),
        ({"models": {"a": {"policy_keys": [""]}}}, "`models.a`: `policy_keys`: holds a blank value"),
    ],
)
def test_a_blank_value_never_stands_for_none(given: dict[str, object], said: str) -> None:
    """A blank key was dropped on the way to the workers, which then asked for none."""
    with pytest.raises(SettingsError) as error:
        load_settings(given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "sesame" not in str(error.value)


def test_lists_reach_the_workers_with_their_commas(tmp_path: Path) -> None:
    """`correct-horse,x` was two keys there, one of them a single letter."""
    from service.worker.launch import environment

    adapter, folder = tmp_path / "a,b.safetensors", tmp_path / "c,d"
    given = {
        "api_keys": ["correct-horse,x", "[y]"],
        "policy": [str(folder / "rules,1.yaml"), "shipped"],
        "judge": [str(folder)],
        "adapters": [f"pip={adapter}@0.5"],
    }
    settings = load_settings({**given, "models": {"m": {"policy": [str(folder / "own,2.yaml")]}}}).settings
    sent = {name.removeprefix("PALIMPSEST_").lower(): v for name, v in environment(settings, tmp_path).items()}
    there = Settings(**{name: v for name, v in sent.items() if name in Settings.model_fields})
    for name in given:
        assert getattr(there, name) == getattr(settings, name)
    assert there.served()[0].settings.policy == (str(folder / "own,2.yaml"),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device": "gpu"}, "`device` (from option): must be `auto`, `cpu`, `cuda`"),
        ({"models": {"a": {}}, "device": "cuda:"}, "`device` (from option): must be `auto`, `cpu`, `cuda`"),
        ({"allowed_hosts": "http://x:80"}, "`allowed_hosts` (from option): must be host names"),
        ({"allowed_hosts": ["x:80"]}, "`allowed_hosts` (from option): must be host names"),
        ({"allowed_hosts": "*"}, "`allowed_hosts` (from option): must be host names"),
        ({"allowed_hosts": ["a.example."]}, "`allowed_hosts` (from option): must be host names"),
    ],
)
def test_a_device_and_host_names_have_their_shapes(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shapes_let_through_what_works() -> None:
    names = ("pictures.example", "A-1.b_c", "10.1.2.3", "::1", "fe80::1", "x")
    assert Settings(allowed_hosts=names).allowed_hosts == names
    assert [Settings(device=each).device for each in ("auto", "cpu", "cuda", "cuda:3", "mps")]
