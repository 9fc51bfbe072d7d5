# ruff: noqa: E501  the rows of a table are read and compared as whole lines
"""Foreign letters that look like Latin ones: tables of our own, and Unicode's (UTS 39).

anyascii transliterates by sound (Cyrillic `р` is r), while a disguise works by sight (`р` is p). These tables are
therefore applied before it, our own first: Unicode's is about letters that nobody can tell apart, while people also
write with letters that only resemble others. Small letters stand for their capitals where both look alike.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

__all__ = ["EMOJI", "EVERYDAY", "FLIPPED", "LOOKALIKES", "SECOND", "TWINS", "load_confusables"]

_UNICODE = Path(__file__).parent.parent / "data" / "confusables.txt"


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

# whole alphabets, a to z, as generators of fancy text write them
_ALPHABETS = (
    "αв¢∂єfgнιנкℓмησρqяѕтυνωχуz",
    "卂乃匚ᗪ乇千Ꮆ卄丨フҜㄥ爪几ㄖ卩Ɋ尺丂ㄒㄩᐯ山乂ㄚ乙",
    "ム乃cd乇キgんノフズレカ刀oアq尺丂イu√wメリ乙",
    "ᗩᗷᑕᗪᗴᖴGᕼIᒎKᒪᗰᑎOᑭᑫᖇᔕTᑌᐯᗯ᙭Yᘔ",
    "ᗩᗷᑢᕲᘿᖴᘜᕼᓰᒚKᒪᘻᘉᓍᕵᕴᖇSᖶᑘᐺᘺ᙭ᖻᗱ",
    "ᎪᏏᏟᎠᎬfᎶhᎥjᏦᏞmᏁᎾᏢqᏒsᏆuᏙᎳxᎽᏃ",
    "ᏗᏰፈᎴᏋᎦᎶᏂᎥᏠᏦᏝᎷᏁᎧᎮᎤᏒᏕᏖᏬᏉᏇጀᎩፚ",
    "ǟɮƈɖɛʄɢɦɨʝӄʟʍռօքզʀֆȶʊʋաӼʏʐ",
    "ąცƈɖɛʄɠɧıʝƙƖɱŋơ℘զཞʂɬų۷ῳҳყʑ",
    "ค๒ƈɗﻉिﻭɦٱﻝᛕɭ๓กѻρ۹ɼรՇપ۷ຟซץչ",
    "ค๒ς๔єŦﻮђเןкɭ๓ภ๏קợгรtยשฬאץz",
    "ค๖¢໓ēfງhiวkl๓ຖ໐pqrŞtนงຟxฯຊ",
    "ԹՅՇԺeԲԳɧɿʝƙʅʍՌԾρφՐՏԵՄעաՃՎՀ",
    "ձъƈժεբցհﻨյĸlოռօթզгรէսνա×ყշ",
    "მჩეძპfგhἶქκlოῆõρგΓჰནυὗwჯყɀ",
    "αႦƈԃҽϝɠԋιʝƙʅɱɳσρϙɾʂƚυʋɯxყȥ",
    "ąɓƈđε∱ɠɧïʆҡℓɱŋσþҩŗşŧų√щхγẕ",
    "ልጌርዕቿቻኗዘጎጋጕረጠክዐየዒዪነፕሁሀሠሸሃጊ",
    "ꍏꌃꉓꀸꍟꎇꁅꃅꀤꀭꀘ꒒ꂵꈤꂦꉣꆰꋪꌗ꓄ꀎꃴꅏꊼꌩꁴ",
    "ꋫꃃꏸꁕꍟꄘꁍꑛꂑꀭꀗ꒒ꁒꁹꆂꉣꁸ꒓ꌚ꓅ꐇꏝꅐꇓꐟꁴ",
    "ꋬꃳꉔ꒯ꏂꊰꍌꁝ꒐꒻ꀘ꒒ꂵꋊꄲꉣꆰꋪꇙ꓄꒤꒦ꅐꉧꌦꁴ",
    "ꁲꃳꏳꀷꑀꊯꁅꁝ꒐꒑ꈵ꒒ꂵꃔꊿꉣꋠꌅꈜꋖꌈ꒦ꅐꉤꐔꑒ",
    "ΛBᄃDΣFGΉIJKᄂMПӨPQЯƧƬЦVЩXYZ",
    "ДБCDΞFGHIJҜLMИФPǪЯSΓЦVЩЖУZ",
    "ДБҪDЄFGHЇJКLЍИФРQЯSГЦVШЖЧZ",
    "ƛƁƇƊЄƑƓӇƖʆƘԼMƝƠƤƢƦƧƬƲƔƜӾƳȤ",
    "₳฿₵ĐɆ₣₲ⱧłJ₭Ⱡ₥₦Ø₱QⱤ₴₮ɄV₩ӾɎⱫ",
    "ÄßÇÐÈ£GHÌJKLMñÖþQR§†ÚVW×¥Z",
    "ααςđεϝǥħΐϳκŁmηØρφŘŜŤυνωχψž",
    "ⲁⲃⲥⲇⲉfⳋⲏⲓⳗⲕlⲙⲛⲟⲣqꞅⲋⲧυⳳⲱⲭⲩⲍ",
    "ꪖ᥇ᥴᦔꫀᠻgꫝ꠸jᛕꪶꪑꪀꪮρꪇ᥅ᦓꪻꪊꪜ᭙᥊ꪗɀ",
    "Ⱥƀȼđɇfǥħɨɉꝁłmnøᵽꝗɍsŧᵾvwxɏƶ",
    "คც८ძ૯Բ૭ҺɿʆқՆɱՈ૦ƿҩՐς੮υ౮ω૪עℨ",
    "ᗅᗸᑖᗫEᖵᏀᎻᎥᒍᛕᒺᗰᘂᗝᑶQᖆᎦ丅ᑗᐻᘿ᙭ᎩᏃ",
    "ᴀʙᴄᴅᴇғɢʜɪᴊᴋʟᴍɴᴏᴘǫʀꜱᴛᴜᴠᴡxʏᴢ",
)
# letters of further generators, and signs
_MORE = _pairs(
    "૨r ໐o ഠo ღm ŋn ηn դn մu ժd ɗd խn ʂs ʑz ɧh ɥu խu ཞr ནt らS れh せt サt ヨE ヲF ロO 口O ワp コJ 工I 下T 干T 十t 廾H 艹H 囗O 田B 日B 目B 且A 人A 入A 从M 川M 州m 凡n 儿R 几N"
    " 弓3 己Z 已E 巳E 夕9 ヽl 亅J 亾A 凵U 匸C 匕t 厂r 长K 片F 月A 门n 冂n 才t 了J 丁T 个T 丫Y 父X 凶X 又X 米X 木T 王E 玉E 彐E 彡E 巨E 已e 石5 言S 吕B 品B 呂B 回O 曰O 由O"
    " ȽL ¤o §s †t ‡t ¶p √v ∑E ∏n ∞oo ⊂c ∈E ∉E ∋E ∆A ∇v ∫s ∬s ∮s ≠t ⌐r ⌠f ℓl ℘p ℜR ℑI ΓT ГT ЯR ИN ЙN ДA ЬB ЪB ЭE ШW ЩW ЦU ЧY ЖX ФO ЗE Яr ЮO ЛN ПN"
)

# letters that other alphabets use for another letter: a second way to read them
SECOND: dict[str, str] = _pairs("иn пp нn гT чh зe ΓR ГR £e ωo лl ыi ヨe ηh мm ƖL ฬu ɥh ƿw þb ÞB Թp մn")


def _read_alphabets() -> None:
    """Adds the alphabets to the tables: the first reading of a letter to `LOOKALIKES`, another one to `SECOND`."""
    readings = [
        (c, letter) for alphabet in _ALPHABETS for c, letter in zip(alphabet, "abcdefghijklmnopqrstuvwxyz", strict=True)
    ]
    for drawn, letter in (*_MORE.items(), *readings):
        c = unicodedata.normalize("NFKC", drawn)
        if len(c) == 1 and not c.isascii() and LOOKALIKES.setdefault(c, letter).lower() != letter.lower():
            SECOND.setdefault(c, letter)


_read_alphabets()


@cache
def load_confusables() -> tuple[str, dict[str, str]]:
    """The version of Unicode's table, and the ASCII letter or digit that each of its characters is mistaken for."""
    version, table = "", dict[str, str]()
    for line in _UNICODE.read_text("utf-8").splitlines():
        if line.startswith("# version: "):
            version = line.removeprefix("# version: ")
        elif line and not line.startswith("#"):
            table |= dict.fromkeys(line[2:], line[0])
    return version, table


# of these, the ones that nobody can tell apart: a word of them alone may be a disguise, other foreign letters make it
# honest
TWINS = frozenset("аеорсухіїјѕһԁԛԝӏАВЕКМНОРСТУХІЈЅԌονρυικΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳօոսհցքՏՍՕ")

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
