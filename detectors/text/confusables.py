# ruff: noqa: E501  the rows of a table are read and compared as whole lines
"""Tables of foreign letters that look like Latin ones, written for this project.

anyascii transliterates by sound (Cyrillic `р` is r), while a disguise works by sight (`р` is p). These tables are
therefore applied before it. Small letters stand for their capitals where both look alike.
"""

from __future__ import annotations

__all__ = ["EMOJI", "EVERYDAY", "FLIPPED", "LOOKALIKES", "TWINS"]


def _pairs(text: str) -> dict[str, str]:
    """`"xy zw"` as {x: y, z: w}."""
    return {pair[0]: pair[1:] for pair in text.split()}


LOOKALIKES: dict[str, str] = {
    # Cyrillic
    **_pairs(
        "аa вb еe ёe зe иu іi їi јj кk лn мm нh оo рp сc тt уy хx ѕs һh ԁd ԛq ԝw ьb ъb гr пn чy шw щw яr дd фf цu"
    ),
    **_pairs("ӏl ӀI ҳx ғf ҡk қk ѵv ԍg ҽe бb йu эe"),
    # Greek
    **_pairs(
        "αa βb γy δd εe ζz ηn ιi κk λl μu νv οo πn ρp σo τt υu χx ωw ϲc ϳj ϱp ςc ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX"
    ),
    **_pairs("ΣS ΛA ΔA ΘO ΦO ΞE ΠN ΩO"),
    # Armenian
    **_pairs("օo ոn սu հh ցg զq ւi ռn Տs Սu Օo Լl"),
    # Cherokee
    **_pairs("ᎠD ᎡR ᎢT ᎪA ᎫJ ᎬE ᎳW ᎷM ᎻH ᏀG ᏃZ ᏎA ᏏB ᏗA ᏙV ᏚS ᏞL ᏟC ᏢP ᏦK ᏧD ᏴB ᎽY ᎥI ᏒR ᎾO ᎯF ᏳG"),
    # Lisu and other scripts that copy capitals
    **_pairs("ꓐB ꓑP ꓓD ꓔT ꓖG ꓗK ꓙJ ꓚC ꓜZ ꓝF ꓟM ꓠN ꓡL ꓢS ꓣR ꓦV ꓧH ꓪW ꓫX ꓬY ꓮA ꓰE ꓲI ꓳO ꓴU"),
    # Coptic, Canadian syllables, Georgian, and more of the above
    **_pairs(
        "ⲁa ⲃb ⲅr ⲉe ⲏh ⲓi ⲕk ⲙm ⲛn ⲟo ⲣp ⲥc ⲧt ⲩy ⲭx ⲱw ᑲb ᑯd ᒪl ᗅA ᗞD ᗪD ᑭP ᑌU ᐯV ᗯW ᙭X ᖴF ᒍJ ᗰM ᕼH ᗷB ᑕC ᗩA ᖇR ᔕS ᎥI ᏂH"
    ),
    **_pairs(
        "ყy ხb ოm ეo ვz ჰ3 աw քf ѡw ғf үy ұy ҝk ԃd ԉn ԋh ᴦr ƅb ѣb ҍb џu ҷч ӡ3 ᖯb ꓴU ꮪs ꮯc ꮇm ꮋh ꮃw ꮓz ꮖi ꮜu ꮤt ꮮl ꮲp ꭱr ꭰd ꭺa ꭼe"
    ),
    # Latin letters that only look like others, and signs
    **_pairs(
        "ɑa ɡg ɩi ɪi ʟl ɴn ʀr ʏy ʜh ʙb ıi ȷj ƒf ꞓc ʋu ʌa ꭓx ꮯc ƖI ƗI łl đd øo ħh ŧt ∂d ℮e ∅o ⍺a ⍳i ⍴p ¡i ∩n ∪u ×x ǀl ׀l ∣l ⅼl ᛁi ⵏl ⏐l ꓲi ✕x ✗x ✘x ⨯x ꬲe ƽs ꭎu ꭒu ⱱv"
    ),
}

# of these, the ones that nobody can tell apart: a word of them alone may be a disguise, other foreign letters make it
# honest
TWINS = frozenset("аеорсухіїјѕһԁԛԝӏАВЕКМНОРСТУХІЈЅԌονρυικΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳօոսհցքՏՍՕ") | frozenset(
    c for c in LOOKALIKES if "\u13a0" <= c <= "\u13f5" or "\ua4d0" <= c <= "\ua4ff"
)

# letters of everyday Russian, Ukrainian, Bulgarian, Serbian and Greek: none of them is strange in a word of its script
EVERYDAY = frozenset("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґђјљњћџўѓќѝαβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ") | frozenset(
    chr(c) for c in (*range(0x561, 0x588), *range(0x10D0, 0x10FB), *range(0xAB70, 0xABC0), *range(0x13A0, 0x13FE))
)

# signs and emoji that are drawn like a letter
EMOJI: dict[str, str] = {
    **_pairs(
        "🅰a 🅱b 🅾o 🅿p ⓂM ℹi ⭕o ❌x ✖x ❎x ✝t ☦t ✞t 💲s 💰s ©c ®r ♓h ⛎u 📧e Ⓜm ♏m ♍m ⚪o ⚫o 🔴o 🔵o 🟠o 🟡o 🟢o 🟣o 🟤o 🌕o 🌑o"
    ),
    **_pairs("◯o ○o ●o 〇o ⊙o ☉o ◎o ♋69 📈n 🌀o ⚡z 🐍s 🪝j 🦯l 📐a 🔺a △a ▲a ∆a ⋀a ⚓t 🌙c ☽c ☾c ✔v ✅v ⛛v ☓x ⧖x"),
}

# upside-down writing: each letter turned by half a circle
FLIPPED: dict[str, str] = {
    **_pairs("ɐa ɔc ǝe ɟf ƃg ɓg ᵷg ɥh ᴉi ıi ɾj ſj ʞk ʃl ꞁl ɯm ɹr ʇt ʌv ʍw ʎy ∀A ƆC ƎE ℲF ⅁G ſJ ˥L Ԁd ┴T ⊥T ∩U Λv ⅄Y"),
    **_pairs("bq qb dp pd nu un oo ss xx zz ll II HH NN OO SS XX ZZ MW WM 69 96"),
}
