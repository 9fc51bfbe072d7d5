# ruff: noqa: E501  the rows of a table are read and compared as whole lines
"""Disguises words as people do to evade a filter: the seeded operators of the evasion corpus.

This is the counterpart of `detectors.text.views` and is kept apart on purpose: the tables list what one can type, not
what the views undo, so a gap in the views shows. The operators train the classifier and measure recall. They are never
used when a request is read.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["DISGUISES", "Disguise"]

_LEET = {"a": "4@", "b": "8", "e": "3€", "g": "96", "i": "1!|", "l": "1|", "o": "0", "s": "5$", "t": "7+", "z": "2"}
_SAFE_LEET = {**_LEET, "g": "9", "i": "1!", "l": "1"}
_GLYPHS = {
    "a": "аɑα⍺", "b": "Ьƅᑲв", "c": "сϲᴄⅽⲥꮯ", "d": "ԁⅾᑯđ", "e": "еҽ℮ꬲε", "f": "ꬵꞙƒք", "g": "ɡᶃցԍ", "h": "һհᏂħ", "i": "іɩıɪι⍳Ꭵ",
    "j": "јϳ", "k": "κкⲕᴋ", "l": "ⅼӏɫłǀ", "m": "мⅿᴍ", "n": "ոռпηп", "o": "оοօⲟᴏ๐०ø", "p": "рρϱ⍴ⲣ", "q": "ԛգ", "r": "гᴦⲅꭇя",
    "s": "ѕꜱƽꮪ", "t": "тτᴛⲧ", "u": "υսᴜꭎʋц", "v": "νѵᴠⅴ", "w": "ԝաѡᴡшω", "x": "хⅹ×χ", "y": "уүγʏყ", "z": "ᴢꮓʐ",
}  # fmt: skip
_ACCENTED = {
    "a": "áàâäãåāăąǎȧạả", "c": "çćĉċč", "d": "ďđḍ", "e": "éèêëēĕėęěẹẽ", "g": "ĝğġģ", "h": "ĥħḥ", "i": "íìîïĩīĭįịỉ", "j": "ĵ", "k": "ķḳ",
    "l": "ĺļľłḷ", "m": "ṁṃ", "n": "ñńņňṇ", "o": "óòôöõøōŏőọỏ", "p": "ṗṕ", "r": "ŕŗřṛ", "s": "śŝşšṣ", "t": "ţťŧṭ", "u": "úùûüũūŭůűųụủ",
    "w": "ŵẁẃẅ", "y": "ýÿŷỳ", "z": "źżžẓ", "b": "ḃḅ", "f": "ḟ", "v": "ṽṿ", "x": "ẋẍ", "q": "q",
}  # fmt: skip
_INVISIBLE = (
    "\u200b",
    "\u200c",
    "\u200d",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\ufe0f",
    "\u034f",
    "\u180e",
    "\u2063",
    "\U000e0020",
    "\u3164",
    "\u115f",
)
_MARKS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0316\u0323\u0331\u0332\u0334\u0335\u0336\u0337\u0338\u033f\u0346\u035b\u0489\u20dd\u20e0"
_BLANKS = (" ", "  ", "\u00a0", "\u2009", "\u2003", "\u202f", "\t", " \u200b")
_BETWEEN = (
    ".",
    "-",
    "_",
    "*",
    "·",
    "•",
    "~",
    "/",
    "|",
    "+",
    ":",
    ",",
    "…",
    "—",
    " - ",
    ". ",
    "♥",
    "✨",
    "🔥",
    "=",
    "^",
    "'",
    "❤️",
    "\\",
)
_INSIDE = (".", "-", "_", "*", "·", "'", "~", "/", "^", ",", "•", "\u2011", "`", "´", "|", "❤")
_MASKS = "****##_?%•-·×✱"
_FLIPPED = dict(zip("abcdefghijklmnopqrstuvwxyz", "ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹsʇnʌʍxʎz", strict=True))
_NEIGHBOURS = (
    "you", "your", "the", "big", "old", "total", "such", "what", "hey", "hello", "shut", "look", "this", "that", "our", "my", "boss", "mayor",
    "teacher", "king", "queen", "club", "house", "town", "city", "world", "super", "mega", "ultra", "real", "little", "fat", "dirty", "ugly", "all",
    "are", "they", "free", "best", "team", "love", "hate", "nice", "girl", "boy", "man", "dude", "bro", "time", "zone", "only", "here", "inside",
)  # fmt: skip
_BEFORE_GLUED = (
    "youarea", "youre", "youreall", "mybossisa", "whatatotal", "suchanabsolute", "dontbea", "heisa", "theyarethe", "worldsbiggest", "hello", "ourtownisa",
)  # fmt: skip
_EMOJI = {
    "a": "🅰️", "b": "🅱️", "o": "⭕", "i": "ℹ️", "m": "Ⓜ️", "p": "🅿️", "x": "❌", "t": "✝️", "s": "💲", "c": "©️", "r": "®️",
    "h": "♓", "u": "⛎", "e": "📧", "l": "1️⃣", "g": "6️⃣", "z": "2️⃣",
}  # fmt: skip


# alphabets of fancy-text generators, a to z
_FANCY = (
    "αв¢∂єfgнιנкℓмησρqяѕтυνωχуz", "卂乃匚ᗪ乇千Ꮆ卄丨ﾌҜㄥ爪几ㄖ卩Ɋ尺丂ㄒㄩᐯ山乂ㄚ乙", "ᗩᗷᑕᗪᗴᖴǤᕼIᒎKᒪᗰᑎOᑭᑫᖇᔕTᑌᐯᗯ᙭Yᘔ", "ᏗᏰፈᎴᏋᎦᎶᏂᎥᏠᏦᏝᎷᏁᎧᎮᎤᏒᏕᏖᏬᏉᏇጀᎩፚ",
    "ǟɮƈɖɛʄɢɦɨʝӄʟʍռօքզʀֆȶʊʋաӼʏʐ", "ąცƈɖɛʄɠɧıʝƙƖɱŋơ℘զཞʂɬų۷ῳҳყʑ", "ค๒ς๔єŦﻮђเןкɭ๓ภ๏קợгรtยשฬאץz", "αႦƈԃҽϝɠԋιʝƙʅɱɳσρϙɾʂƚυʋɯxყȥ", "ƛƁƇƊЄƑƓӇƖʆƘԼMƝƠƤƢƦƧƬƲƔƜӾƳȤ",
    "₳฿₵ĐɆ₣₲ⱧłJ₭Ⱡ₥₦Ø₱QⱤ₴₮ɄV₩ӾɎⱫ", "ꍏꌃꉓꀸꍟꎇꁅꃅꀤꀭꀘ꒒ꂵꈤꂦꉣꆰꋪꌗ꓄ꀎꃴꅏꊼꌩꁴ", "ⲁⲃⲥⲇⲉfⳋⲏⲓⳗⲕlⲙⲛⲟⲣqꞅⲋⲧυⳳⲱⲭⲩⲍ", "ልጌርዕቿቻኗዘጎጋጕረጠክዐየዒዪነፕሁሀሠሸሃጊ",
)  # fmt: skip
_TAGS = (
    "<b>{}</b>",
    "<i>{}</i>",
    "<em>{}</em>",
    '<span class="x">{}</span>',
    "[b]{}[/b]",
    "{}<!-- x -->",
    "{}<wbr>",
    "\\textbf{{{}}}",
)
_PICTOGRAMS = "❤♥💛🍩🍕🌍⚽🌟🔥👁🎈💀🐸🎃"
_SOUNDS = (
    ("oo", "ew"), ("u", "oo"), ("i", "ee"), ("ee", "ea"), ("f", "ph"), ("ck", "k"), ("c", "k"), ("s", "z"), ("er", "ah"), ("y", "ee"), ("ph", "f"),
    ("qu", "kw"), ("x", "ks"), ("o", "oa"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disguise:
    """One way to disguise a text: `apply(text, rng)`.

    `quoted` when the result brings its own quotation marks; `single` when only texts of one word are disguised so;
    `least` is the fewest letters of a text.
    """

    name: str
    apply: Callable[[str, random.Random], str]
    quoted: bool = False
    single: bool = False
    least: int = 4

    def fits(self, text: str) -> bool:
        """Whether `text` can be disguised so."""
        return len(text.replace(" ", "")) >= self.least and not (self.single and " " in text)


def _letters(change: Callable[[str, random.Random], str]) -> Callable[[str, random.Random], str]:
    """Every letter by itself, blanks left alone."""
    return lambda text, rng: "".join(change(c, rng) if c.isalpha() else c for c in text)


def _words(change: Callable[[str, random.Random], str]) -> Callable[[str, random.Random], str]:
    """Every word by itself when it has four letters or more; at least the longest one."""

    def apply(text: str, rng: random.Random) -> str:
        words = text.split()
        longest = max(map(len, words))
        return " ".join(change(w, rng) if len(w) >= min(4, longest) else w for w in words)

    return apply


def _some(table: Mapping[str, str], share: float) -> Callable[[str, random.Random], str]:
    """Letters replaced from a table, each with a probability of `share`, at least one of them."""

    def apply(text: str, rng: random.Random) -> str:
        places = [i for i, c in enumerate(text) if c in table]
        chosen = {i for i in places if rng.random() < share} or set(rng.sample(places, min(1, len(places))))
        return "".join(rng.choice(table[c]) if i in chosen else c for i, c in enumerate(text))

    return apply


def _mixed_case(text: str, rng: random.Random) -> str:
    return "".join(c.upper() if rng.random() < 0.5 else c for c in text)


@lru_cache(maxsize=256)
def _named(pattern: str, letter: str) -> str:
    """The character called `pattern` of `letter`; the letter itself when Unicode has none."""
    try:
        return unicodedata.lookup(pattern.format(letter.upper()))
    except KeyError:
        return letter


_ENCLOSED = (
    "CIRCLED LATIN SMALL LETTER {}", "CIRCLED LATIN CAPITAL LETTER {}", "NEGATIVE CIRCLED LATIN CAPITAL LETTER {}",
    "SQUARED LATIN CAPITAL LETTER {}", "NEGATIVE SQUARED LATIN CAPITAL LETTER {}", "PARENTHESIZED LATIN SMALL LETTER {}",
    "REGIONAL INDICATOR SYMBOL LETTER {}",
)  # fmt: skip
_STYLES = (
    "BOLD",
    "ITALIC",
    "BOLD ITALIC",
    "SCRIPT",
    "BOLD SCRIPT",
    "FRAKTUR",
    "DOUBLE-STRUCK",
    "SANS-SERIF",
    "SANS-SERIF BOLD",
    "MONOSPACE",
)
_ALPHABETS = (
    *(f"MATHEMATICAL {style} SMALL {{}}" for style in _STYLES),
    "LATIN LETTER SMALL CAPITAL {}",
    "MODIFIER LETTER SMALL {}",
    "FULLWIDTH LATIN SMALL LETTER {}",
)


def _alphabet(names: tuple[str, ...]) -> Callable[[str, random.Random], str]:
    def apply(text: str, rng: random.Random) -> str:
        pattern = rng.choice(names)
        glue = "\u200b" if "REGIONAL" in pattern else ""
        return glue.join(_named(pattern, c) if c.isalpha() else c for c in text)

    return apply


def _between(pieces: tuple[str, ...]) -> Callable[[str, random.Random], str]:
    """One separator between all letters; words stay apart."""

    def apply(text: str, rng: random.Random) -> str:
        glue = rng.choice(pieces)
        wide = "   " if not glue.strip() else " "
        return wide.join(glue.join(word) for word in text.split())

    return apply


def _insert(pieces: tuple[str, ...], most: int) -> Callable[[str, random.Random], str]:
    """One piece, or several of the same, between letters somewhere in the word."""

    def apply(word: str, rng: random.Random) -> str:
        piece = rng.choice(pieces)
        places = set(rng.sample(range(1, len(word)), min(rng.randint(1, most), len(word) - 1)))
        return "".join((piece if i in places else "") + c for i, c in enumerate(word))

    return apply


def _zero_width(text: str, rng: random.Random) -> str:
    return "".join(c + (rng.choice(_INVISIBLE) if rng.random() < 0.6 else "") for c in text[:-1]) + text[-1]


def _combining(c: str, rng: random.Random) -> str:
    return c + "".join(rng.choice(_MARKS) for _ in range(rng.randint(1, 4)))


def _repeats(word: str, rng: random.Random) -> str:
    places = set(rng.sample(range(len(word)), rng.choice((1, 1, 2, len(word)))))
    return "".join(c * rng.randint(3, 6) if i in places else c for i, c in enumerate(word))


def _masked(word: str, rng: random.Random) -> str:
    inner = range(1, len(word) - 1)
    places = set(rng.sample(inner, 2 if len(word) >= 6 and rng.random() < 0.4 else 1))
    mask = rng.choice(_MASKS)
    return "".join(mask if i in places else c for i, c in enumerate(word))


def _glued(text: str, rng: random.Random) -> str:
    word = text.replace(" ", "")
    before, after = rng.choice(_NEIGHBOURS), rng.choice(_NEIGHBOURS)
    shape = rng.choice(("before", "after", "both", "camel", "hashtag", "snake"))
    if shape == "camel":
        return before.capitalize() + word.capitalize() + rng.choice(("", after.capitalize()))
    if shape == "snake":
        return f"{before}_{word}_{after}"
    return {
        "before": before + word,
        "after": word + after,
        "both": before + word + after,
        "hashtag": "#" + before + word,
    }[shape]


def _cut(word: str, rng: random.Random, most: int = 3) -> list[str]:
    """The word in two or three pieces."""
    places = sorted(rng.sample(range(1, len(word)), min(rng.randint(1, most - 1), len(word) - 1)))
    return [word[a:b] for a, b in zip([0, *places], [*places, len(word)], strict=True)]


def _split(text: str, rng: random.Random) -> str:
    return " ".join(" ".join(_cut(w, rng)) if len(w) > 3 else w for w in text.split())


def _lines(text: str, rng: random.Random) -> str:
    return rng.choice(("\n", "\r\n", " \n", "-\n", "\u2028")).join(_cut(text.replace(" ", ""), rng))


def _quotes(text: str, rng: random.Random) -> str:
    """The pieces in quotation marks of their own."""
    pieces = _cut(text.replace(" ", ""), rng)
    glue = rng.choice((" ", " and ", " + ", ", ", " followed by ", " then ", " next to ", " above ", " / "))
    a, b = rng.choice((('"', '"'), ("“", "”"), ("'", "'"), ("«", "»")))
    return glue.join(f"{a}{piece}{b}" for piece in pieces)


def _spelled(text: str, rng: random.Random) -> str:
    letters = list(text.replace(" ", ""))
    if rng.random() < 0.5:
        letters = [c.upper() for c in letters]
    style = rng.randrange(7)
    if style == 0:
        return ", ".join(letters[:-1]) + " and " + letters[-1]
    if style == 1:
        return ", ".join(letters[:-1]) + ", and " + letters[-1]
    return ("-", ", ", " then ", " and ", ". ")[style - 2].join(letters)


def _bidi(text: str, rng: random.Random) -> str:
    a, b = rng.choice((("\u202e", "\u202c"), ("\u2067\u202e", "\u202c\u2069"), ("\u202e", "")))
    return a + text[::-1] + b


def _escaped(text: str, rng: random.Random) -> str:
    shape = rng.choice(("&#{};", "&#x{:x};", "%{:02X}", "\\u{:04x}", "\\x{:02x}"))
    places = set(rng.sample(range(len(text)), rng.randint(1, len(text))))
    return "".join(shape.format(ord(c)) if i in places and c.isalpha() else c for i, c in enumerate(text))


def _digits_around(word: str, rng: random.Random) -> str:
    return rng.choice(("{}123", "xX{}Xx", "{}2024", "007{}", "1{}1", "{}99", "xx{}xx", "__{}__", "{}69", "4{}")).format(
        word
    )


def _emoji(text: str, rng: random.Random) -> str:
    return "".join(_EMOJI[c] if c in _EMOJI and rng.random() < 0.7 else c for c in text)


def _fancy(text: str, rng: random.Random) -> str:
    alphabet = dict(zip("abcdefghijklmnopqrstuvwxyz", rng.choice(_FANCY), strict=True))
    return "".join(alphabet.get(c, c) for c in text)


def _digits_between(word: str, rng: random.Random) -> str:
    digit = rng.randint(1, 9)
    return "".join(c + (str((digit + i) % 10) if i < len(word) - 1 else "") for i, c in enumerate(word))


def _marked_up(word: str, rng: random.Random) -> str:
    a, b = sorted(rng.sample(range(len(word) + 1), 2))
    return word[:a] + rng.choice(_TAGS).format(word[a:b]) + word[b:]


def _pictogram(word: str, rng: random.Random) -> str:
    vowels = [i for i in range(1, len(word) - 1) if word[i] in "aeiou"] or [len(word) // 2]
    place = rng.choice(vowels)
    return word[:place] + rng.choice(_PICTOGRAMS) + word[place + 1 :]


def _one_more(word: str, rng: random.Random) -> str:
    letter = rng.choice("abcdefghijklmnopqrstuvwxyz")
    return letter + word if rng.random() < 0.5 else word + letter


def _hashtag(text: str, rng: random.Random) -> str:
    word, before = text.replace(" ", ""), rng.choice(_BEFORE_GLUED)
    return "#" + before + word + rng.choice(("", "", *_NEIGHBOURS))


def _sounded(word: str, rng: random.Random) -> str:
    """One sound or two in another spelling; the word itself when it has none that is in the table."""
    for usual, written in rng.sample(_SOUNDS, len(_SOUNDS))[: rng.choice((len(_SOUNDS), 8))]:
        if usual in word[1:] or word.startswith(usual):
            return word.replace(usual, written, 1)
    return word


def _chain(text: str, rng: random.Random) -> str:
    """Two disguises, one upon the other."""
    first, second = rng.choice(_PAIRS)
    return second(first(text, rng), rng)


_LEETED = _some(_SAFE_LEET, 0.6)
_LOOKALIKE = _some(_GLYPHS, 0.6)
_SPACED = _between((" ", ".", "-", "*", "_"))
_PAIRS = (
    (_LEETED, _SPACED), (_LOOKALIKE, _SPACED), (_LOOKALIKE, _zero_width), (_words(_repeats), _mixed_case), (_mixed_case, _letters(_combining)),
    (_LEETED, _zero_width), (_some(_ACCENTED, 0.5), _SPACED), (_words(_repeats), _LEETED), (_LOOKALIKE, _LEETED), (_mixed_case, _SPACED),
    (_zero_width, _alphabet(_ENCLOSED[:2])), (_LEETED, _some(_ACCENTED, 0.5)),
)  # fmt: skip

DISGUISES: tuple[Disguise, ...] = (
    Disguise("none", lambda text, _: text),
    Disguise("mixed case", _mixed_case),
    Disguise("leet", _some(_SAFE_LEET, 0.6)),
    Disguise("look-alikes of other scripts", _LOOKALIKE),
    Disguise("other alphabets (full-width, mathematical, small capitals, raised)", _alphabet(_ALPHABETS)),
    Disguise("enclosed letters", _alphabet(_ENCLOSED)),
    Disguise("emoji for letters", _emoji),
    Disguise("invisible characters", _zero_width),
    Disguise("combining marks", _letters(_combining)),
    Disguise("accents", _some(_ACCENTED, 0.5)),
    Disguise("blanks between letters", _between(_BLANKS)),
    Disguise("signs between letters", _between(_BETWEEN)),
    Disguise("a sign inside", _words(_insert(_INSIDE, 2))),
    Disguise("repeats", _words(_repeats)),
    Disguise("masked letters", _words(_masked)),
    Disguise("glued to other words", _glued),
    Disguise("digits around", _words(_digits_around)),
    Disguise("split by blanks", _split),
    Disguise("split across lines", _lines),
    Disguise("split across quotes", _quotes, quoted=True),
    Disguise("spelled out", _spelled),
    Disguise("right-to-left override", _bidi),
    Disguise("upside down", lambda text, _: "".join(_FLIPPED.get(c, c) for c in reversed(text))),
    Disguise("reversed", lambda text, _: text[::-1], least=5),
    Disguise("escapes and entities", _escaped),
    Disguise("two at once", _chain),
    Disguise("alphabets of fancy-text generators", _fancy),
    Disguise("digits between letters", _words(_digits_between)),
    Disguise("mark-up inside", _words(_marked_up)),
    Disguise("a pictogram for a letter", _words(_pictogram)),
    Disguise("one letter more", _one_more, single=True, least=5),
    Disguise("a hashtag of several words", _hashtag, least=5),
    Disguise("spelled by sound", _sounded, single=True),
)
