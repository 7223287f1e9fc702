"""Disguises of comments that a person can still read, as senders of spam use them, to test a model.

`pmip.text` and the training take the disguises in `NAMED` into account. Nothing in the package may be written for those
in `UNSEEN`. Links, mail addresses and tags are not changed, because a sender needs them to work.
"""

import html
import re
from collections.abc import Callable, Iterable
from random import Random

_LEFT_ALONE = re.compile(r"(<[^<>]*>|https?://\S+|www\.\S+|/?\S*\w\.(?:com|net|org|be|gl|ly|tk|fm|co)\b\S*|\S+@\S+)")
_WORD = re.compile(r"[^\W\d_]+")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_RUN_OF_WORDS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*(?: [^\W\d_]+(?:['’][^\W\d_]+)*)+")
_VOWELS = "aeiouAEIOU"

Attack = Callable[[str, Random], str]


def attacked(comment: str, name: str, seed: int = 0) -> str:
    """Return the comment in the named disguise; the same seed gives the same result."""
    random, attack = Random(f"{name} {seed} {comment}"), (NAMED | UNSEEN)[name]
    parts = _LEFT_ALONE.split(html.unescape(html.unescape(comment)))
    parts[::2] = [attack(part, random) for part in parts[::2]]
    return "".join(parts)


def _by_letter(tables: Iterable[dict[str, str]], share: float = 1.0) -> Attack:
    """Return an attack that replaces letters by look-alikes; each passage uses one of the tables."""
    tables = list(tables)

    def attack(text: str, random: Random) -> str:
        table = random.choice(tables)
        return "".join(table.get(letter, letter) if random.random() < share else letter for letter in text)

    return attack


def _by_word(change: Callable[[str, Random], str], pattern: re.Pattern[str] = _LONG_WORD) -> Attack:
    return lambda text, random: pattern.sub(lambda word: change(word[0], random), text)


def _table(letters: str, others: str) -> dict[str, str]:
    return dict(zip(letters, others, strict=True))


def _alphabet(capital: int, small: int) -> dict[str, str]:
    """Map A-Z and a-z to the letters that follow these two code points."""
    capitals = {chr(65 + i): chr(capital + i) for i in range(26)}
    return capitals | {chr(97 + i): chr(small + i) for i in range(26)}


def _both_cases(table: dict[str, str]) -> dict[str, str]:
    return table | {letter.upper(): other for letter, other in table.items() if letter.upper() not in table}


_LEET = [
    _both_cases(_table("aeiost", "431057")),
    _both_cases(_table("aeios", "@3!0$")),
    _both_cases(_table("abegilost", "48361105+")),
]
_CYRILLIC = _table("ABCEHIJKMOPSTXYaceijopsxyhdqw", "АВСЕНІЈКМОРЅТХУасеіјорѕхуһԁԛԝ")
_OTHER_LETTERS = [
    _table("ABEZHIKMNOPTYXovpuixynaw", "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρυιχγηαω"),  # Greek
    _table("ABCDEGHIJKLMPRSTVWYZ", "ᎪᏴᏟᎠᎬᏀᎻᏆᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᎩᏃ"),  # Cherokee
    _table("aehgijlnoqruxyz", "ɑеһɡіϳⅼոοԛгυхуᴢ"),  # a mixture
]
_SMALL_CAPITALS = _both_cases(_table("abcdefghijklmnoprstuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"))
_MATHEMATICAL = [_alphabet(0x1D400, 0x1D41A), _alphabet(0x1D468, 0x1D482), _alphabet(0x1D4D0, 0x1D4EA)]
_MATHEMATICAL += [_alphabet(0x1D56C, 0x1D586), _alphabet(0x1D5D4, 0x1D5EE), _alphabet(0x1D670, 0x1D68A)]
_ENCLOSED = [_alphabet(0x24B6, 0x24D0), _alphabet(0x1F130, 0x1F130), _alphabet(0x1F170, 0x1F170)]
_ACCENTED = [
    _table("aceinosuyACEINOSUYgtr", "àçéîñöšüýÀÇÉÎÑÖŠÜÝğţř"),
    {letter: letter + "\u0301" for letter in "aeiounsrclAEIOUNSRCL"},
    {letter: letter + "\u0323\u0308" for letter in "abcdefghijklmnopqrstuvwxyz"},
]
_UPSIDE_DOWN = _both_cases(_table("abcdefghijklmnopqrtuvwy", "ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹʇnʌʍʎ"))
_NEIGHBOURS = _table("qwertyuiopasdfghjklzxcvbnm", "wqrewuyoipsafdhgkjlxzvcnbn")
_SOUNDS = [("ck", "k"), ("ph", "f"), ("ee", "ea"), ("ou", "u"), ("sc", "sk"), ("c", "k"), ("s", "z"), ("y", "i")]


def _zero_width(text: str, random: Random) -> str:
    return _WORD.sub(lambda word: random.choice("\u200b\u200c\u200d\u2060\u00ad").join(word[0]), text)


def _spaced(word: str, random: Random) -> str:
    return random.choice(" .-_*").join(word)


def _glued(text: str, random: Random) -> str:
    def glue(run: re.Match[str]) -> str:
        words, glued = run[0].split(), []
        while words:
            count = random.randint(2, 5)
            glued.append("".join(words[:count]))
            words = words[count:]
        return " ".join(glued)

    return _RUN_OF_WORDS.sub(glue, text)


def _swapped(word: str, random: Random) -> str:
    place = random.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _without_vowels(word: str, random: Random) -> str:
    return word[0] + "".join(letter for letter in word[1:] if letter not in _VOWELS)


def _starred(word: str, random: Random) -> str:
    place = random.randrange(1, len(word) - 1)
    return f"{word[:place]}{random.choice('**#')}{word[place + 1 :]}"


def _changed_case(text: str, random: Random) -> str:
    change: Callable[[str], str] = random.choice([str.upper, str.lower, str.title, _zigzag, str.swapcase])
    return change(text)


def _zigzag(text: str) -> str:
    return "".join(letter.upper() if place % 2 else letter.lower() for place, letter in enumerate(text))


def _doubled(word: str, random: Random) -> str:
    place = random.randrange(len(word))
    return word[:place] + word[place] + word[place:]


def _one_dropped(word: str, random: Random) -> str:
    place = random.randrange(1, len(word))
    return word[:place] + word[place + 1 :]


def _mistyped(word: str, random: Random) -> str:
    place = random.randrange(1, len(word))
    return word[:place] + _NEIGHBOURS.get(word[place].lower(), "e") + word[place + 1 :]


def _cut(word: str, random: Random) -> str:
    place = random.randrange(2, len(word) - 1)
    return f"{word[:place]}{random.choice(['/', '|', ' ', '~', '...'])}{word[place:]}"


def _respelled(word: str, random: Random) -> str:
    letters, sound = random.choice([pair for pair in _SOUNDS if pair[0] in word] or [("a", "ah")])
    return word.replace(letters, sound)


def _in_references(text: str, random: Random) -> str:
    return _WORD.sub(lambda word: "".join(f"&#{ord(letter)};" for letter in word[0]), text)


NAMED: dict[str, Attack] = {
    "leet": _by_letter(_LEET),
    "zero-width": _zero_width,
    "Cyrillic": _by_letter([_CYRILLIC]),
    "Cyrillic, some letters": _by_letter([_CYRILLIC], 0.5),
    "Greek, Cherokee and others": _by_letter(_OTHER_LETTERS),
    "small capitals": _by_letter([_SMALL_CAPITALS]),
    "mathematical": _by_letter(_MATHEMATICAL),
    "enclosed": _by_letter(_ENCLOSED),
    "full-width": _by_letter([_alphabet(0xFF21, 0xFF41)]),
    "diacritics": _by_letter(_ACCENTED),
    "stacked marks": _by_letter([{chr(c): chr(c) + "\u0336\u035b\u0317\u20dd" for c in range(97, 123)}]),
    "spaced": _by_word(_spaced),
    "glued": _glued,
    "swapped letters": _by_word(_swapped),
    "dropped vowels": _by_word(_without_vowels),
    "stars": _by_word(_starred),
    "changed case": _changed_case,
}
UNSEEN: dict[str, Attack] = {
    "a letter doubled": _by_word(_doubled),
    "a letter dropped": _by_word(_one_dropped),
    "a key beside": _by_word(_mistyped),
    "words cut": _by_word(_cut, re.compile(r"[^\W\d_]{5,}")),
    "respelled": _by_word(_respelled),
    "upside down": _by_letter([_UPSIDE_DOWN]),
    "flags": _by_letter([_alphabet(0x1F1E6, 0x1F1E6)]),
    "references": _in_references,
}
