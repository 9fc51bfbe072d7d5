"""A fitting method of another package: one file and one entry-point line, and nothing of this project is changed.

| mutation | turns red |
|---|---|
| the recipe of `palimpsest fit` gets no `methods` | the command line knows the method |
| `fit_edit` calls the table's first method | the operators are those of the method |
| `preserve` is always false | a method that asks for what must stay is given it |
| `with_methods` lets the caller's methods win | a built-in name is refused |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from localization import FitRecipe, Fitter, Samples, fit_edit
from localization.fit_methods import METHODS
from steering import BadPlan, Operator
from tests.installed import install, python
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
FIT = """
from palimpsest_base.plugins import load_plugins
from localization import FitRecipe, fit_edit
from tests.steering.family_cases import asked
it = asked("pixart-alpha")
call = {k: v for k, v in it.options(1).items() if k != "output_type"}
recipe = FitRecipe("team-half", at=(0.5,), call=call, methods=load_plugins("palimpsest.fitters", ["team-half"]))
operators = fit_edit(it.host, ["a red star"], ["a blue thing"], it.names[:2], seeds=[1], recipe=recipe)
print([(o.where, round(float((o.e * o.d).sum()), 3)) for o in operators.values()], recipe.to_json()["method"])
"""
MAIN = "from palimpsest.cli.main import main; main()"
GROUP = "palimpsest.fitters"


def shell(packages: Path, *arguments: str, plugins: str) -> Any:
    code = f"import sys; sys.argv[1:] = {list(arguments)!r}; {MAIN}"
    return python(code, packages, PALIMPSEST_PLUGINS=plugins)


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


def test_a_method_of_another_package_makes_the_operators(tmp_path: Path) -> None:
    install(tmp_path, "team_half", FITTER, {GROUP: "team-half = team_half:FITTER"})
    done = python(FIT, tmp_path)
    assert done.stdout.strip() == "[('output', 0.5), ('output', 0.5)] team-half", done.stderr[-2000:]


def test_the_command_line_knows_the_methods_of_other_packages_that_the_settings_allow(tmp_path: Path) -> None:
    install(tmp_path, "team_half", FITTER, {GROUP: "team-half = team_half:FITTER"})
    told = shell(tmp_path, "fit", "--methods", plugins="team-half")
    assert told.returncode == 0, told.stderr[-2000:]
    for name, fitter in {**METHODS, "team-half": Fitter(len, "output", "takes half of the mean out")}.items():  # type: ignore[arg-type]
        (line,) = [row for row in told.stdout.splitlines() if f"│ {name} " in row]
        assert fitter.help in line
        assert fitter.place in line
    assert "team-half" not in shell(tmp_path, "fit", "--methods", plugins="").stdout
    mistyped = shell(tmp_path, "fit", "--pack", "a", "--out", "b", "--method", "team-halv", plugins="team-half")
    assert (mistyped.returncode, mistyped.stderr) == (
        2,
        "error: unknown method `team-halv`; did you mean `team-half`?\n",
    )


def test_a_method_that_takes_a_built_in_name_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "team_half", FITTER, {GROUP: "leace = team_half:FITTER"})
    told = shell(tmp_path, "fit", "--methods", plugins="leace")
    assert (told.returncode, told.stdout) == (2, "")
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
