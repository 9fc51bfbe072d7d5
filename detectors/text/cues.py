# ruff: noqa: E501  the patterns of a table are read and compared as whole lines
"""Tables of the phrases by which prompts ask for lettering, by language.

* `BEFORE` stands before the words that are to be written, `AFTER` behind them.
* `ASKED` asks for lettering without giving any.
* `MAYBE` names things that often carry words, so that brackets beside them may be quotation marks.
* `STOPS` ends words that are written without quotes: what follows describes the scene again.
"""

from __future__ import annotations

__all__ = ["AFTER", "ASKED", "BEFORE", "CARRIERS", "MAYBE", "STOPS", "TAILS", "UNSPACED"]

BEFORE: dict[str, tuple[str, ...]] = {
    "en": (
        r"(?:that |which |who )?(?:says?|said|saying|reads?|reading|spells?|spelled|spelling|spelt)(?: out)?",
        r"(?:that |which )?(?:states?|stating|declares?|declaring|proclaims?|proclaiming|announces?|announcing)",
        r"(?:labell?ed|captioned|titled|entitled|inscribed|engraved|emblazoned|printed|marked|stamped|lettered|tagged|subtitled)"
        r"(?: with| as)?",
        r"(?:with|and|has|have|having|bearing|bears|showing|shows|displaying|displays|carrying|containing|featuring|of)"
        r" (?:the |a |an )?(?:\w+ )?(?:words?|texts?|phrases?|letters?|lettering|captions?|titles?|slogans?|inscriptions?|messages?"
        r"|headlines?|names?|quotes?|writing|typography)(?: in \w+(?: letters)?)?(?: of| saying| reading| that says| that reads)?",
        r"(?:whose|the|its) (?:text|title|caption|headline|inscription|message|lettering|wording|logo|name|label|slogan) (?:is|says|reads)",
        r"typography(?: poster)? of(?: the word)?",
        r"the (?:exact )?(?:words?|texts?|phrases?|letters?|caption|slogan|inscription|message|headline)",
        r"(?:[a-z]+_)*(?:text|caption|title|words?|lettering|sign|banner|label|slogan|logo|headline)(?:_[a-z]+)* ?[:=]",
        r"(?:writes?|writing|written|wrote|types?|typing|chalks|chalked)(?: out)?(?: (?:the words?|the text|the phrase)|(?= (?-i:[A-Z]{2})))",
        r"(?:chapter|entry|answer|guess|solution|clue|username|password|nickname|my name is|heading)(?: is)?(?= (?-i:[A-Z]))",
        r"arranged (?:as|into|to (?:spell|read|say)|in the shape of)(?: the words?)?",
        r"(?:displaying|displays|showing|shows) (?:the )?(?:word|words|text|phrase|message)",
        r"(?:called|named|branded|advertising|tells? (?:you|us|me|him|her|them)|scrawled|scribbled|wrote)",
        r"(?:on|in|over|across) which (?:is|are|stands?|there is|somebody wrote|someone wrote)(?: (?:written|painted|printed|engraved|carved))?",
        r"(?:first|second|third|last|top|bottom|next) (?:line|row|panel|half)(?: (?:says|reads|is))?:?",
        r"(?:spell|say|read|write|state|display|show|print|type)s? (?:out )?(?:the )?(?:following|word|words|text|phrase|letters)?:",
        r"[🪧📝🏷📄📃📜🗒📋💬🗨💭🗯🔖📰🚏🪦✍🖊🖋✏📣] ?[:=]?",
    ),
    "de": (
        r"(?:mit (?:der |dem |den )?(?:aufschrift|beschriftung|schriftzug|inschrift|wort|worten|wörtern|text|spruch|titel|slogan))",
        r"(?:auf (?:dem|der|denen) (?:[\w]+ )?(?:geschrieben )?steht)",
        r"(?:auf dem schild steht|auf (?:dem|der) \w+ steht|(?:das|die|der) (?:sagt|lautet|besagt)|mit der botschaft)",
        r"(?:worauf steht|darauf steht|beschriftet mit|beschrieben mit|das wort|die worte|die aufschrift)",
    ),
    "fr": (
        r"(?:avec (?:l['’]inscription|le mot|les mots|le texte|la phrase|le titre|le slogan|le message|écrit|marqué))",
        r"(?:qui dit|qui indique|disant|indiquant|portant (?:l['’]inscription|le mot|les mots|le texte)|où (?:il est |est )?(?:écrit|marqué|inscrit))",
        r"(?:sur (?:lequel|laquelle) (?:il )?est (?:écrit|inscrit)|le mot|les mots|l['’]inscription|intitulée?|marqué)",
    ),
    "es": (
        r"(?:que (?:dice|pone|reza|diga|ponga)|donde (?:dice|pone|se lee|está escrito|esta escrito)|diciendo|que está escrito)",
        r"(?:con (?:la palabra|las palabras|el texto|la inscripción|la frase|el mensaje|el título|el letrero|el lema))",
        r"(?:la palabra|las palabras|en (?:el|la) que (?:se lee|pone|dice)|titulad[oa])",
    ),
    "it": (
        r"(?:con (?:la scritta|su scritto|sopra scritto|scritto|la parola|le parole|il testo|il messaggio|la frase)|che (?:dice|recita|riporta))",
        r"(?:la parola|le parole|la scritta|su cui (?:è scritto|c['’]è scritto)|dove (?:è|c['’]è) scritto|intitolat[oa])",
    ),
    "pt": (
        r"(?:que (?:diz|diga)|dizendo|com (?:a palavra|as palavras|o texto|a inscrição|a frase|a mensagem|os dizeres|escrito)|a palavra)",
        r"(?:onde (?:está|se) (?:escrito|lê)|em que se lê|intitulad[oa]|escrito)",
    ),
    "nl": (
        r"(?:met (?:de tekst|het woord|de woorden|het opschrift|als tekst|de boodschap)|(?:waarop|daarop|waar) (?:staat|te lezen is)|het woord|dat zegt|de tekst)",
    ),
    "pl": (
        r"(?:z (?:napisem|tekstem|słowem|słowami|hasłem|treścią)|(?:na której|na którym) (?:jest napisane|napisano|pisze|widnieje)|napis|głoszący)",
    ),
    "ru": (
        r"(?:с (?:надписью|текстом|словом|словами|подписью)|(?:(?:на котор(?:ом|ой) |где )?написано)|слово|надпись|гласящ\w+|гласит)",
    ),
    "uk": (r"(?:[зіи]з? (?:написом|текстом|словом|словами)|(?:на як(?:ому|ій) |де )?написано|слово|напис)",),
    "tr": (r"(?:üzerinde|yazısı|diyen)",),
    "nordic": (
        r"(?:med (?:texten|teksten|ordet|orden|ordene|påskriften|skriften|budskapet|budskabet)|(?:där|der|hvor) (?:det )?(?:står|stod)|som (?:säger|siger|sier)|ordet)",
        r"(?:jossa (?:lukee|on teksti)|tekstillä|lukee|sana)",
    ),
    "cs": (
        r"(?:s (?:nápisem|textem|slovem|heslom|heslem)|na (?:které|kterém|ktorej|ktorom) (?:je napsáno|stojí|je napísané)|nápis)",
    ),
    "ro": (
        r"(?:pe care (?:scrie|e scris|este scris)|cu (?:textul|cuvântul|cuvintele|inscripția|mesajul)|care (?:spune|zice))",
    ),
    "hu": (r"(?:amelyre az van írva|amin az áll|amelyen az áll|ezzel a szöveggel|a szöveg:?)",),
    "el": (r"(?:που (?:γράφει|λέει|λέγει|αναγράφει)|με (?:τη λέξη|την επιγραφή|το κείμενο|τις λέξεις)|η λέξη)",),
    "id": (
        r"(?:bertuliskan|bertulisan|dengan (?:tulisan|teks|kata|perkataan)|yang (?:bertuliskan|berbunyi|mengatakan|tertulis)|tertulis)",
    ),
    "vi": (r"(?:có (?:chữ|dòng chữ|ghi)|(?:ghi|viết) (?:chữ|rằng)?|với dòng chữ|đề chữ)",),
    "ar": (
        r"(?:مكتوب(?:ة)? (?:عليها|عليه|فيها|فيه)|كتب (?:عليها|عليه)|عليها (?:كلمة|عبارة)|عليه (?:كلمة|عبارة)|تقول|كلمة|عبارة)",
    ),
    "he": (r"(?:שכתוב (?:עליו|עליה|בו|בה)|שעליו כתוב|שעליה כתוב|עם (?:הכיתוב|המילה|הטקסט)|שאומר(?:ת)?|המילה)",),
    "hi": (r"(?:जिस पर|जिसमें|शब्द)",),
    "hr, sr, bs": (
        r"(?:na (?:kojem|kojemu|kojoj|kome|kom) (?:piše|pise|stoji|je napisano)|sa? (?:natpisom|tekstom|rije[čc]ju|re[čc]ju|porukom)|koj[iae] kaže)",
        r"(?:на (?:којем|којој|коме|ком) (?:пише|стоји)|са натписом|са текстом|кој[иае] каже)",
    ),
    "sl": (r"(?:na kater(?:em|i) (?:piše|je napisano|stoji)|[zs] (?:napisom|besedilom|besedo|sporočilom)|ki pravi)",),
    "sk": (r"(?:so? (?:nápisom|slovom|slovami|textom|heslom)|na ktor(?:om|ej) (?:sa píše|píše))",),
    "bg, mk": (
        r"(?:на ко(?:йто|ято|ето|ј|ја) пишув?а?(?:т)?|на ко(?:йто|ято|ето) пише|(?:с|със|со) (?:надписа?|натпис|текста?|думата|зборот))",
    ),
    "lt": (
        r"(?:su (?:užrašu|uzrasu|žodžiu|žodžiais|tekstu|įrašu)|(?:ant )?kuri(?:ame|oje|o|os) (?:parašyta|rašoma|užrašyta)|sakantis)",
    ),
    "lv": (
        r"(?:ar (?:uzrakstu|vārdu|vārdiem|tekstu|saukli)|uz kur(?:a|as) (?:ir )?(?:rakstīts|uzrakstīts)|kurā rakstīts)",
    ),
    "et": (
        r"(?:mille(?:l|le|s)(?: peal)? (?:on (?:kirjas|kirjutatud|kiri)|seisab)|(?:kirja|sõna|teksti|loosungi)ga|mis ütleb)",
    ),
    "fi": (r"(?:jo(?:ka sanoo|ssa sanotaan|hon on kirjoitettu))",),
    "is": (r"(?:sem (?:stendur á|segir)|þar sem stendur|með (?:textanum|áletruninni|orðinu|orðunum))",),
    "ca": (
        r"(?:que (?:hi )?(?:diu|digui|posa)|on (?:hi )?(?:diu|posa|ha escrit)|amb (?:la paraula|les paraules|el text|la inscripció|el missatge|la frase|el lema))",
    ),
    "gl": (r"(?:que (?:di|pon)|onde (?:di|pon)|co(?:a palabra| texto|a frase|a mensaxe)|coas palabras)",),
    "cy": (r"(?:sy['’]n dweud|yn dweud|gyda['’]r (?:gair|geiriau|testun))",),
    "ga": (r"(?:a deir|leis (?:an bhfocal|na focail|an téacs))",),
    "sq": (r"(?:ku shkruhet|që thotë|me (?:fjalën|fjalët|mbishkrimin|tekstin))",),
    "mt": (r"(?:li tgħid|li jgħid|bil-kelma|bil-kliem)",),
    "tl": (
        r"(?:(?:na )?(?:may )?nakasulat (?:na|ang)|na nagsasabing?|(?:na )?may (?:salitang|katagang|tekstong|nakasulat na))",
    ),
    "ms": (r"(?:yang bertulis|bertulis|dengan perkataan)",),
    "sw": (r"(?:\w+andikwa|\w*enye (?:maandishi|neno|maneno|ujumbe)|(?:in|lin|kin|yan)a\w*sema)",),
    "af": (r"(?:wat (?:sê|lees)|met die (?:woorde?|teks|boodskap)|waarop (?:staan|geskryf staan))",),
    "eo": (r"(?:kiu diras|kun la (?:vorto|vortoj|teksto)|sur kiu (?:estas )?(?:skribite|skribita))",),
    "la": (r"(?:cum verb(?:o|is)|cum titulo|in quo scriptum est)",),
    "fa, ur": (r"(?:(?:که )?روی (?:آن|ان) نوشته(?: شده)?|با نوشته|نوشته شده|جس پر لکھا ہے|لکھا ہوا)",),
    "bn": (r"(?:যাতে লেখা|লেখা আছে)",),
    "zh": (
        r"(?:写着|寫著|写有|寫有|写上|写了|上面写|上面写着|印着|印有|标有|標有|刻着|题为|寫著|文字(?:是|为|為)?[:：]?|内容(?:是|为)|字样)",
    ),
    "th": (r"(?:(?:ที่)?เขียน(?:ว่า|คำว่า)?|(?:มี)?ข้อความ(?:ว่า)?|คำว่า)",),
    "ko": (r"(?:문구|글자|단어)[:：]?",),
}

