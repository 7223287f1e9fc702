"""Damaged copies: the same every time, spread over all comments, never too many, and links stay whole."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pmip.training.augmentation import ROUNDS, disguised, disguised_copies

COMMENTS = ["Check out my channel", "I love this song", "free gifts at www.shop.com/gifts please visit"]


def test_every_comment_is_copied_in_every_round() -> None:
    """Each round holds one copy of each comment, in their order."""
    assert [place for place, _ in disguised_copies(COMMENTS)] == [0, 1, 2] * ROUNDS


def test_the_same_comments_give_the_same_copies() -> None:
    """Nothing but the comments decides what a copy looks like."""
    assert list(disguised_copies(COMMENTS)) == list(disguised_copies(COMMENTS))


def test_a_copy_is_another_text_and_rounds_differ() -> None:
    """A copy is no repetition of the comment, nor are its copies alike."""
    copies = {copy for place, copy in disguised_copies(COMMENTS) if place == 0}
    assert COMMENTS[0] not in copies
    assert len(copies) > ROUNDS / 2


def test_many_comments_get_no_more_copies_than_allowed() -> None:
    """Beyond the limit only a part of the comments is copied, drawn from all of them, each once before any is twice."""
    places = [place for place, _ in disguised_copies([f"comment number {n}" for n in range(1000)], most=100)]
    assert len(places) == len(set(places)) == 100
    assert max(places) > 800
    twice = [place for place, _ in disguised_copies([f"comment number {n}" for n in range(70)], most=100)]
    assert (len(twice), len(set(twice))) == (100, 70)


def test_no_comments_have_no_copies() -> None:
    """Nothing comes of nothing."""
    assert list(disguised_copies([])) == []


@given(st.text(st.characters()), st.integers(0, 20))
def test_any_text_can_be_copied(comment: str, seed: int) -> None:
    """Whatever the comment, there is a copy, about as long at most."""
    assert len(disguised(comment, Random(seed))) <= 2 * len(comment)


def test_links_stay_whole() -> None:
    """A copy's link leads where the comment's does."""
    assert all("www.shop.com/gifts" in copy for place, copy in disguised_copies(COMMENTS) if place == 2)


def test_links_behind_tags_and_signs_stay_whole() -> None:
    """However they stand in the text."""
    comment = 'look<br />www.shop.com/gifts (see>http://a.b/gifts) <a href="http://c.d">mail@gifts.de</a> gifts gifts'
    for seed in range(20):
        copy = disguised(comment, Random(seed))
        for link in ("www.shop.com/gifts", "http://a.b/gifts", '<a href="http://c.d">', "mail@gifts.de</a>"):
            assert link in copy
