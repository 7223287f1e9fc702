"""Restores the letters of a disguised comment: HTML references, look-alikes, accents, invisible characters, spaces."""

import html
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import filterfalse

# As in `pmip.text`, the time of each pattern must be proportional to the length of any text. A quick check decides
# whether a substitution is needed.

BYTE_ORDER_MARK = "\ufeff"
# html.unescape raises ValueError on a number of thousands of digits; no real character needs more than seven.
_ENDLESS_REFERENCE = re.compile(r"&#[0-9]{8,};?")

_ALIKE = str.maketrans(
    "АВЕКМНОРСТУХІЈЅавекмнорстухіјѕһԁԛԝьпΑΒΕΖΗΙΚΜΝΟΡΤΥΧαεηικνορτυχγωօսհո",
    "ABEKMHOPCTYXIJSabekmhopctyxijshdqwbnABEZHIKMNOPTYXaenikvoptuxywouhn",
) | str.maketrans(
    "ГгԌԍⅼΡρҮүӀӏԜѵѴΒβƖɑɡɩʋʏԀԚᎪᏴᏟᎠᎬᎰᏀᎻᏆᎫᏦᏞᎷᏁᏢᎡᏚᎢᏙᎳᎩᏃꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜꓮⲟⲣⲥ",
    "rrGglPpYyIlWvVBbIagivyDQABCDEFGHIJKLMNPRSTVWYZBCDEFGHIJKLMNOPRSTUVWXYZAopc",
)
# A few characters decompose to a whole phrase, which would make a comment up to 18 times longer.
_LONGEST_DECOMPOSITION = 4
# Real comments do not have thousands of ligatures and fractions; decomposing them would triple a comment's time.
_MOST_GROWTH = 1000
_MOST_REMEMBERED = 2**14  # characters, about 3 MB: more than the longest comment has
_LATIN_NAME = re.compile(r"(?:NEGATIVE (?:CIRCLED|SQUARED) )?LATIN .*\b([A-Z])(?: WITH .*)?")
_WORD = re.compile(r"\w+")
_SPACED_WORD = re.compile(r"(?<!\w)[^\W\d_]([ ._*-])[^\W\d_](?:\1[^\W\d_]){2,}(?!\w)")
_LEET_SIGN = re.compile("[0-9@$]")
# A word of letters, and of digits and signs that replace letters; not a part of an address, a time or a larger number.
_WRITTEN = re.compile(r"(?<![\w@$!+/.,:=?&%-])(?:[a-zA-Z0-9@$+]|!(?=[a-zA-Z0-9@$+]))++(?![\w/=&%-]|\.\w|[:,][0-9])")
_LETTERS = str.maketrans("01345789@$!+6", "oieastbgasitg")
# Words, numbers, amounts such as $5 or 10k, names after @, and words followed by a number.
_NOT_LEET = re.compile(
    r"(?:[a-zA-Z+!]*|[^a-zA-Z]*|\$?[0-9]+[a-zA-Z]{1,2}|[0-9][a-zA-Z]+|@[a-zA-Z]*|[a-zA-Z]+[0-9]{3,})$"
)
_WORD_OR_LARGE_NUMBER = re.compile(r"(?:[a-zA-Z]*|\$[0-9]+|.*[0-9]{4}.*)$")
_LEET_THROUGHOUT = 2
_STAR = re.compile(r"(?<=[^\W\d_])[*#](?=[^\W\d_])")


@lru_cache(maxsize=4)  # each comment is processed several times in a row
def undisguised(comment: str) -> str:
    """Return the comment with plain letters instead of look-alikes, in its original case, without byte order marks."""
    text = unescaped(comment)
    if not text.isascii():
        text = _latinise(text)
    if _LEET_SIGN.search(text):
        text = _without_leet(text)
    text = _SPACED_WORD.sub(lambda word: word[0].replace(word[1], ""), text)
    return _STAR.sub("", text) if "*" in text or "#" in text else text


def unescaped(comment: str) -> str:
    """Return the comment without HTML references and byte order marks.

    Some comments were escaped twice. In the public data set the byte order mark reveals the label, so no feature may
    depend on it.
    """
    comment = comment.replace(BYTE_ORDER_MARK, "")
    for _ in range(2):
        if "&" in comment:
            before = comment
            comment = html.unescape(_ENDLESS_REFERENCE.sub(" ", comment)).replace(BYTE_ORDER_MARK, "")
            if comment == before:
                break
    return comment.strip()


def _latinise(text: str) -> str:
    plain = text.translate(_PLAIN)
    if len(plain) > len(text) + _MOST_GROWTH:
        plain = text.translate(_ONE_BY_ONE)
    return plain if plain.isascii() else _WORD.sub(_fold_look_alikes, plain)


def _plain_character(character: str) -> str:
    if unicodedata.category(character) in {"Cf", "Cs", "Me"} or "\ufe00" <= character <= "\ufe0f":
        return ""
    decomposed = unicodedata.normalize("NFKD", character)
    if len(decomposed) > _LONGEST_DECOMPOSITION:
        return character
    if decomposed == character and (name := unicodedata.name(character, "")).startswith(("LATIN ", "NEGATIVE ")):
        letter = _LATIN_NAME.fullmatch(name)
        return letter[1] if letter else character
    return "".join(filterfalse(unicodedata.combining, decomposed))


def _one_character(character: str) -> str:
    plain = _plain_character(character)
    return plain if len(plain) <= 1 else character


class _Characters(dict[int, str]):
    """A table for `str.translate` that caches characters up to a limit; this is much faster than a call for each."""

    def __init__(self, plain: Callable[[str], str]) -> None:
        super().__init__()
        self._plain = plain

    def __missing__(self, code: int) -> str:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        return self.setdefault(code, self._plain(chr(code)) if code > 127 else chr(code))


_PLAIN, _ONE_BY_ONE = _Characters(_plain_character), _Characters(_one_character)


def _fold_look_alikes(word: re.Match[str]) -> str:
    folded = word[0].translate(_ALIKE)
    return folded if folded.isascii() else word[0]


def _without_leet(text: str) -> str:
    """Replace digits in words by letters; if several words have such digits, replace short numbers too."""
    leet = [word for word in _WRITTEN.findall(text) if not _NOT_LEET.match(word)]
    if not leet:
        return text
    kept = _NOT_LEET if len(leet) < _LEET_THROUGHOUT else _WORD_OR_LARGE_NUMBER
    return _WRITTEN.sub(lambda word: word[0] if kept.match(word[0]) else word[0].translate(_LETTERS), text)
