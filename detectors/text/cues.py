# ruff: noqa: E501  the patterns of a table are read and compared as whole lines
"""The phrases by which prompts ask for lettering: data, by language.

`BEFORE` stands before the words that are to be written, `AFTER` behind them, `ASKED` asks without giving any. `STOPS`
ends words that are written without quotes: what follows is scenery again.
"""

from __future__ import annotations

__all__ = ["AFTER", "ASKED", "BEFORE", "CARRIERS", "STOPS", "TAILS"]

BEFORE: dict[str, tuple[str, ...]] = {
    "en": (
        r"(?:that |which |who )?(?:says?|said|saying|reads?|reading|spells?|spelled|spelling|spelt)(?: out)?",
        r"(?:that |which )?(?:states?|stating|declares?|declaring|proclaims?|proclaiming|announces?|announcing)",
        r"(?:labell?ed|captioned|titled|entitled|inscribed|engraved|emblazoned|printed|marked|stamped|lettered|tagged|subtitled)"
        r"(?: with| as)?",
        r"(?:with|and|has|have|having|bearing|bears|showing|shows|displaying|displays|carrying|containing|featuring|of)"
        r" (?:the |a |an )?(?:\w+ )?(?:words?|texts?|phrases?|letters?|lettering|captions?|titles?|slogans?|inscriptions?|messages?"
        r"|headlines?|names?|quotes?|writing|typography)(?: in \w+(?: letters)?)?(?: of| saying| reading| that says| that reads)?",
        r"the (?:exact )?(?:words?|texts?|phrases?|letters?|caption|slogan|inscription|message|headline)",
        r"(?:text|caption|title|words?|lettering|sign|banner|label|slogan|logo|headline) ?[:=]",
        r"(?:writes?|writing|written|wrote|types?|typing) (?:out )?(?:the words?|the text|the phrase)?",
        r"(?:displaying|displays|showing|shows) (?:the )?(?:word|words|text|phrase|message)",
        r"(?:called|named|branded)",
    ),
    "de": (
        r"(?:mit (?:der |dem )?(?:aufschrift|beschriftung|schriftzug|wort|worten|text|spruch|titel))",
        r"(?:auf (?:dem|der|denen) (?:[\w]+ )?steht)",
        r"(?:auf (?:dem|der) (?:[\w]+ )?(?:geschrieben )?steht)",
        r"(?:worauf steht|beschriftet mit|das wort|die worte)",
    ),
    "fr": (
        r"(?:avec (?:l'inscription|l’inscription|le mot|les mots|le texte|la phrase|le titre|écrit))",
        r"(?:qui dit|disant|portant (?:l'inscription|l’inscription|le mot|les mots)|où (?:il est|est) écrit|sur (?:lequel|laquelle) est écrit|le mot|les mots)",
    ),
    "es": (
        r"(?:que (?:dice|pone|reza)|donde (?:dice|pone)|diciendo)",
        r"(?:con (?:la palabra|las palabras|el texto|la inscripción|la frase|el mensaje|el título|el letrero)|la palabra|en (?:el|la) que se lee)",
    ),
    "it": (r"(?:con (?:la scritta|scritto|la parola|le parole|il testo)|che dice|che recita|la parola)",),
    "pt": (r"(?:que diz|com (?:a palavra|as palavras|o texto|a inscrição|a frase|escrito)|a palavra)",),
    "nl": (r"(?:met (?:de tekst|het woord|de woorden|het opschrift)|waarop staat|het woord)",),
    "pl": (r"(?:z (?:napisem|tekstem|słowem|hasłem))",),
    "ru": (r"(?:с (?:надписью|текстом|словом|словами)|(?:на котор(?:ом|ой) )?написано|слово)",),
    "tr": (r"(?:üzerinde)",),
    "zh": (r"(?:写着|写有|上面写|印着|标有|文字(?:是|为)?[:：]?)",),
}

AFTER: tuple[str, ...] = (
    r"(?:is |are |was |were |being )?(?:hand)?(?:written|spelled|spelt|scrawled|scribbled|inscribed|engraved|lettered|typed|stencilled"
    r"|stenciled|printed|embroidered|stitched|spray[- ]?painted|graffitied|tattooed|carved|etched|painted)"
    r"(?: out)?(?: \w+ly)? (?:on|in|across|over|onto|into|above|below|under|by|at)\b",
    r"(?:yazan|yazılı)\b",
    r"と(?:書|い)",
)

CARRIERS = (
    r"(?:sign(?:s|board|post|age)?|banners?|posters?|billboards?|labels?|logos?|placards?|plaques?|graffiti|graffito|stickers?|badges?|flags?"
    r"|t-?shirts?|shirts?|mugs?|caps?|hats?|book(?: cover)?s?|covers?|newspapers?|magazines?|cards?|notes?|letters?|boards?|blackboards?"
    r"|whiteboards?|chalkboards?|screens?|plates?|neon(?: sign)?s?|tattoos?|captions?|titles?|headlines?|slogans?|speech bubbles?|bubbles?"
    r"|tags?|patch(?:es)?|marquees?|scrolls?|tombstones?|gravestones?|cakes?|walls?|storefronts?|shops?|menus?|lettering|text|words?|message)"
)

ASKED = (
    r"\b(?:sign(?:s|board|post|age)?|banners?|posters?|billboards?|placards?|plaques?|lettering|letters|text|typography|calligraphy|captions?"
    r"|graffiti|slogans?|inscriptions?|subtitles?|headlines?|words?|logos?|newspapers?|memes?|speech bubbles?|neon|writing|handwriting"
    r"|handwritten|written|labels?|labell?ed|titled|book covers?|tattoos?|storefronts?|license plates?|number plates?|t-?shirts?"
    r"|schild(?:er)?|aufschrift|schriftzug|panneau|affiche|enseigne|inscription|cartel|letrero|pancarta|cartello|scritta|placa|bord"
    r"|tabela|napis|szyld|вывеска|вывеской|надпись|надписью|табличк\w*)\b"
    r"|看板|标志|招牌|文字|ロゴ|간판"
)

STOPS = (
    r"[,.;:!?\n\"“”«»„]| - | – | — |\("
    r"|\b(?:next to|in front of|on top of|at the|in the style|in (?:a |an )?(?:\w+ )*(?:style|serif|font|letters?|lettering|type|script|capitals)"
    r"|(?:on|above|below|under|beneath|over|beside|near|behind|against|with|and|by|across|inside|around|between|in|at|of|for|while|as)"
    r" (?:a|an|the|one|two|three|its|his|her|their|my|top|big|small|red|green|blue|yellow|purple|orange|pink|gr[ae]y|black|white|brown)\b"
    r"|(?:on|above|below|under|over|beside|near|behind|against) \w+$"
    r"|hanging|standing|written|painted|held by|hung|surrounded|photorealistic|4k|8k)"
)

TAILS = r"(?:,? (?:written |painted |printed )?in (?:a |an )?(?:[\w-]+ ){0,3}?(?:letters?|lettering|serif|font|type|script|capitals|caps))?"
