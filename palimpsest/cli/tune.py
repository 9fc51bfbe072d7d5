"""`palimpsest tune`: LoRA at the sites where a concept sits, for lettering, a new subject, or a concept to forget."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palimpsest.cli.shared.console import fail, keep, say, settings_from, stages, table
from palimpsest.cli.shared.hosts import is_ours, lettering_places, open_host, pack_for, size_of
from palimpsest.cli.shared.options import Json, Model, Out, Seed

if TYPE_CHECKING:
    from steering import Host
    from tuning import Lesson, Student

__all__ = ["evaluate_tune", "tune_app"]

tune_app = typer.Typer(no_args_is_help=True, help="Fine-tune at the sites where a concept sits; writes LoRA files.")

OutFolder = Annotated[Path, typer.Option(help="Folder of the result: LoRA file, pack, card, page.")]
Concept = Annotated[str, typer.Option(help="The concept whose pack says where to train.")]
PackFile = Annotated[Path | None, typer.Option("--pack", help="That pack's file; default: found by the concept.")]
Sites = Annotated[
    str, typer.Option(help="`located`, `random`, `least`, `sites` (all), `attention` (all), or names joined by commas.")
]
SideOption = Annotated[
    Literal["text", "image", "both"],
    typer.Option(help="Keys and values of text, queries and result of the picture, or both."),
]
Rank = Annotated[int, typer.Option(min=1, help="Rank of the LoRA.")]
TrainSteps = Annotated[int, typer.Option("--train-steps", min=1, help="Steps of training.")]
Batch = Annotated[int, typer.Option(min=1, help="Rows a step.")]
Rate = Annotated[float, typer.Option(min=0.0, help="Learning rate of AdamW.")]
State = Annotated[Path | None, typer.Option(help="Folder of checkpoints; default: in the state folder.")]
Merge = Annotated[Path | None, typer.Option(help="Also write the model with the LoRA merged, to this new folder.")]
Precision = Annotated[
    Literal["no", "bf16", "fp16"], typer.Option(help="Mixed precision, by accelerate; needs a GPU to gain.")
]
Pictures = Annotated[
    Path | None, typer.Option(help="Training pictures: a folder with `metadata.jsonl` (Hugging Face imagefolder).")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """The options that the three commands share, and their usual defaults."""

    out: OutFolder
    model: Model = None
    concept: Concept
    pack: PackFile = None
    sites: Sites = "located"
    side: SideOption = "both"
    rank: Rank = 16
    train_steps: TrainSteps = 300
    batch: Batch = 16
    rate: Rate = 4e-3
    precision: Precision = "no"
    state: State = None
    merge: Merge = None
    seed: Seed = 0
    json_: Json = False


def _trains(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of `_Training` to a command, some with defaults of its own; it gets their values as `asked`."""
    shared = inspect.signature(_Training, eval_str=True).parameters
    options = [p.replace(default=defaults.get(name, p.default)) for name, p in shared.items()]

    def declared(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def run(**given: Any) -> None:
            asked = _Training(**{name: given.pop(name) for name in shared})
            command(asked=asked, **given)

        told = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != "asked"]
        vars(run)["__signature__"] = inspect.Signature([*told, *options])
        return run

    return declared


@tune_app.command()
@_trains(concept="lettering", train_steps=600)
def letter(
    asked: _Training,
    pictures: Pictures = None,
    town: Annotated[
        int | None, typer.Option(min=2, help="Or so many generated pictures of the town, half with two-line signs.")
    ] = None,
    ink: Annotated[
        float, typer.Option(min=0.0, help="How much more the error counts where RapidOCR finds lettering; 0: no more.")
    ] = 0.0,
) -> None:
    """Better lettering: learn from pictures with captions, at the sites that carry lettering.

    A stopped run continues when the same command is run again.
    """
    from tuning import TuneError, letter_lesson, read_imagefolder

    if (pictures is None) == (town is None):
        fail("give either --pictures FOLDER or --town COUNT")
    try:
        if pictures is not None:
            shown, data = read_imagefolder(pictures)
        else:
            assert town is not None
            shown, data = _town_signs(town, asked.seed), f"the town's generator, {town} pictures, seed {asked.seed}"
    except TuneError as error:
        fail(str(error))
    host = open_host(asked.model)

    def lesson(student: Student) -> Lesson:
        places = lettering_places() if ink else None
        more: dict[str, Any] = {"batch": asked.batch, "seed": asked.seed, "size": size_of(host)}
        return letter_lesson(student, shown, places=places, ink=ink, **more)

    about = {"application": "letter", "data": data, "ink": ink}
    _run(host, asked, lesson, about=about, prompts=[p.caption for p in shown[:6]])


