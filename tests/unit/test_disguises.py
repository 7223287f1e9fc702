"""What hides a comment's letters is undone; what hides nothing stays."""

import pytest

from pmip.disguises import undisguised, unescaped

BOM = "\ufeff"


@pytest.mark.parametrize(
    ("comment", "plain"),
    [
        ("", ""),
        ("Don&amp;#39;t STOP", "Don't STOP"),
        ("ｆｕｌｌ 𝓶𝔂 Cafe\u0301", "full my Cafe"),
        ("СНЕСΚ ΟUТ", "CHECK OUT"),
        ("ᴄʜᴇᴄᴋ 🅲", "CHECK C"),
        ("S.U.B.S now", "SUBS now"),
        ("ch*nnel, 5 * 5", "chnnel, 5 * 5"),
        ("Привет 曲 😍", "Привет 曲 😍"),
    ],
)
def test_letters_become_plain_and_keep_their_case(comment: str, plain: str) -> None:
    """References, look-alikes, accents, spacing and stars are undone; other scripts and the case are left."""
    assert undisguised(comment) == plain


@pytest.mark.parametrize("mark", [BOM, "&#65279;", "&amp;#xfeff;"])
def test_no_byte_order_mark_is_left(mark: str) -> None:
    """A byte order mark, which tells the label in the collected data, is dropped however it is written."""
    assert unescaped(f"good {mark}song{mark}") == undisguised(f"good {mark}song{mark}") == "good song"


def test_some_signs_stand_for_more_than_one_letter() -> None:
    """A ligature is taken apart, a sign for a whole phrase is not: it would let a comment grow eighteenfold."""
    assert undisguised("ﬁne \ufdfa") == "fine \ufdfa"


def test_a_comment_grows_a_little_at_most() -> None:
    """A few ligatures are taken apart; of thousands each stays or becomes one letter, and nothing is lost."""
    assert undisguised("ﬁé, " * 250) == ("fie, " * 250).strip()
    assert undisguised("ﬁé, " * 2000) == ("ﬁe, " * 2000).strip()


def test_what_was_remembered_of_characters_stays_in_bounds() -> None:
    """The table begins anew when it is full, with the same answers."""
    before = undisguised("é𝓶ﬁ曲")
    for start in range(0x3000, 0x30000, 10_000):
        undisguised("".join(map(chr, range(start, start + 10_000))).replace("&", ""))
    assert undisguised(" é𝓶ﬁ曲") == before == "emfi曲"
