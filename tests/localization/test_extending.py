"""A fitting method of another package: one file and one entry-point line, and nothing of this project is changed.

| mutation | turns red |
|---|---|
| the recipe of `palimpsest fit` gets no `methods` | the command line knows the method |
| the row of anchored LEACE has the function of LEACE | no two methods make the same operator |
| `preserve` is always false | a method that asks for what must stay is given it |
| `with_methods` lets the caller's methods win | a built-in name is refused |
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from localization import FitRecipe, Fitter, Samples, fit_edit
from localization.fit_methods import METHODS
from palimpsest_base.plugins import load_plugins
from steering import BadPlan, Operator
from tests.installed import install
from tests.steering.family_cases import PINK, asked

FITTER = '''
import torch

from localization import Fitter, Samples
from steering import Operator


def halve(samples: Samples) -> Operator:
    """Takes the mean with the concept out by half."""
    mean = torch.cat([rows.flatten(0, 1) for rows in samples.shown]).mean(0, keepdim=True)
    unit = mean / mean.norm()
    return Operator(unit, 0.5 * unit, torch.zeros_like(unit), where=samples.where)


FITTER = Fitter(halve, "output", "takes half of the mean out")
'''
GROUP = "palimpsest.fitters"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs `palimpsest` where packages in `tmp_path` are installed and `plugins` is set as asked."""
    from typer.testing import CliRunner

    from palimpsest.cli.main import app

    def run(*arguments: str, plugins: str) -> Any:
        monkeypatch.setenv("PALIMPSEST_PLUGINS", plugins)
        return CliRunner().invoke(app, list(arguments))

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    yield run
    sys.modules.pop("team_half", None)


def samples_of(fitter: Fitter, **more: Any) -> tuple[list[Samples], dict[str, Operator]]:
    """What a method was given at each site, and what came back."""
    seen: list[Samples] = []

    def watched(samples: Samples) -> Operator:
        seen.append(samples)
        return fitter.fit(samples)

    it = asked("pixart-alpha")
    call = {k: v for k, v in it.options(1).items() if k != "output_type"}
    own = Fitter(watched, fitter.place, fitter.help, preserve=fitter.preserve)
    recipe = FitRecipe("own", at=(0.5,), call=call, methods={"own": own}, **more)
    prompts = (["a red star"], ["a blue thing"], it.names[:2])
    return seen, fit_edit(it.host, *prompts, seeds=[1], recipe=recipe, preserve=[PINK])


def test_a_method_of_another_package_makes_the_operators(shell: Callable[..., Any], tmp_path: Path) -> None:
    install(tmp_path, "team_half", FITTER, {GROUP: "team-half = team_half:FITTER"})
    it = asked("pixart-alpha")
    call = {k: v for k, v in it.options(1).items() if k != "output_type"}
    recipe = FitRecipe("team-half", at=(0.5,), call=call, methods=load_plugins(GROUP, ["team-half"]))
    operators = fit_edit(it.host, ["a red star"], ["a blue thing"], it.names[:2], seeds=[1], recipe=recipe)
    assert list(operators) == list(it.names[:2])
    assert {o.where for o in operators.values()} == {"output"}
    assert all(float((o.e * o.d).sum()) == pytest.approx(0.5) for o in operators.values())
    assert recipe.to_json()["method"] == "team-half"


def test_the_command_line_knows_the_methods_of_other_packages_that_the_settings_allow(
    shell: Callable[..., Any], tmp_path: Path
) -> None:
    install(tmp_path, "team_half", FITTER, {GROUP: "team-half = team_half:FITTER"})
    told = shell("fit", "--methods", plugins="team-half")
    assert told.exit_code == 0, told.output
    rows = {line.split("│")[1].strip(): line for line in told.stdout.splitlines() if line.startswith("│")}
    assert list(rows) == [*METHODS, "team-half"]
    assert all(fitter.help in rows[name] and fitter.place in rows[name] for name, fitter in METHODS.items())
    assert "takes half of the mean out" in rows["team-half"]
    assert "team-half" not in shell("fit", "--methods", plugins="").stdout
    mistyped = shell("fit", "--pack", "a", "--out", "b", "--method", "team-halv", plugins="team-half")
    assert mistyped.exit_code == 2
    assert mistyped.stderr == "error: unknown method `team-halv`; did you mean `team-half`?\n"


def test_a_method_that_takes_a_built_in_name_is_refused(shell: Callable[..., Any], tmp_path: Path) -> None:
    install(tmp_path, "team_half", FITTER, {GROUP: "leace = team_half:FITTER"})
    told = shell("fit", "--methods", plugins="leace")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == "error: method `leace` is built in; give the other one another name\n"
    with pytest.raises(BadPlan, match="must be a `Fitter`, got `int`"):
        FitRecipe(methods={"three": 3})  # type: ignore[dict-item]
    with pytest.raises(BadPlan, match="place of a method must be"):
        Fitter(METHODS["uce"].fit, "pooled", "no place of its own")


@pytest.mark.parametrize("name", list(METHODS))
def test_a_built_in_method_and_the_same_function_from_a_caller_make_the_same_operators(name: str) -> None:
    it = asked("pixart-alpha")
    call = {k: v for k, v in it.options(1).items() if k != "output_type"}
    recipe = FitRecipe(name, at=(0.5,), call=call)
    prompts = (["a red star"], ["a blue thing"], it.names[:2])
    theirs = fit_edit(it.host, *prompts, seeds=[1], recipe=recipe, preserve=[PINK])
    _, ours = samples_of(METHODS[name])
    assert {site: o.digest for site, o in ours.items()} == {site: o.digest for site, o in theirs.items()}


def test_no_two_methods_of_the_table_make_the_same_operator() -> None:
    torch.manual_seed(0)
    shown, neutral, preserve = (tuple(torch.randn(2, 5, 8) + mean for _ in range(3)) for mean in (1.0, 0.0, -1.0))
    for where, matches in (("output", []), ("text", [torch.arange(5)] * 3)):
        samples = Samples(shown, neutral, preserve, matches, where, clipped=True, rank=2)  # type: ignore[arg-type]
        made = {name: fitter.fit(samples).digest for name, fitter in METHODS.items()}
        same = (
            1 if where == "text" else 0
        )  # on text, CASteer's direction is taken about the neutral mean, as of `means`
        assert len(set(made.values())) == len(made) - same, made


def test_a_method_that_asks_for_what_must_stay_is_given_it_and_options_reach_it() -> None:
    (first, _), _ = samples_of(METHODS["uce"], rank=3)
    assert (len(first.preserve), first.rank, first.where, len(first.matches)) == (1, 3, "text", 1)
    (first, _), _ = samples_of(METHODS["safree"], clipped=False)
    assert (len(first.preserve), first.clipped) == (0, False)