UNSPACED = ("zh", "th", "ko")  # languages of `BEFORE` that do without blanks

AFTER: tuple[str, ...] = (
    r"(?:is |are |was |were |being )?(?:hand)?(?:written|spelled|spelt|scrawled|scribbled|inscribed|engraved|lettered|typed|stencilled"
    r"|stenciled|printed|embroidered|stitched|sewn|woven|spray[- ]?painted|graffitied|tattooed|carved|etched|painted|chalked|drawn|burned|burnt|iced|piped)"
    r"(?: out)?(?: \w+ly)? (?:on|in|across|over|onto|into|above|below|under|by|at)\b",
    r"(?:yazan|yazılı|yazıyor|yazısı|yazili)\b",
    r"(?:feliratú|felirattal|feliratos|szöveggel)",
    r"と(?:書|い|記|刻)",
    r"(?:लिखा|लिखी)",
    r"(?:이라고|라고|라는|이라는)",
    r"(?:dioen|dion|jartzen duen|esaten duen|idatzita)\b",  # Basque
)

CARRIERS = (
    r"(?:sign(?:s|board|post|age)?|banners?|posters?|billboards?|labels?|logos?|placards?|plaques?|graffiti|graffito|stickers?|badges?|flags?"
    r"|t-?shirts?|shirts?|mugs?|caps?|hats?|book(?: cover)?s?|covers?|newspapers?|magazines?|cards?|notes?|letters?|boards?|blackboards?"
    r"|whiteboards?|chalkboards?|screens?|plates?|neon(?: sign)?s?|tattoos?|captions?|titles?|headlines?|slogans?|speech bubbles?|bubbles?"
    r"|tags?|patch(?:es)?|marquees?|scrolls?|tombstones?|gravestones?|headstones?|cakes?|walls?|storefronts?|shops?|menus?|lettering|text|words?|message"
    r"|post-?its?|stick(?:y|ies)|tweets?|posts?|comments?|tiles?|domino(?:e?s)?|candles?|crosswords?|wordle|scrabble|skywriting|subtitles?|memes?|thumbnails?"
    r"|pillows?|cushions?|totes?|tote bags?|lockers?|lunch ?box(?:es)?|bottles?|thermos(?:es)?|cups?|trophy|trophies|phones?|laptops?|envelopes?|postcards?"
    r"|key ?chains?|bracelets?|necklaces?|lockets?|aprons?|jerseys?|hoodies?|jackets?|sweaters?|sweatshirts?|tank tops?|helmets?|doormats?|mats?|towels?"
    r"|balloons?|cookies?|icing|tickets?|receipts?|certificates?|diplomas?|scoreboards?|name ?plates?|license plates?|number plates?|medals?|stamps?|calendars?"
    r"|notebooks?|spell ?books?|pages?|chapters?|napkins?|coasters?|buttons?|ribbons?|sashes|sash|wristbands?|playing cards?|flyers?|brochures?|pamphlets?)"
)

