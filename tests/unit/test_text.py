"""How comments become n-grams and features."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmip import text

BOM = "\ufeff"
FRAGMENTS = ["&amp;", "&#39;", "&#", "&#x", "<a href=", "<br />", ">", "http://", "www.", "youtu.be/", ".com", "@", ":"]
FRAGMENTS += [
    "0",
    "1:23",
    "1,000",
    " ",
    "\n",
    "a b",
    "aaa",
    "!!",
    ":)",
    "<3",
    "s-u-b",
    "а",
    "é",
    "\u200b",
    BOM,
    "\ud800",
]
any_text = st.text(st.characters())  # lone surrogates too, which JSON can carry
comments = any_text | st.lists(st.sampled_from(FRAGMENTS) | any_text, max_size=20).map("".join)


def feature(name: str, comment: str) -> float:
    """Return the value of one cheap feature."""
    return text.cheap_features(comment)[text.CHEAP_FEATURES.index(name)]


@pytest.mark.parametrize(
    ("comment", "normalised"),
    [
        pytest.param("Check OUT", "check out", id="lower-case"),
        pytest.param("", "", id="empty"),
        pytest.param("don&#39;t &lt;3", "don't <3", id="escaped"),
        pytest.param("don&amp;#39;t", "don't", id="escaped twice"),
        pytest.param("one<br />two", "one <tag> two", id="tag"),
        pytest.param('see <a href="http://a.com/b">this</a>', "see <link> this <tag>", id="link"),
        pytest.param("best at 2:19 and 1:02:03", "best at <time> and <time>", id="time"),
        pytest.param("mail joe.b@example.org", "mail <mail>", id="mail"),
        pytest.param("https://www.my-shop.com/Free?id=7", "<url> my shop com free id", id="URL"),
        pytest.param("go to shop.com now", "go to <url> shop com now", id="bare domain"),
        pytest.param("ok goo.gl/Ab", "ok <url> goo gl ab", id="short URL"),
        pytest.param("see /watch?v=6_H0m5sAYho", "see <url> watch", id="path of a video"),
        pytest.param("great.I love it", "great.i love it", id="missing space is no domain"),
        pytest.param("1,000,000 views in 2 days", "<number> views in <number> days", id="number"),
        pytest.param("wow\u200b ze\u200dro\u00ad-width" + BOM, "wow zero-width", id="zero-width"),
        pytest.param("Cafe\u0301 ｆｕｌｌ 𝓶𝔂", "cafe full my", id="compatibility forms and accents"),
        pytest.param("ѕubѕсrіbе tо", "subscribe to", id="Cyrillic look-alikes"),
        pytest.param("ΒΕΤΤΕR", "better", id="Greek look-alikes"),
        pytest.param("ꜱᴜʙ 🆂🆄🅱", "sub sub", id="small capitals and letters in squares"),
        pytest.param("Привет", "привет", id="Russian stays Russian"),
        pytest.param("S U B  t o", "s u b t o", id="fewer than four letters are left apart"),
        pytest.param("S U B S  m.o.n.e.y f-r-e-e", "subs money free", id="spaced-out letters"),
        pytest.param("ch4nn3l m0ney c@$h", "channel money cash", id="digits for letters"),
        pytest.param("5ub5cr1b3 4nd w1n fr33", "subscribe and win free", id="digits at the ends of words"),
        pytest.param("$ubscr!b3 now!", "subscribe now!", id="signs for letters"),
        pytest.param(
            "50 +h1s !s m3, 3,000 at 1:23 wow!", "so this is me, <number> at <time> wow!", id="leet throughout"
        ),
        pytest.param(
            "mail joe55@b4u.com, see x1y2.org/a1b2", "mail <mail> , see <url> org", id="leet no part of addresses"
        ),
        pytest.param("10k views for $5m at 50", "<number> k views for $ <number> m at <number>", id="amounts"),
        pytest.param("thanks @joe", "thanks @joe", id="a name that is called"),
        pytest.param("s*bscribe to my ch#nnel * #1", "sbscribe to my chnnel * # <number>", id="stars"),
        pytest.param("ᎳᎻᎪᎢ ꓪꓧꓮꓔ ɡⅼɑԁ", "what what glad", id="Cherokee, Lisu and other look-alikes"),
        pytest.param("f\u20ddre\u20dde", "free", id="enclosing marks"),
        pytest.param("sooooo!!!!!", "soo!!", id="repeats"),
    ],
)
def test_a_comment_is_normalised(comment: str, normalised: str) -> None:
    """Each disguise and each passage that is never the same twice has one normal form."""
    assert text.normalise(comment) == normalised


@given(comments)
def test_normalise_takes_any_text(comment: str) -> None:
    """Whatever the text, even lone surrogates, the normal form is a string that UTF-8 can hold, in single spaces."""
    normalised = text.normalise(comment)
    normalised.encode()
    assert normalised == " ".join(normalised.split())


@pytest.mark.parametrize("reference", ["&#" + "1" * 9000 + ";", "&#x" + "f" * 9000 + ";", "&#xD800;", "&#0;"])
def test_a_reference_to_no_character_is_no_error(reference: str) -> None:
    """A numeric reference beyond Unicode is dropped or replaced, however long it is."""
    assert "song" in text.word_ngrams(f"song {reference}")


@given(comments, st.integers(min_value=0))
def test_a_byte_order_mark_changes_nothing(comment: str, where: int) -> None:
    """A byte order mark, which tells the label in the collected data, influences no n-gram and no feature."""
    marked = [comment + BOM, comment[: where % (len(comment) + 1)] + BOM + comment[where % (len(comment) + 1) :]]
    for other in marked:
        assert text.normalise(other) == text.normalise(comment)
        assert text.word_ngrams(other) == text.word_ngrams(comment)
        assert text.consonant_ngrams(other) == text.consonant_ngrams(comment)
        assert text.cheap_features(other) == text.cheap_features(comment)


def test_an_escaped_byte_order_mark_changes_nothing() -> None:
    """A byte order mark written as an HTML reference is none either."""
    assert text.cheap_features("good song&#65279;") == text.cheap_features("good song &amp;#xfeff;")
    assert text.normalise("good song&#65279;") == "good song"


@pytest.mark.parametrize(
    ("normalised", "expected"),
    [
        ("don't stop!! ok?!", ["don't", "stop", "!!", "ok", "?!"]),
        ("<url> shop com #1", ["<url>", "shop", "com", "#", "1"]),
        ("nice :) :d ^_^ <3 :'(", ["nice", ":)", ":d", "^_^", "<3", ":'("]),
        ("song:oppa", ["song", ":", "oppa"]),
        ("привет, 강남 😀😀", ["привет", ",", "강남", "😀", "😀"]),
        ("", []),
    ],
)
def test_tokens(normalised: str, expected: list[str]) -> None:
    """Tokens are words of any script, runs of ! and ?, emoticons and single symbols."""
    assert text.tokens(normalised) == expected


def test_word_ngrams() -> None:
    """The n-grams of a comment are its tokens, then its neighbouring pairs."""
    expected = ["check", "out", "<number>", "vids", "check out", "out <number>", "<number> vids"]
    assert text.word_ngrams("Check out 3 vids") == expected


def test_consonant_ngrams() -> None:
    """They are the tokens without later vowels, the pairs of neighbours, and the pairs with one token between."""
    expected = ["chck", "ot", "my", "<url>", "chck ot", "ot my", "my <url>", "chck * my", "ot * <url>"]
    assert text.consonant_ngrams("Check out my http://1.2") == expected


@pytest.mark.parametrize(
    "written", ["sbscrb t my chnnl", "s*bscribe to my ch*nnel", "subscirbe to my chanel", "suubscribe to my channnel"]
)
def test_misspelt_words_have_the_same_consonants(written: str) -> None:
    """Vowels that were dropped, starred or doubled, and letters that should be double, change no n-gram."""
    assert text.consonant_ngrams(written) == text.consonant_ngrams("subscribe to my channel")


@given(comments)
def test_word_ngrams_are_never_empty(comment: str) -> None:
    """No n-gram is empty or blank, and n tokens make n - 1 pairs."""
    ngrams = text.word_ngrams(comment)
    assert all(ngram.strip() for ngram in ngrams)
    assert len(ngrams) == max(0, 2 * len(text.tokens(text.normalise(comment))) - 1)


@given(comments)
def test_cheap_features_are_finite_and_small(comment: str) -> None:
    """Every comment has one small, non-negative value for each named feature."""
    values = text.cheap_features(comment)
    assert len(values) == len(text.CHEAP_FEATURES) == len(set(text.CHEAP_FEATURES)) == 18
    assert all(isinstance(value, float) and 0 <= value < 20 for value in values)


@pytest.mark.parametrize(
    ("name", "comment"),
    [
        ("has url", "see http://a.org"),
        ("has url", "see shop.com"),
        ("has youtube url", "https://YouTu.be/xyz"),
        ("has time", "best at 2:19"),
        ("has mail", "joe@example.org"),
        ("log length", "hello"),
        ("log words", "hello you"),
        ("share of capitals", "HEllo"),
        ("share of digits", "top 10"),
        ("share of punctuation", "hey, you"),
        ("share of non-ascii", "привет"),
        ("exclamation marks", "hey!"),
        ("question marks", "hey?"),
        ("share of unique words", "hey"),
        ("has price", "only $20"),
        ("has price", "20€"),
        ("has repeats", "sooo"),
        ("has long number", "call 0687119"),
        ("has long number", "1,000,000"),
        ("has hash", "#song"),
        ("has line break", "one<br />two"),
    ],
)
def test_each_cheap_feature_has_something_that_raises_it(name: str, comment: str) -> None:
    """A feature is above nought when the comment has what its name says."""
    assert feature(name, comment) > 0


def test_a_plain_comment_has_no_sign() -> None:
    """A plain comment leaves every feature at nought but its length, words and their variety."""
    names = {"log length", "log words", "share of unique words"}
    features = dict(zip(text.CHEAP_FEATURES, text.cheap_features("good song"), strict=True))
    assert {name for name, value in features.items() if value} == names


def test_shares() -> None:
    """Shares are of the characters, or of the words, of the comment without its disguise."""
    assert feature("share of capitals", "ABcd&amp;") == pytest.approx(2 / 5)
    assert feature("share of digits", "a 12 ch4t") == pytest.approx(2 / 9)
    assert feature("share of punctuation", "ab&#33;?") == pytest.approx(1 / 2)
    assert feature("share of non-ascii", "abcé😀") == pytest.approx(1 / 5)
    assert feature("share of unique words", "so So so good") == pytest.approx(1 / 2)


UNITS = [
    "a",
    "<",
    "&amp;",
    "&#",
    "&aacut",
    "s p a c e ",
    "a b ",
    "1",
    "1:",
    "1:22",
    "1,",
    "a1",
    "@",
    "a@b.",
    "a" * 64 + "@",
]
UNITS += [
    "http://",
    "www.",
    ".",
    "a.",
    "a-",
    "a.com ",
    "/watch?",
    "<a ",
    "<a b",
    "aA!1. ",
    "'",
    " ",
    "а",
    "é",
    "😀",
    "\ufdfa",
]
UNITS += ["\u0301\u0323", "\u200b", "\ud800", "a-" * 32 + ".", "$", "\n", ":'-"]
UNITS += ["a!", "a$", "a!1", "a*", "a#b*", "1.", "1,1.", "Ꭺ", "\u20dd", "s.p.a.", "a 1", "!a1!", "$1", "@a", "abcdefgh"]


PREPARATIONS = (text.normalise, text.word_ngrams, text.consonant_ngrams, text.cheap_features)


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_hostile_comments_take_no_time(unit: str) -> None:
    """10,000 characters of anything are through in 20 ms of the processor, whatever pattern they try to tie up."""
    for end in ("é", "@", "a"):
        comment = (unit * 10_000)[:9_998] + end
        for number, prepare in enumerate(PREPARATIONS):
            assert any(seconds(prepare, f"{comment}{number + attempt}") < 0.02 for attempt in (0, 5))


def test_a_comment_of_ten_thousand_different_characters_takes_no_time() -> None:
    """Characters never seen before cost little too."""
    assert seconds(text.word_ngrams, "".join(map(chr, range(0x3000, 0x3000 + 10_000)))) < 0.2


def seconds(prepare: Callable[[str], object], comment: str) -> float:
    """Return the processor time that a comment takes; one that was asked for before is remembered and takes none."""
    begin = time.process_time()
    prepare(comment)
    return time.process_time() - begin


@settings(max_examples=30)
@given(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.integers(min_value=3, max_value=50))
def test_the_number_of_repeats_does_not_matter(letter: str, times: int) -> None:
    """Three repeats or fifty of a letter are the same word."""
    assert text.normalise(f"x{letter * times}!") == text.normalise(f"x{letter * 3}!")


def test_text_needs_the_standard_library_only() -> None:
    """Importing the module loads neither numpy nor scikit-learn, which a serving worker does without."""
    code = (
        "import sys, pmip.text; sys.exit(any(name in sys.modules for name in ('numpy', 'sklearn', 'scipy', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
