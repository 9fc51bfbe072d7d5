"""`palimpsest edit` and `palimpsest repair`: another word on a picture, and pictures mended by the policies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli.shared.console import emit, fail, say, settings_from, table
from palimpsest.cli.shared.hosts import open_host, pack_for
from palimpsest.cli.shared.options import Floor, Json, Model, Policy, Steps

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from detectors.images import Reading
    from palimpsest.cli.shared.pictures import Shot

__all__ = ["add_edit"]

_MAX_PIXELS = 1 << 24
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_ON_A_SHEET = 24  # pairs
_WIDE = 512  # pixels; larger pictures are made smaller for a sheet


def edit(
    picture: Annotated[
        Path | None, typer.Argument(help="Picture to edit; without it, the one of `--prompt` and `--seed` is drawn.")
    ] = None,
    old: Annotated[str | None, typer.Option("--from", help="The word or words that stand there.")] = None,
    new: Annotated[str | None, typer.Option("--to", help="What is to stand there.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What the picture shows; default, for a given one: a sign that says the word.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the picture that is drawn.")] = 0,
    mask: Annotated[
        Path | None, typer.Option(help="Picture as large as the edited one, white where it may change; default: found.")
    ] = None,
    grow: Annotated[float, typer.Option(min=0, help="What is found is grown by this share of its height.")] = 0.35,
    start: Annotated[int, typer.Option(min=1, help="First step that is drawn anew; later keeps more.")] = 1,
    refine: Annotated[int, typer.Option(min=0, help="Iterations of each step back, for a given picture.")] = 2,
    controller: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of fresh noise on the way back, for a given picture.")
    ] = 0.0,
    pack: Annotated[Path | None, typer.Option(help="Pack that says where lettering sits; default: found.")] = None,
    model: Model = None,
    steps: Steps = None,
    out: Annotated[Path, typer.Option(help="PNG file for the edited picture.")] = Path("edited.png"),
    json_: Json = False,
) -> None:
    """Write other words into a picture, and keep every pixel around them.

    The located sites are shown the new words; where these are then not read, more sites, and at last the whole prompt.
    Exit code 1 if the words are not read after all.
    """
    from steering import SteeringError

    if old is None or new is None or not old.strip() or not new.strip():
        fail("edit needs `--from WORD --to WORD`: what stands on the picture, and what is to stand there")
    if picture is None and prompt is None:
        fail("edit needs a picture, or `--prompt` for one that is drawn with `--seed`")
    said = f'a sign that says "{old}"' if prompt is None else prompt
    wanted = _reworded(said, old, new)
    source = None if picture is None else _opened(picture)
    host = open_host(model)
    found = pack_for(host, "lettering", pack)
    call: dict[str, Any] = {} if steps is None else {"num_inference_steps": steps}
    try:
        if source is None:
            way = host.generate([said], plans=[None], seeds=[seed], record=True, **call)
            drawn, kept = way.images[0], way.trajectories[0]
        else:
            back: dict[str, Any] = {"first": start, "refine": refine, "controller": controller}
            drawn, kept = source, host.invert([source], [said], **back, **call)[0]
        reader = _reader()
        read = reader.read(drawn) if mask is None else []
        marked = _found(read, old, new, drawn.size, grow) if mask is None else _mask(mask, drawn.size)
        how: dict[str, Any] = {"seed": seed, "mask": marked, "start": start, **call}
        tries = {
            "located": (found.plan(toward=wanted), said),
            "wider": (found.plan(toward=wanted, wider=True), said),
            "whole prompt": (None, wanted),
        }
        made: list[tuple[int, str, Image, list[str]]] = []
        for name, (plan, shown) in tries.items():
            edited = host.redraw(drawn, kept, plan, prompt=shown, **how).image
            now = [r.text for r in reader.read(edited)]
            made.append((_misses(now, old, new), name, edited, now))
            if made[-1][0] == 0:
                break
    except SteeringError as error:
        fail(str(error))
    misses, name, image, now = min(made, key=lambda each: each[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    image.save(out)
    row: dict[str, Any] = {"file": str(out), "read": now, "as asked": misses == 0, "by": name}
    if source is not None:
        row["moved by the last iteration of the way back"] = round(kept.error, 4)
    if json_:
        emit(json.dumps(row, indent=1, ensure_ascii=False))
    else:
        table("edited", [{**row, "read": ", ".join(now)}])
    raise typer.Exit(0 if misses == 0 else 1)


def repair(
    place: Annotated[Path, typer.Argument(help="Picture, or folder of pictures.", metavar="PICTURE|FOLDER")],
    policy: Policy = None,
    floor: Floor = None,
    model: Model = None,
    prompt: Annotated[str | None, typer.Option(help="What the pictures show, as far as it is known.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is drawn anew.")] = 0,
    steps: Steps = None,
    out: Annotated[Path, typer.Option(help="Folder: pictures, `rows.jsonl`, `sheet.png`.")] = Path("repaired"),
    json_: Json = False,
) -> None:
    """Read pictures, decide by the policies, mend what may not stand there, and verify.

    Pictures that no rule touches are not written again. A stopped run goes on; the files of another run are an error.
    Exit code 1 if a picture was refused or could not be read.
    """
    from palimpsest.cli.shared.pictures import in_worker, problem

    files = sorted(p for p in place.rglob("*") if p.suffix.lower() in _ENDINGS) if place.is_dir() else [place]
    if not files or not all(f.is_file() for f in files):
        fail(f"`{place}` must be a picture, or a folder with pictures ({', '.join(_ENDINGS)})")
    root = place if place.is_dir() else place.parent
    try:
        settings = settings_from({"policy": policy, "floor": floor, "model": model})
        with in_worker(settings) as ready:
            how: dict[str, Any] = {"policy": ready.store.snapshot.digest, "model": ready.limits.models[0]}
            how |= {"prompt": prompt, "seed": seed, "steps": steps}
            rows = _rows_of(out, how)
            for number, file in enumerate(files, 1):
                name = file.relative_to(root).as_posix()
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                if rows.get(name, {}).get("sha256") != digest:
                    rows[name] = _repair(ready, file, out / f"{name}.png", how) | {"name": name, "sha256": digest}
                    _keep(out, how, rows)
                say(f"{number} of {len(files)}: {name}: {rows[name]['verdict']}")
    except Exception as error:
        if (text := problem(error)) is None:
            raise
        fail(text)
    asked = [rows[f.relative_to(root).as_posix()] for f in files]
    _sheet(root, asked, out / "sheet.png")
    if json_:
        emit(json.dumps(asked, indent=1, ensure_ascii=False))
    else:
        table("pictures", [_short(row) for row in asked])
    raise typer.Exit(1 if any(row["refused"] for row in asked) else 0)


def add_edit(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command()(edit)
    app.command()(repair)


# words on pictures


def _reworded(prompt: str, old: str, new: str) -> str:
    at = prompt.casefold().find(old.casefold())
    if at < 0:
        fail(f"`--prompt` must say what stands on the picture, `{old}`, got `{prompt}`")
    return prompt[:at] + new + prompt[at + len(old) :]


def _plain(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _misses(read: Sequence[str], old: str, new: str) -> int:
    """How many letters of what was read are not as asked; more than any word has, where the old words still stand."""
    from evaluation.metrics import edit_distance

    pieces, goal = [_plain(text) for text in read], _plain(new)
    whole = "".join(pieces)
    if _plain(old) in whole and _plain(old) not in goal:
        return 1000
    return 0 if goal in whole else min(edit_distance(goal, said) for said in (whole, *pieces))


def _found(read: Sequence[Reading], old: str, new: str, size: tuple[int, int], grow: float) -> np.ndarray:
    """The mask around the pieces that hold a word of `old`, or one within an edit of it."""
    from evaluation.metrics import edit_distance
    from steering import mask_of

    words = [_plain(w) for w in old.split()]
    boxes = [
        (r.box.left, r.box.top, r.box.right, r.box.bottom)
        for r in read
        if any(w in _plain(r.text) or edit_distance(w, _plain(r.text)) <= 1 for w in words)
    ]
    if not boxes:
        seen = ", ".join(f"`{r.text}`" for r in read) or "nothing"
        fail(f"`{old}` must stand on the picture, and there was read {seen}; say where it stands with `--mask`")
    return mask_of(boxes, size, grow=grow, longer=len(new) / len(old))


def _mask(file: Path, size: tuple[int, int]) -> np.ndarray:
    import numpy as np

    shown = _opened(file)
    if shown.size != size:
        fail(f"`--mask` must be {size[0]}x{size[1]} like the picture, got {shown.width}x{shown.height}")
    marked = (np.asarray(shown.convert("L")) > 127).astype(np.float32)
    if not marked.any():
        fail(f"`--mask` must be white where the picture may change, and `{file}` is black everywhere")
    return marked


def _reader() -> Any:
    from detectors.images import RapidOcr

    return RapidOcr()


def _opened(file: Path) -> Image:
    """The pixels of a file. Ends the command with an error if it is no picture."""
    from service.errors import BadRequest
    from service.image_files import decode

    try:
        return decode(file.read_bytes(), name=str(file), max_pixels=_MAX_PIXELS).image
    except BadRequest as error:
        fail(str(error))
    except OSError as error:
        fail(f"`{file}` cannot be read: {error.strerror}")


# a run over a folder


def _repair(ready: Any, file: Path, target: Path, how: dict[str, Any]) -> dict[str, Any]:
    """What became of one picture; what was mended is written to `target`."""
    from palimpsest.cli.shared.pictures import repaired
    from service.errors import BadRequest
    from service.http.requests import RepairRequest
    from service.image_files import decode

    try:
        image = decode(file.read_bytes(), name=file.name, max_pixels=ready.limits.max_pixels)
        asked = RepairRequest(prompt=how["prompt"], seed=how["seed"], num_inference_steps=how["steps"])
        shot: Shot = repaired(ready, asked.over(ready.limits, image))
    except BadRequest as error:
        return {"verdict": "unreadable", "refused": True, "why": str(error), "rules": [], "rungs": [], "file": None}
    told = shot.steering
    row: dict[str, Any] = {"verdict": told["verdict"], "refused": shot.image is None, "why": "", "file": None}
    row |= {"rules": list(told["rules"]), "rungs": list(told.get("rungs", ()))}
    if shot.image is not None and shot.image.tobytes() != image.image.tobytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        assert shot.files[0] is not None  # INVARIANT: what is a picture is a file
        target.write_bytes(shot.files[0])
        row["file"] = str(target)
    return row


def _rows_of(out: Path, how: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a run that was stopped, by name. Ends the command with an error if it was another run."""
    file = out / "rows.jsonl"
    if not file.is_file():
        return {}
    try:
        first, *rest = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    except ValueError:
        fail(f"`{file}` must hold the rows of an earlier run, and cannot be read; give another `--out`")
    if first != how:
        differ = ", ".join(f"{k} was `{first.get(k)}`" for k in how if first.get(k) != how[k])
        fail(f"`{out}` holds another run ({differ}); give another `--out`")
    return {row["name"]: row for row in rest}


def _keep(out: Path, how: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    fresh = out / "rows.part.jsonl"
    fresh.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in (how, *rows.values())), "utf-8")
    fresh.replace(out / "rows.jsonl")


def _sheet(root: Path, rows: Sequence[dict[str, Any]], target: Path) -> None:
    """The first pictures that were mended, before and after, side by side."""
    from PIL import Image

    from palimpsest.cli.shared.sheets import Row, sheet

    pairs = []
    for row in [r for r in rows if r["file"]][:_ON_A_SHEET]:
        both = [_opened(root / row["name"]), Image.open(row["file"]).convert("RGB")]
        for picture in both:
            picture.thumbnail((_WIDE, _WIDE))
        pairs.append(Row(row["name"], f"{row['verdict']}: {', '.join(row['rules'])}", tuple(both)))
    if pairs:
        sheet(("before", "after"), pairs).save(target)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    told = {k: row[k] for k in ("name", "verdict", "rules", "rungs", "file", "why")}
    return {k: ", ".join(v) if isinstance(v, list) else v for k, v in told.items()}