@tune_app.command()
@_trains(concept="character/pip", train_steps=400, rate=5e-3)
def learn(
    asked: _Training,
    pictures: Annotated[Path, typer.Option(help="4 to 8 pictures of the subject.")],
    name: Annotated[str, typer.Option(help="What prompts will call it: a rare word and its class, `zev animal`.")],
    class_prompt: Annotated[str, typer.Option("--class", help="A prompt of its class: `an animal`.")],
    prior: Annotated[Path | None, typer.Option(help="Pictures of the class with captions; default: drawn.")] = None,
    priors: Annotated[int, typer.Option(min=0, help="How many are drawn; 0: no prior preservation.")] = 32,
) -> None:
    """A new subject: DreamBooth with prior preservation, at the sites that carry a subject of its kind.

    Pictures without `metadata.jsonl` are captioned with the name alone.
    """
    from tuning import TuneError, learn_lesson, prior_pictures, read_imagefolder

    try:
        captioned = (pictures / "metadata.jsonl").is_file()
        shown, data = read_imagefolder(pictures, caption=None if captioned else name)
        given, theirs = read_imagefolder(prior) if prior is not None else ([], f"{priors} drawn of `{class_prompt}`")
    except TuneError as error:
        fail(str(error))
    without = [p.caption for p in shown if name.lower() not in p.caption.lower()]
    if without:
        fail(f"each caption must contain the name `{name}`, got `{without[0]}`")
    host = open_host(asked.model)

    def lesson(student: Student) -> Lesson:
        drawn = given or prior_pictures(student, [class_prompt] * priors, seed=1_000_000 + asked.seed)
        return learn_lesson(student, shown, drawn, batch=asked.batch, seed=asked.seed, size=size_of(host))

    shows = [*dict.fromkeys(p.caption for p in shown[:5]), class_prompt]
    about = {"application": "learn", "data": data, "name": name, "prior": theirs}
    _run(host, asked, lesson, about=about, prompts=shows)


@tune_app.command()
@_trains(side="text")
def forget(
    asked: _Training,
    teacher: Annotated[
        Literal["swap", "anchor", "esd"],
        typer.Option(help="`swap`: the model steered at these sites; `anchor`: concept ablation; `esd`: away from it."),
    ] = "swap",
    prompts: Annotated[Path | None, typer.Option(help="JSON Lines of {prompt, donor}; default: generated.")] = None,
    keep: Annotated[Path | None, typer.Option(help="The same of what must stay; default: generated.")] = None,
    phrase: Annotated[str | None, typer.Option(help="The concept's words in prompts; default: its name.")] = None,
    anchor: Annotated[str | None, typer.Option(help="Words that replace them: what the concept becomes.")] = None,
    count: Annotated[int, typer.Option(min=2, help="Prompts of the concept.")] = 24,
) -> None:
    """A concept to forget: the model learns to answer its prompts as a teacher does. No picture is needed."""
    from localization import LocalizationError, load_contrasts
    from localization.contrasts import digest_of
    from palimpsest.cli.shared.contrasts import contrast_sets
    from tuning import forget_lesson

    try:
        sets = contrast_sets(
            asked.concept,
            town=is_ours(asked.model),
            prompts=prompts,
            phrase=phrase,
            neutral=anchor,
            count=count,
            check=2,
            seed=asked.seed,
        )
        kept = load_contrasts(keep, seed=asked.seed) if keep is not None else sets.controls
    except (LocalizationError, ValueError, OSError) as error:
        fail(str(error))
    host = open_host(asked.model)
    where = pack_for(host, asked.concept, asked.pack)
    pairs = sets.search
    if anchor is None and prompts is None:  # the pack's neutral form is the one that its swap was measured with
        pairs = [replace(c, donor=where.donor_for(c.prompt) or c.donor) for c in pairs]

    def lesson(student: Student) -> Lesson:
        return forget_lesson(student, where, pairs, kept, teacher=teacher, batch=asked.batch, seed=asked.seed)

    data = f"{len(pairs)} prompts of `{asked.concept}` and {2 * len(kept)} others, sha256 {digest_of(pairs, kept)}"
    about = {"application": f"forget ({teacher})", "data": data, "taught by": where.digest}
    shows = [c.prompt for c in (*pairs[:4], *kept[:2])]
    _run(host, asked, lesson, about=about, prompts=shows, guidance=None)