# what everyday captions say of a thing and its decoration: `a mug with X on it`; an article begins scenery
ON_IT = r"(?:on|across|over) (?:it|them|top|(?:the|its|his|her|their|one|each|every) (?:\w+ )?\w+)|inside"
SCENERY = (
    r"(?:(?:an?|the|one|two|three|four|some|its|his|her|their|my|no|lots?|many|several|that|which|whose|is|are|and|or|of|with|in|on|at|by|for"
    r"|from|to|next|near|above|below|under|over|behind|beside|against|says?|saying|reads?|reading|being|held|hanging|standing)\b|[\"'“”‘’«„])"
)

# a cue with a letter wrong, or without its blanks, is told by these words
BROKEN_NOUNS = (
    "sign",
    "signs",
    "banner",
    "poster",
    "billboard",
    "placard",
    "label",
    "shirt",
    "sticker",
    "board",
    "note",
    "card",
    "mug",
)
BROKEN_VERBS = ("says", "said", "saying", "reads", "reading", "spells", "spelling", "written", "labelled", "titled")

ASKED = (
    r"\b(?:sign(?:s|board|post|age)?|banners?|posters?|billboards?|placards?|plaques?|lettering|letters|text|typography|calligraphy|captions?"
    r"|graffiti|slogans?|inscriptions?|subtitles?|headlines?|words?|logos?|newspapers?|memes?|speech bubbles?|neon|writing|handwriting"
    r"|handwritten|written|labels?|labell?ed|titled|book covers?|tattoos?|storefronts?|license plates?|number plates?|t-?shirts?"
    r"|schild(?:er)?|aufschrift|schriftzug|panneau|affiche|enseigne|inscription|cartel|letrero|pancarta|cartello|scritta|placa|bord"
    r"|tabela|napis\w*|szyld|tablica|koszulk\w*|вывеск\w*|надпис\w*|табличк\w*|плакат\w*|футболк\w*|напис\w*|вивіск\w*"
    r"|skylt\w*|skilt\w*|kyltti\w*|kyltissä|cedul\w*|nápis\w*|tabul\w*|tábla|táblá\w*|felirat\w*|panou\w*|pancarte|plakat\w*|wand"
    r"|pancarta|tişört|papan|spanduk|biển|inschrift|wrote"
    r"|geschrieben|écrit\w*|escrit[oa]|scritt[oa]|tulisan|bertuliskan|γράφει|πινακίδα|ταμπέλα|επιγραφή|spelled|spelling)\b"
    r"|看板|标志|標誌|招牌|牌子|文字|字母|海报|ロゴ|文字|간판|글씨|표지판|ป้าย|ข้อความ|लिखा|बोर्ड|साइन|لافتة|كتابة|مكتوب|שלט|כתוב"
)

