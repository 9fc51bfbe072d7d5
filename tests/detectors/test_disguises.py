# ruff: noqa: E501  tables of cases are read a case a line
"""Fancy alphabets, pictograms, mark-up, digits between, one letter more, words by sound; and honest foreign text.

| break | red |
|---|---|
| `_ALPHABETS` is empty | an_alphabet_that_looks_latin_is_read |
| `load_confusables` gives an empty table | unicodes_own_confusables_are_read |
| `_SCRIPT_LEAST` is 1 | short_honest_words_are_not_read_by_sight |
| `_CODE` matches nothing, a known word is guessed about | honest_text_is_no_insult |
| `SECOND` is empty | a_letter_that_passes_for_two_is_read_in_both_ways |
| `_trim` or `_sound` adds nothing | the rows of a_word_in_disguise_is_found |
"""

from __future__ import annotations

import unicodedata

import pytest

from detectors.text import make_views, sense
from detectors.text.confusables import LOOKALIKES, load_confusables
from detectors.text.sounds import respellings
from evaluation.training.confusables import compact, main, parse_confusables
from policies import SHIPPED, Request
from policies.matcher import Matcher

LISTED = Matcher(
    {"l": [w for w in (SHIPPED / "lists" / "toxic.en.txt").read_text("utf-8").splitlines() if w and w[0] != "#"]}
)


def words(text: str, matcher: Matcher = LISTED) -> set[str]:
    return {m.word for v in make_views(text, piece=True) for m in matcher.find(v)}


@pytest.mark.parametrize(
    "alphabet",
    ["ᗩᗷᑕᗪᗴᖴgᕼIᒎKᒪᗰᑎOᑭᑫᖇᔕTᑌᐯᗯ᙭Yᘔ", "ᏗᏰፈᎴᏋᎦᎶᏂᎥᏠᏦᏝᎷᏁᎧᎮᎤᏒᏕᏖᏬᏉᏇጀᎩፚ", "ǟɮƈɖɛʄɢɦɨʝӄʟʍռօքզʀֆȶʊʋաӼʏʐ", "αႦƈԃҽϝɠԋιʝƙʅɱɳσρϙɾʂƚυʋɯxყȥ", "ልጌርዕቿቻኗዘጎጋጕረጠክዐየዒዪነፕሁሀሠሸሃጊ", "ꍏꌃꉓꀸꍟꎇꁅꃅꀤꀭꀘ꒒ꂵꈤꂦꉣꆰꋪꌗ꓄ꀎꃴꅏꊼꌩꁴ"],
)  # fmt: skip
@pytest.mark.parametrize("word", ["weirdo", "creep", "quack", "vermin", "zonked", "fudge jaw"])
def test_an_alphabet_that_looks_latin_is_read(alphabet, word):
    drawn = word.translate(dict(zip(map(ord, "abcdefghijklmnopqrstuvwxyz"), alphabet, strict=True)))
    assert words(drawn, Matcher({"l": [word]})) == {word}


def test_unicodes_own_confusables_are_read():
    version, table = load_confusables()
    assert version == "17.0.0"
    only_there = [
        c for c in table if table[c].isalpha() and c not in LOOKALIKES and unicodedata.normalize("NFKC", c) == c
    ]
    assert len(only_there) > 100
    read = [c for c in only_there if any(v.text == table[c].lower() * 2 + "aa" for v in make_views(c * 2 + "aa"))]
    assert len(read) > 0.85 * len(only_there)  # others are read by their case-folded form
    assert all(s.version.endswith("uts39-17.0.0") for s in sense(Request("a lake")).of("prompt", "text"))


def test_the_compact_table_keeps_what_stands_for_one_ascii_letter(tmp_path, capsys):
    lines = [
        "\ufeff# confusables.txt",
        "# Version: 1.2.3",
        "0430 ;\t0061 ;\tMA\t# a",
        "118E3 ; 0072 006E ; MA # m",
        "0031 ; 006C ; MA # 1",
        "1D400 ; 0041 ; MA # A",
        "05AD ; 0596 ; MA # x",
    ]
    version, prototypes = parse_confusables(lines)
    assert (version, compact(prototypes)) == ("1.2.3", {"a": "а", "m": "\U000118e3"})
    source, out = tmp_path / "c.txt", tmp_path / "out.txt"
    source.write_text("\n".join(lines), "utf-8")
    assert main([str(source), str(out)]) == 0
    assert out.read_text("utf-8").endswith("# version: 1.2.3\na а\nm \U000118e3\n")
    source.write_text("nothing\n")
    assert main([str(source), str(out)]) == 2
    assert "must be UTS 39's confusables.txt" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["мσяση", "moЯoИ", "ՏԵմԹíժ", "Ƚ¤§£ȑ", "lõჰპΓ"])
def test_a_letter_that_passes_for_two_is_read_in_both_ways(text):
    assert len(words(text)) >= 1


@pytest.mark.parametrize(
    ("text", "word"),
    [("w1e2i3r4d5o", "weirdo"), ("c7r8e9e1p", "creep"), ("we<b>ir</b>do", "weirdo"), ("we[i]ir[/i]do", "weirdo"), ("we\\textbf{ir}do", "weirdo"), ("wei<!-- x -->rdo", "weirdo"),
     ("cr💛ep", "creep"), ("w🍩irdo", "weirdo"), ("#dontbeaweirdo", "weirdo"), ("#theyreallcreeps", "creeps"), ("zweirdo", "weirdo"), ("weirdoq", "weirdo"), ("wierdough", None),
     ("kreep", "creep"), ("psyko", None), ("cowerd", None), ("phool", "fool"), ("looney", None), ("beetch", "bitch"), ("wankah", "wanker"), ("azzhole", "asshole"), ("idjits", "idiots")],
)  # fmt: skip
def test_a_word_in_disguise_is_found(text, word):
    assert (words(text) == set()) if word is None else (word in words(text))


@pytest.mark.parametrize(
    "text",
    ["בוקר טוב", "ברוכים הבאים", "ยินดีต้อนรับ", "ร้านกาแฟ", "ᎣᏏᏲ", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "Բարի լույս", "გამარჯობა", "营业中", "山口工口", "コーヒー", "メロンパン", "ようこそ", "ᐃᓄᒃᑎᑐᑦ", "እንኳን ደህና መጡ",
     "Добро пожаловать", "Καλή χρονιά", "ꆈꌠꁱꂷ", "SH17 Station", "B52", "Ashit Kumar", "closers", "tweet", "beech", "chariot", "I ❤ NY", "h🍩t coffee", "<b>bold</b>", "A1B2C3"],
)  # fmt: skip
def test_honest_text_is_no_insult(text):
    assert words(text) == set()


def test_short_honest_words_are_not_read_by_sight():
    short = Matcher({"l": ["cop", "tho", "rob"]})
    assert words("ᎡᎾᏏ ᎷᎾᎢᎳ", short) == set()


def test_respellings_are_bounded_and_differ_from_the_word():
    for word in ("stoopid", "kwackery", "zzoockeephah", "aaaaeeeeoooo"):
        spelled = list(respellings(word))
        assert word not in spelled[:1]
        assert len(spelled) <= 160
