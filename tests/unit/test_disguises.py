"""Disguised letters in comments become plain ones, and all other text stays as it is."""

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
    """References, look-alikes, accents, spacing and stars become plain letters; case and other scripts stay."""
    assert undisguised(comment) == plain


@pytest.mark.parametrize("mark", [BOM, "&#65279;", "&amp;#xfeff;"])
def test_no_byte_order_mark_is_left(mark: str) -> None:
    """A byte order mark, which reveals the label in the collected data, is removed in every notation."""
    assert unescaped(f"good {mark}song{mark}") == undisguised(f"good {mark}song{mark}") == "good song"


def test_some_signs_stand_for_more_than_one_letter() -> None:
    """A ligature becomes its letters, but a sign for a phrase stays, because it would lengthen a comment 18 times."""
    assert undisguised("ﬁne \ufdfa") == "fine \ufdfa"


def test_a_comment_grows_a_little_at_most() -> None:
    """A few ligatures become several letters each; when there are thousands, no letter becomes more than one."""
    assert undisguised("ﬁé, " * 250) == ("fie, " * 250).strip()
    assert undisguised("ﬁé, " * 2000) == ("ﬁe, " * 2000).strip()


def test_what_was_remembered_of_characters_stays_in_bounds() -> None:
    """The table of known characters starts again when it is full, and gives the same answers."""
    before = undisguised("é𝓶ﬁ曲")
    for start in range(0x3000, 0x30000, 10_000):
        undisguised("".join(map(chr, range(start, start + 10_000))).replace("&", ""))
    assert undisguised(" é𝓶ﬁ曲") == before == "emfi曲"