def evaluate_tune(
    application: Annotated[Literal["letter", "learn", "forget"], typer.Argument(help="What is trained.")],
    work: Annotated[Path, typer.Option(help="Folder of finished trainings and their pictures; a stopped run goes on.")],
    arms: Annotated[
        str, typer.Option(help="Arms joined by commas; a side after `+`: `located+block`; `none`, `steer`, `true`.")
    ] = "none,located,random,least,attention",
    model: Model = None,
    concept: Annotated[str | None, typer.Option(help="Whose pack says where; of `forget`, what is forgotten.")] = None,
    teacher: Annotated[Literal["swap", "anchor", "esd"], typer.Option(help="Of `forget`.")] = "swap",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm.")] = 3,
    first: Annotated[int, typer.Option(min=1, help="Pictures of what is trained, for each training.")] = 72,
    second: Annotated[int, typer.Option(min=1, help="Other pictures, for each training.")] = 40,
    afterwards: Annotated[
        int, typer.Option(min=0, help="Of `forget`: what comes back after so many steps of innocent fine-tuning.")
    ] = 0,
    side: SideOption = "text",
    rank: Rank = 16,
    train_steps: TrainSteps = 300,
    batch: Batch = 16,
    rate: Rate = 4e-3,
    steps: Annotated[int, typer.Option(min=2, help="Denoising steps of a picture.")] = 12,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure fine-tuning: located sites against random, least and all ones, on pictures that judges know."""
    from evaluation.readers.judges import Judges
    from evaluation.tables.tuning.cells import TuneJob
    from evaluation.tables.tuning.table import TableJob, tuning_rows
    from localization import LocalizationError
    from steering import SteeringError
    from tuning import TuneError

    if not is_ours(model):
        fail("the judges only know pictures of the reference models")
    if afterwards and application != "forget":
        fail(f"--afterwards is an option of `forget`, got it for `{application}`")
    about = concept or {"letter": "lettering", "learn": "animal/cat", "forget": "character/pip"}[application]
    host = open_host(model)
    call = {"num_inference_steps": steps}
    train = TuneJob(steps=train_steps, batch=batch, rate=rate, rank=rank, side=side, call=call)
    what = (application, tuple(arms.split(",")), tuple(range(seeds)), first, second, about, teacher)
    job = TableJob(*what, afterwards=afterwards, train=train)
    try:
        rows = tuning_rows(host, pack_for(host, about), job, Judges.load(), work=work, progress=say)
    except (TuneError, SteeringError, LocalizationError, ValueError) as error:
        fail(str(error))
    how = {"application": application, "model": host.name, "concept": about, "teacher": teacher, "seeds": seeds}
    how |= {"pictures": [first, second], "afterwards": afterwards, "train": {**asdict(train), "call": call}}
    keep({**how, "rows": rows}, out, json_)
    if not json_:
        for arm, row in rows.items():
            table(f"{arm} on {host.name}", [{"measure": k, "value": _brief(v)} for k, v in row.items()])


def _brief(value: Any) -> str:
    if isinstance(value, Mapping) and "hits" in value:
        low, high = value["interval"]
        share = "-" if value["share"] is None else f"{100 * value['share']:.1f} %"
        return f"{share} ({value['hits']}/{value['n']}; {100 * low:.1f} to {100 * high:.1f})"
    if isinstance(value, Mapping) and "mean" in value:
        return f"{value['mean']} {value['interval']}"
    return str(value)


def _run(
    host: Host,
    asked: _Training,
    lesson: Callable[[Student], Lesson],
    *,
    about: Mapping[str, Any],
    prompts: Sequence[str],
    guidance: float | None = 1.0,
) -> None:
    """Trains, writes the result and says what it is.

    about: the application, and all that its lesson hangs on; a run goes on only where all of it is the same. guidance:
    what a model with embedded guidance is told.
    """
    from localization import LocalizationError
    from steering import SteeringError
    from tuning import ARMS, Schedule, Student, TuneError, arm_of, merge_lora, run_name, tune, write_result

    needs = asked.sites in ARMS and asked.sites not in ("sites", "attention")
    where = pack_for(host, asked.concept, asked.pack) if needs else None
    work = asked.state or settings_from({"model": asked.model}).state_folder / "tune"
    tell = stages()
    told = {**about, "concept": asked.concept, "seed": asked.seed, "side": asked.side, "batch": asked.batch}
    try:
        arm = arm_of(host, asked.sites, pack=where, side=asked.side, seed=asked.seed)
        student = Student(host, guidance=guidance)
        say("texts, latents and teachers")
        schedule = Schedule(steps=asked.train_steps, rate=asked.rate)
        tuned = tune(
            student,
            lesson(student),
            arm,
            rank=asked.rank,
            schedule=schedule,
            work=work,
            name=run_name(host, arm, asked.rank, schedule, told),
            seed=asked.seed,
            precision=asked.precision,
            prompts=prompts,
            progress=lambda done, of, _: tell("training", done, of),
        )
        card = write_result(asked.out, host, tuned, concept=asked.concept, about=told)
        if asked.merge is not None:
            say(f"wrote {merge_lora(host, tuned.lora, asked.merge)}: the model with the LoRA in its weights")
    except (TuneError, SteeringError, LocalizationError, ValueError) as error:
        fail(str(error))
    _tell(asked.out, card, asked.json_)


def _tell(out: Path, card: Mapping[str, Any], json_: bool) -> None:
    if json_:
        print(json.dumps({"folder": str(out), **card}, indent=1, default=str))
        return
    shown = ("application", "concept", "sites", "rank", "loss", "a step costs", "rides")
    table(f"{out}", [{"what": name, "value": card[name]} for name in shown])
    say(f"wrote {out / 'lora.safetensors'}, and what it is: {out / 'page.html'}")
    if (out / "pack.safetensors").is_file():
        say("with it, rules are unfit until their packs are verified:")
        say(f"  palimpsest pack verify PACK --adapter {out / 'pack.safetensors'}")


def _town_signs(count: int, seed: int) -> list[Any]:
    from reference.town.image_folders import sign_pictures
    from tuning import Captioned

    two = sign_pictures(count // 2, lines=2, seed=seed)
    one = sign_pictures(count - count // 2, lines=1, seed=seed)
    return [Captioned(image, text) for image, text in (*two, *one)]