MAYBE = (
    rf"\b(?:{CARRIERS}|doormats?|mats?|tickets?|receipts?|balloons?|pillows?|bottles?|jerseys?|hoodies?|jackets?|cookies?|slips?|icing|frames?"
    r"|typography|design|font|fonts|muro|camiseta|maglietta|duvar|wand)\b"
)

STOPS = (
    r"[,.;:!?](?=\s|$|[\u3000-\u9fff])|[。、\n\"“”«»„]| - | – | — | \("
    r"|\b(?:next to|in front of|on top of|at the|in the style|in (?:a |an )?(?:\w+ )*(?:style|serif|font|letters?|lettering|type|script|capitals)"
    r"|(?:on|above|below|under|beneath|over|beside|near|behind|against|with|and|by|across|inside|around|between|in|at|of|for|while|as)"
    r" (?:a|an|the|one|two|three|its|his|her|their|my|top|big|small|red|green|blue|yellow|purple|orange|pink|gr[ae]y|black|white|brown)\b"
    r"|(?:on|above|below|under|over|beside|near|behind|against) \w+$"
    r"|hanging|standing|written|painted|held by|hung|surrounded|photorealistic|4k|8k)"
)

TAILS = r"(?:,? (?:written |painted |printed )?in (?:a |an )?(?:[\w-]+ ){0,3}?(?:letters?|lettering|serif|font|type|script|capitals|caps))?"
