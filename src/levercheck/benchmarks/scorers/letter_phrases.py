"""Phrases that make an option's label the answer, deny it or leave it open: English, part of the ruler of `letters`.

Repetition over free text is bounded or possessive, so that no response takes more than linear time.
"""

from __future__ import annotations

import re
import unicodedata


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _any(words: str) -> str:
    return "(?:" + "|".join(word.replace("_", r"\s+") for word in words.split()) + ")"


def _compiled(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_MARKS = str.maketrans(
    {**dict.fromkeys("‘’´ʼ′", "'"), **dict.fromkeys("“”„«»″", '"'), "−": "-", "–": " - ", "—": " - "}
)
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?i)\\f?boxed\s?\{|<(?:final[_ ])?answer>\s*", "\nanswer: ("),
        (r"<([A-Z0-9])>", r"(\1)"),
        (r"</?[A-Za-z|][^<>\n]{0,30}>", " "),
        (r"\\(?:text|math|mbox)\w{0,6}\s?\{", "("),
        (r"\\[()\[\]]|\\(?=\W)", " "),
        (r"\$(?!\d)|(?<=\w)\$", ""),
        (r"(?<![\w*_`\"'])(\*{1,3}|_{1,3}|`{1,3}|\"|')\s?(\w{1,3})\s?\1(?![\w*])", r"(\2)"),
        (r"~~[^~\n]{1,200}~~", " "),
        (r"[*`]++", ""),
        (
            r"(?mi)^a:(?=[ \t]*(?:[(\[]?[^\W\d_][)\].]*[ \t]*$|the (?:correct |best |right )?(?:answer|option)\b))",
            "answer:",
        ),
        (r"(?m)^[ \t>#]++(?:[-•·▪◦‣+][ \t]++)?|^[-•·▪◦‣+][ \t]++", ""),
    )
)
_BRACES = str.maketrans({"{": "(", "}": ")", "_": " "})


