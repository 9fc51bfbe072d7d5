"""Large pictures, turned and mirrored lettering: on the real engine, and on pictures that the tests draw.

| mutation | law that turned it red |
|---|---|
| one window, the picture | small_lettering_on_a_large_picture_is_read |
| windows without the whole | lettering_wider_than_a_window_is_read |
| windows that do not overlap | windows_cover_a_picture_and_overlap_by_a_long_word |
| every edge of a window cuts | is_cut_at_inner_edges_only |
| no other ways | turned_and_mirrored |
| other ways instead of the line as it stands | a_line_that_reads_well_is_recognised_once |
| NaN of another way dropped | a_score_that_is_no_number_comes_out |
| outputs of RapidOCR's networks not checked | a_network_of_rapidocr_that_gives_no_numbers |
| strips as they are | a_strip_is_not_enlarged |
| time that is not looked at | a_page_that_cannot_be_read_in_time |
| a detector that stopped by itself counted as failed | a_page_that_cannot_be_read_in_time |
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from detectors.images import EasyOcr, LetteringLooker, RapidOcr, Reading, Watched, look
from detectors.images.rapid import _finite
from detectors.images.ways import Line, every_way
from detectors.images.windows import distinct, windows_of
from detectors.running import Watch
from policies import Box

FONT = Path(__file__).parents[2] / "reference" / "fonts" / "DejaVuSansMono-Bold.ttf"


def drawn(word, side, height, *, angle=0, mirrored=False, at=(0.3, 0.6), colours=((70, 120, 160), (250, 240, 220))):
    """A picture of `side` pixels with `word` in letters of `height`, turned by `angle`, at a share of the free room."""
    font = ImageFont.truetype(str(FONT), height)
    left, top, right, bottom = font.getbbox(word)
    word_mask = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(word_mask).text((2 - left, 2 - top), word, font=font, fill=255)
    if mirrored:
        word_mask = word_mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mask = word_mask.rotate(angle, expand=True, resample=Image.Resampling.BICUBIC)
    image = Image.new("RGB", (side, side), colours[0])
    place = [round(share * (side - size)) for share, size in zip(at, mask.size, strict=True)]
    image.paste(colours[1], tuple(place), mask)
    return image


def texts(engine, image):
    return {reading.text for reading in engine.read(image)}


@pytest.fixture(scope="module")
def engine():
    return RapidOcr()


@pytest.mark.parametrize(("side", "height"), [(1024, 10), (1024, 20), (1536, 16), (1536, 40)])
def test_small_lettering_on_a_large_picture_is_read_where_it_stands(engine, side, height):
    (reading,) = [r for r in engine.read(drawn("MORON", side, height, at=(0.47, 0.55))) if not r.turned]
    assert reading.text == "MORON"
    assert abs((reading.box.left + reading.box.right) / 2 - (0.47 * (side - 3 * height) + 1.5 * height)) < height
    assert reading.box.bottom - reading.box.top < 3 * height


def test_lettering_wider_than_a_window_is_read(engine):
    assert "STUPID" in texts(engine, drawn("STUPID", 1024, 260, at=(0.5, 0.5)))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [90, 135, 180, 225, 270])
def test_lettering_that_is_turned_and_mirrored_is_read(engine, angle, mirrored):
    for word in ("LOSER", "GARDEN"):
        assert word in texts(engine, drawn(word, 256, 36, angle=angle, mirrored=mirrored, at=(0.5, 0.5)))


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_small_sign_is_read_when_it_is_turned(engine, angle):
    assert "STUPID" in texts(engine, drawn("STUPID", 64, 14, angle=angle))


@pytest.mark.parametrize("colours", [((0, 0, 0), (255, 255, 255)), ((250, 250, 245), (10, 10, 10))])
def test_light_on_dark_reads_like_dark_on_light(engine, colours):
    assert texts(engine, drawn("WINTER", 64, 14, colours=colours)) == {"WINTER"}


def test_the_embedded_easyocr_network_reads_turned_signs():
    from evaluation.training.detectors import unseen_signs

    engine = EasyOcr.embedded(finder=RapidOcr())
    signs = list(unseen_signs(12, seed=3))
    turns = (Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
    assert sum(word in texts(engine, picture.transpose(turn)) for turn in turns for picture, word in signs) >= 18


def test_an_easyocr_network_that_gives_no_numbers_is_an_error_and_never_no_text():
    from evaluation.training.detectors import unseen_signs

    engine, ((picture, word),) = EasyOcr.embedded(finder=RapidOcr()), unseen_signs(1, seed=3)
    assert word in texts(engine, picture)
    engine._reader.recognizer.register_forward_hook(lambda network, given, out: out * math.nan, prepend=True)
    seen = look(picture, [LetteringLooker(engine, budget=60)], reads=frozenset({"lettering"}))
    assert seen.error("picture", "lettering") == "easyocr: error: NotFinite"


def line(text, score, wide=60):
    return Line(text, score, Box(0, 0, wide, 20), np.zeros((20, wide), np.uint8))


def test_a_line_that_reads_well_is_recognised_once_and_keeps_its_reading():
    asked = []

    def recognise(crops):
        asked.extend(crops)
        return [("IDIOT", 0.99), ("x", 0.2), ("y", 0.6)][: len(crops)]

    sure, narrow, doubtful = line("HELLO", 0.995), line("O", 0.5, wide=20), line("10I0I", 0.7)
    got = every_way([sure, narrow, doubtful], recognise)
    assert [(r.text, r.turned) for r in got] == [
        ("HELLO", False), ("O", False), ("10I0I", False), ("IDIOT", True),
    ]  # fmt: skip
    assert len(asked) == 3


@pytest.mark.parametrize("told", [[0.7, math.nan], [math.nan, 0.99]])
def test_a_score_that_is_no_number_comes_out(told):
    upright, turned = told
    got = every_way([line("LOSER", upright)], lambda crops: [("RESOL", turned)] * len(crops))
    assert any(math.isnan(r.score) for r in got)


@pytest.mark.parametrize("part", ["text_det", "text_rec"])
def test_a_network_of_rapidocr_that_gives_no_numbers_is_an_error_and_never_no_text(part, monkeypatch):
    engine = RapidOcr()
    assert texts(engine, drawn("LOSER", 64, 14)) == {"LOSER"}
    inner = getattr(engine.library, part).session.__closure__[0].cell_contents
    damaged = _finite(lambda inputs: inner(inputs) * math.nan)
    monkeypatch.setattr(getattr(engine.library, part), "session", damaged)
    seen = look(drawn("LOSER", 64, 14), [LetteringLooker(engine, budget=60)], reads=frozenset({"lettering"}))
    assert seen.error("picture", "lettering") == "rapidocr: error: NotFinite"


@pytest.mark.parametrize("size", [(4096, 16), (16, 4096), (640, 2)])
def test_a_strip_is_not_enlarged_beyond_a_usual_picture(size, monkeypatch):
    engine, areas = RapidOcr(), []
    detector = engine.library.text_det
    inner = detector.session
    monkeypatch.setattr(detector, "session", lambda x: areas.append(x.shape[2] * x.shape[3]) or inner(x))
    engine.read(Image.new("RGB", size, "white"))
    assert areas
    assert max(areas) <= 640 * 640


@pytest.mark.parametrize("turned", [False, True])
def test_lettering_in_a_strip_is_found_where_it_stands(turned):
    colours = ((70, 120, 160), (250, 240, 220))
    picture = Image.new("RGB", (900, 24), colours[0])
    picture.paste(drawn("LOSER", 100, 18, at=(0.5, 0.5), colours=colours).crop((0, 38, 100, 62)), (600, 0))
    picture = picture.rotate(90, expand=True) if turned else picture
    (box,) = {r.box for r in RapidOcr().read(picture) if r.text == "LOSER"}
    along = (900 - box.bottom, 900 - box.top) if turned else (box.left, box.right)
    across = (box.left, box.right) if turned else (box.top, box.bottom)
    assert 600 < along[0] < along[1] < 700
    assert -2 < across[0] < across[1] < 26


def test_a_page_that_cannot_be_read_in_time_is_an_error_and_stops_nobody_else():
    page = Image.new("RGB", (1000, 1000), "white")
    for k in range(64):
        page.paste(drawn("LOSER", 100, 20), (k % 8 * 120, k // 8 * 120))
    reader = LetteringLooker(RapidOcr(seconds=0.2), budget=60)
    watch = Watch("rapidocr", 60)
    asked = [(page, "rapidocr: timeout: not read within 0.2 s")] * 3 + [(drawn("LOSER", 64, 14), None)]
    for picture, said in asked:
        seen = look(picture, [Watched(reader, watch)], reads=frozenset({"lettering"}))
        assert seen.error("picture", "lettering") == said
    assert watch.health.state == "closed"


def test_what_is_read_turned_is_joined_by_itself():
    place = [Box(0, y, 20, y + 10) for y in (0, 20)]
    readings = [Reading("AB", place[0], 0.9), Reading("ID", place[0], 0.95, turned=True),
                Reading("CD", place[1], 0.9), Reading("IOT", place[1], 0.95, turned=True)]  # fmt: skip

    class Fixed:
        name, version = "fixed", "1"

        def read(self, image):
            return readings

    seen = look(Image.new("RGB", (32, 32)), [LetteringLooker(Fixed())], reads=frozenset({"lettering"}))
    assert {"AB CD", "ID IOT"} <= {s.text for s in seen.items}


@pytest.mark.parametrize(("height", "width"), [(769, 300), (1024, 1024), (1200, 1536), (3000, 500)])
def test_windows_cover_a_picture_and_overlap_by_a_long_word(height, width):
    *windows, whole = windows_of(np.zeros((height, width, 3), np.uint8))
    assert whole.whole
    assert max(whole.pixels.shape) <= 640
    rows, columns = windows[0].of
    assert max(rows, columns) <= 2000
    for y in [*range(0, rows - 190, 37), rows - 190]:
        for x in [*range(0, columns - 190, 37), columns - 190]:
            there = [Box(x - w.left, y - w.top, x + 190 - w.left, y + 190 - w.top) for w in windows]
            assert any(
                b.left >= 0 and b.right <= w.pixels.shape[1] and b.top >= 0 and b.bottom <= w.pixels.shape[0]
                for b, w in zip(there, windows, strict=True)
            ), (x, y)


def test_a_place_in_a_window_is_one_in_the_picture_and_is_cut_at_inner_edges_only():
    first, *_, last, _ = windows_of(np.zeros((3000, 500, 3), np.uint8))
    assert (first.top, first.scale) == (0, pytest.approx(2 / 3))
    back = last.in_picture(Box(2, 10, 20, 30))
    assert (back.left, back.top) == (pytest.approx(3), pytest.approx((last.top + 10) * 1.5))
    assert not first.cuts(Box(0, 0, 333, 20))
    assert first.cuts(Box(5, 600, 20, 639))
    assert last.cuts(Box(5, 1, 20, 30))
    assert not last.cuts(Box(5, 600, 20, 640))


def test_a_small_picture_is_looked_at_as_it_is():
    pixels = np.zeros((768, 512, 3), np.uint8)
    (window,) = windows_of(pixels)
    assert window.pixels is pixels
    assert window.whole


def test_of_places_that_are_one_the_first_is_kept():
    same, beside, piece = Box(0, 0, 10, 10), Box(20, 0, 30, 10), Box(0, 0, 4, 10)
    assert distinct([same, Box(1, 0, 10, 10), beside, piece]) == [0, 2, 3]
