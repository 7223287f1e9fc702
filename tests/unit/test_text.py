"""How comments become n-grams and features."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmip import text

BOM = "\ufeff"
FRAGMENTS = ["&amp;", "&#39;", "&#", "&#x", "<a href=", "<br />", ">", "http://", "www.", "youtu.be/", ".com", "@", ":"]
FRAGMENTS += ["0", "1:23", "1,000", " ", "\n", "a b", "aaa", "!!", ":)"]
FRAGMENTS += ["<3", "s-u-b", "а", "é", "\u200b", BOM, "\ud800"]
any_text = st.text(st.characters())  # lone surrogates too, which JSON can carry
comments = any_text | st.lists(st.sampled_from(FRAGMENTS) | any_text, max_size=20).map("".join)


def feature(name: str, comment: str) -> float:
    return text.comment_features(comment)[text.COMMENT_FEATURES.index(name)]


@pytest.mark.parametrize(
    ("comment", "normalised"),
    [
        pytest.param("Check OUT", "check out", id="lower-case"),
        pytest.param("", "", id="empty"),
        pytest.param("don&#39;t &lt;3", "don't <3", id="escaped"),
        pytest.param("don&amp;#39;t", "don't", id="escaped twice"),
        pytest.param("one<br />two", "one two", id="tag"),
        pytest.param('see <a href="http://a.com/b">this</a>', "see this", id="link"),
        pytest.param("best at 2:19 a < b", "best at 2:19 a < b", id="numbers and signs stay"),
        pytest.param("go to shop.com/Free now", "go to shop.com/free now", id="addresses stay"),
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
        pytest.param("50 +h1s !s m3 at 1:23 wow!", "so this is me at 1:23 wow!", id="leet throughout"),
        pytest.param("mail joe55@b4u.com, see x1y2.org/a1b2", "mail joe55@b4u.com, see x1y2.org/a1b2", id="no leet"),
        pytest.param("10k views for $5m at 50", "10k views for $5m at 50", id="amounts"),
        pytest.param("s*bscribe to my ch#nnel * #1", "sbscribe to my chnnel * #1", id="stars"),
        pytest.param("ᎳᎻᎪᎢ ꓪꓧꓮꓔ ɡⅼɑԁ", "what what glad", id="Cherokee, Lisu and other look-alikes"),
        pytest.param("f\u20ddre\u20dde", "free", id="enclosing marks"),
        pytest.param("sooooo!!!!!", "sooooo!!!!!", id="repeats stay"),
    ],
)
def test_a_comment_is_normalised(comment: str, normalised: str) -> None:
    """Each disguise has one normal form, tags are removed, and all other text stays."""
    assert text.normalised(comment) == normalised


@given(comments)
def test_any_text_can_be_scored(comment: str) -> None:
    """Any text, even with lone surrogates, has a normal form in UTF-8, no blank n-gram, and small features."""
    normalised = text.normalised(comment)
    normalised.encode()
    assert normalised == " ".join(normalised.split())
    assert all(ngram.strip() for ngram in text.token_ngrams(comment))
    values = text.comment_features(comment)
    assert len(values) == len(text.COMMENT_FEATURES)
    assert all(isinstance(value, float) and 0 <= value < 3 for value in values)


@pytest.mark.parametrize("reference", ["&#" + "1" * 9000 + ";", "&#x" + "f" * 9000 + ";", "&#xD800;", "&#0;"])
def test_a_reference_to_no_character_is_no_error(reference: str) -> None:
    """A numeric reference to no character, however long, leaves the words around it as they are."""
    assert "sng" in text.token_ngrams(f"song {reference}")


@given(comments, st.integers(min_value=0))
def test_a_byte_order_mark_changes_nothing(comment: str, where: int) -> None:
    """A byte order mark, which reveals the label in the collected data, influences no n-gram and no feature."""
    marked = [comment + BOM, comment[: where % (len(comment) + 1)] + BOM + comment[where % (len(comment) + 1) :]]
    for other in marked:
        assert text.normalised(other) == text.normalised(comment)
        assert text.token_ngrams(other) == text.token_ngrams(comment)
        assert text.comment_features(other) == text.comment_features(comment)


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("Check out my http", ["chck", "ot", "my", "htp", "chck ot", "ot my", "my htp", "chck * my", "ot * htp"]),
        ("stop!! ok?!", ["stp", "!!", "ok", "?!", "stp !!", "!! ok", "ok ?!", "stp * ok", "!! * ?!"]),
        ("don't", ["dn", "'", "t", "dn '", "' t", "dn * t"]),
        ("привет, люблю", ["привет", ",", "люблю", "привет ,", ", люблю", "привет * люблю"]),
        ("😀😀", ["😀", "😀", "😀 😀"]),
        ("12", ["12"]),
        ("", []),
    ],
)
def test_token_ngrams(comment: str, expected: list[str]) -> None:
    """The n-grams are tokens without later vowels, pairs of neighbours, and pairs with one token between them."""
    assert text.token_ngrams(comment) == expected


@pytest.mark.parametrize(
    "written", ["sbscrb t my chnnl", "s*bscribe to my ch*nnel", "suubscribe too my channnel", "subscriibe to my chanel"]
)
def test_misspelt_words_have_the_same_consonants(written: str) -> None:
    """Vowels that are missing, starred or doubled, and wrong single or double letters, change no n-gram."""
    assert text.token_ngrams(written) == text.token_ngrams("subscribe to my channel")


ADDRESSES = ["see http://a.org", "see www.shop", "see shop.com", "see shop . com", "see shop .com/free"]
ADDRESSES += ["see goo.gl/Ab", "see bit.ly", "see shop.de/now", "path /watch?v=1"]
NO_ADDRESSES = ["great.I love it", "I like it. commonly", "one. of them", "good song"]


@pytest.mark.parametrize("comment", ADDRESSES + NO_ADDRESSES)
def test_an_address_is_seen_with_spaces_around_its_dot(comment: str) -> None:
    """A word, a dot and a known ending are an address, even with spaces, but the end of a sentence is none."""
    assert feature("has address", comment) == (comment in ADDRESSES)


def test_the_other_features() -> None:
    """An address of YouTube differs from other addresses, and the length is that of the normal form."""
    assert feature("has youtube address", "https://YouTu.be/xyz") == 1
    assert feature("has youtube address", "https://a.be/xyz") == 0
    assert feature("log length", "ab&amp;") == pytest.approx(math.log(4) / 5)