def plain(text: str) -> str:
    """`text` folded by NFKC, without markdown, LaTeX and tags; a label in quotes or emphasis stands in brackets."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).translate(_MARKS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return "\n".join(line.strip() for line in text.translate(_BRACES).splitlines()).strip()


_ADVERBS = _any(
    "clearly definitely certainly probably possibly likely very indeed also thus therefore then obviously actually "
    "simply just still really completely entirely totally always quite far more most directly logically factually"
)
_IS = _any(
    "is are was were would_be must_be should_be has_to_be can_be could_be may_be might_be will_be be being been "
    "seems?_to_be seems? appears?_to_be appears? looks? sounds? remains?"
)
_THIS = r"(?:(?:this|that|it|which|these|they)(?:\s+(?:option|answer|choice|one|statement))?\s+)"
_NEXT = r"^[\s).:,(\]-]{0,5}"  # after a label and its text
_MARKED = r"^[ \t)\]]{0,3}[:(,.?-][\s(-]{0,3}"
_RIGHT = _any(
    "correct right answer best better true accurate appropriate suitable choice logical plausible likely likeliest pick"
)
_WRONG = _any(
    "incorrect wrong false inaccurate untrue invalid irrelevant unrelated implausible impossible unlikely unsupported "
    "misleading inconsistent nonsense eliminated excluded discarded rejected ruled_out out"
)
_UP_TO_CONNECTIVE = r"^(?:(?!\b(?:because|since|but|so|while|whereas|although)\b)[^.!?;\n]){0,120}?\b"
_ON = r"[\s:,\"(]"
_FILLERS = _any(
    "the clearly definitely certainly probably likely most therefore thus indeed obviously actually simply just then "
    "option choice answer letter number correct right best final it it's that that's is be must should would going to "
    "with for go say i i'd i'll i'm we either both as follows"
)
_FILLED = rf"(?:{_ON}|\b{_FILLERS}(?=[\s:,(\"]|$))*+"
_LINK = (
    rf"(?:\s+{_any('is was are be being remains must_be should_be would_be has_to_be will_be')}(?=[\s:,(\"]|$)"
    r"|'s(?=\s)|[\s\")\]]{0,2}(?::|=>?|->|→|⇒|-(?=\s)))"
)
_STATED = (
    rf"\b{_any('answer choice option solution selection pick guess prediction ans')}\b"
    rf"(?!\s+[(\[]?\w[)\]]?\s*[:=-])[^.!?\n:=,]{{0,60}}?{_LINK}",
    rf"\bcorrect(?:\s+(?:one|letter|statement|response))?{_LINK}",
    rf"\b(?:best|correct|right|likeliest|most\s+\w{{2,15}})\s+(?:[\w']{{2,20}}\s+){{0,4}}?[\w']{{2,20}}{_LINK}",
)
_PRONOUN = r"(?:^|[.!?,;]\s*|\bthat\s+)(?:it|that)(?:'s|\s+(?:is|must\s+be|would\s+be))(?=\s|$)"
_SAID = (
    r"\b(?:i|we|im|id|ill)(?:'\w{1,2})?\s+(?:[\w']{2,12}\s+){0,3}?"
    + _any(
        "choose chose chosen select selected pick picked choosing going_(?:with|for) go_(?:with|for) went_(?:with|for) "
        "opt_for opted_for vote_for settle_on say guess answer lean(?:ing)?(?:_towards?)? think believe conclude "
        "assume bet bet_on"
    )
    + r"(?=[\s:,(]|$)",
    r"(?:^|\bshould\s+|\blet's\s+|[.!?;]\s+)(?:choose|select|pick|go(?:ing)?\s+with)(?=[\s:,(]|$)",
    r"\b(?:probably|definitely|certainly|clearly|obviously|surely|most\s+likely|must\s+be|has\s+to\s+be|gotta\s+be)"
    r"(?=[\s:,(]|$)",
    _PRONOUN,
)
_CONCLUDED = (
    r"(?:^|[.!?;,]\s*|\band\s+)"
    + _any(
        "so thus therefore hence in_conclusion finally ultimately actually no wait sorry correction final i_mean "
        "i_meant make_that or_rather on_second_thought"
    )
    + r"(?=[\s:,(-]|$)[\s-]{0,3}",
)

STATED = _compiled(*(rf"{pattern}{_FILLED}$" for pattern in _STATED))
"""What stands before the label in "the answer is C"."""
SAID = _compiled(*(rf"{pattern}{_FILLED}$" for pattern in (*_SAID, *_CONCLUDED)))
"""What stands before the label in "I choose C" or "so C"."""
PRONOUN = _compiled(rf"{_PRONOUN}{_FILLED}$")
"""The weakest of these, "it is C"."""
OPENS_TEXT = _compiled(*(rf"{pattern}{_ON}*+" for pattern in (*_STATED, *_SAID, *_CONCLUDED)))
"""What an option's text may follow in place of its label."""
FILLED = _compiled(_FILLED)
"""Words that may stand between such a phrase and its object."""
HEADING = _compiled(r"^[^\W\d_][^:.!?\n]{1,30}:\s*$")
"""A short heading, before a label that ends its line."""
DENIED_BEFORE = _compiled(
    r"(?:\b(?:not|never|neither|nor|cannot|without|except|unlike|rather\s+than|instead\s+of|other\s+than|none\s+of"
    r"|(?:all|everything|anything|any)\s+but|eliminat\w{1,4}|exclud\w{1,4}|discard\w{0,3}|reject\w{0,3}|rul(?:e|es|ed|ing)\s+out)\b|n't\b)"
    r"(?:\s+"
    + _any(
        "be been have think believe that's that it's it is the an? correct right best answer options? choices? choose "
        "pick select say go with for either just both likely necessarily of"
    )
    + r"\b)*+[\s(\"]*$",
    r"\b(?:incorrect|wrong|false)\b(?:\s+(?:answers?|options?|choices?|ones?))?(?:\s+(?:is|are|was)\b|\s*[:=])"
    r"[\s(\"]*$",
)
"""What stands before the label in "not A"."""
DENIED_AFTER = _compiled(
    rf"{_NEXT}{_THIS}?{_IS}\s+(?:(?:{_ADVERBS}|the|an?)\s+)*+(?:{_WRONG}|not|less|too|no)\b",
    rf"{_NEXT}{_THIS}?(?:\w{{2,6}}n't|cannot|fails?|contradicts?|makes?\s+no|has\s+nothing)\b",
    rf"{_NEXT}{_THIS}?(?:does|do|did|has|have|had|can|could|will|would|should|may|might|must)\s+(?:\w{{2,12}}\s+)?not\b",
    rf"{_MARKED}(?:{_ADVERBS}\s+)*+(?:not\s+(?:the\s+)?(?:correct|right|true|supported|mentioned)|incorrect|wrong|false)\b",
    rf"{_UP_TO_CONNECTIVE}(?:is|are)\s+(?:{_ADVERBS}\s+)*+(?:not\s+(?:the\s+)?(?:correct|right|answer)|incorrect|wrong)\b",
    rf"{_MARKED}no[\s.,;]*$",
    r"^[\s).:-]{0,4}[❌✗✘✖]",
)
"""What stands after the label in "A is wrong"."""
AFFIRMED_AFTER = _compiled(
    rf"{_NEXT}{_THIS}?{_IS}\s+(?:(?:{_ADVERBS}|the|my|our|only|one|final|in\s+fact)\s+)*{_RIGHT}\b",
    rf"{_UP_TO_CONNECTIVE}is\s+(?:{_ADVERBS}\s+)*+(?:the\s+)?(?:correct|right)\b",
    rf"{_NEXT}(?:makes\s+(?:the\s+)?(?:more|most)\s+sense|(?:fits|matches)\b|best\s+\w{{3,12}}s\b|it\s+is\b)",
    rf"{_MARKED}(?:{_ADVERBS}\s+)*+(?:correct|right|true)\b(?!\s+(?:me|now|away|if|to)\b)",
    rf"{_MARKED}yes[\s.,;]*$",
    r"^[\s).:-]{0,4}[✓✔✅☑]",
)
"""What stands after the label in "A is correct"."""
CONTRASTED = _compiled(rf"^[\s,;]*(?:but|rather|instead){_FILLED}$")
"""What stands between a denied label and the one that replaces it."""
ASKED = _compiled(r"^[^.!\n]{0,100}\?")
"""What stands after the label in "is it A?"."""
SUPPOSED = _compiled(
    r"\b(?:if|whether|suppose|assum(?:e|ing)|although|though|while|whereas|initially|originally|at\s+first)\b(?!\s+i\s+had)"
    r"[^.!?,\n]{0,40}$"
)
"""What stands before the label in "if it is A" or "although A"."""
HEDGED = _compiled(r"\b(?:might|could|may)\b[^.!?,\n]{0,20}$")
"""What stands before the label in "it might be A"."""
REVISED = _compiled(
    r"\b"
    + _any(
        "actually wait correction sorry oops apolog\\w{1,6} scratch_that i_mean i_meant make_that or_rather "
        "on_second_thought reconsider\\w{0,5} re-?evaluat\\w{1,4} revis\\w{1,4} chang\\w{1,3}_my"
    )
    + r"\b",
    r"\bno[,.]",
    r"\b"
    + _any("final finally therefore thus hence in_conclusion to_conclude ultimately so_the_answer so_my so_the_correct")
    + r"\b[^.!?]*$",
)
"""Words after which a new answer replaces an earlier one: a correction, or a conclusion in the same sentence."""
CUT = _compiled(
    r"[.;!?](?=\s|$)",
    r",?\s+(?:because|since|due\s+to|given|based\s+on)\b",
    r",\s+(?:as|which|so|it|they|this|that|not|option|choice|answer)\b",
    r":?\s+-\s(?!\s*(?:no|not|wait|actually)\b)",
    r"\s\(",
    rf"\s+(?:is|are|was|would\s+be)\s+(?:(?:{_ADVERBS}|the|my)\s+)*+(?:correct|right|best|answer)\b",
)
"""Where the text of an option may end within a sentence."""
CONNECTIVE = _compiled(
    r"\s*(?:[/&+]|,?\s*\b(?:and/or|and|or|nor|as\s+well\s+as|versus|vs\.?)(?=\s)|,)\s*"
    r"(?:(?:also|maybe|possibly|either|both|the)\s+)?"
)
"""What joins labels of one group."""
FOLLOWERS_OF_A = _words(
    "is are was were isn't would should could may has have does doesn't did seems looks sounds appears because since "
    "as due and or but nor then if when while though although which who that with for from in on at by to than "
    "instead it makes fits matches i"
)
"""Words that may follow a bare "A"; others make it an article."""
FOLLOWERS = FOLLOWERS_OF_A | _words(
    "can might must will based not so here there also only too again obviously clearly definitely probably maybe "
    "please over rather being option choice answer best most likely imo"
)
"""Words that may follow another bare label; others make a name of it ("B cells")."""
LEADERS = _words(
    "is are was were be been it it's its that that's this say says said think thought guess pick choose chose select "
    "selected go with for to than option choice answer letter and or but so then hence thus therefore maybe perhaps "
    "both either neither nor not only still just also as in on at of by the if because since between like my final "
    "yes yeah no nope hmm um uh well ok okay sure here now definitely actually wait lean leaning towards toward from "
    "over versus vs am i'm i'd i'll would i we correct gotta voting all "
    "supports indicates suggests states means leaves leaving"
)
"""Words that may stand before a bare label, beside adverbs in -ly: a noun there makes a name of both ("vitamin C")."""
PLAIN_WORDS = FOLLOWERS - _words("and or but not nor than") | _words(
    "i it its it's that that's this these they be been would think believe guess say probably likely most definitely "
    "certainly answer option choice correct right maybe perhaps well yes ok s d m ll re my final"
)
"""Words beside which a lone option's text is a short statement of it."""
OPPOSED_WORDS = _words(
    "not no nor never neither none or except without unlike than if whether but wrong incorrect false unlikely t "
    "cannot might could may both and"
)
"""Words that keep a sentence with an option's text from stating it."""
