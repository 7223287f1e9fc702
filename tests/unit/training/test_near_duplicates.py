"""Near-duplicates: what belongs together, and what follows from the text alone."""

import random
import time

import numpy as np
import pytest
from conftest import SAMPLE

from pmip.training.comments import read_comments
from pmip.training.data import local_files
from pmip.training.evaluation import groups, held_out, sample


def together(one: str, other: str) -> bool:
    """Tell whether two comments are in one group, among others."""
    found = groups([one, "something else", "", other, "12:34"])
    return bool(found[0] == found[3])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Check out my channel!!!", "check out MY channel :)"),
        ("I love this song", "i love\ufeff song, this"),
        ("please subscribe to my new channel for daily free gifts", "subscribe to my new channel for daily free gifts"),
        ("😍😍", " 😍😍 "),
    ],
)
def test_nearly_the_same_words_are_one_group(one: str, other: str) -> None:
    """Case, punctuation, order, the byte order mark and a word more or less do not matter."""
    assert together(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("nice song", "nice video"), ("😍", "😂"), ("1", "2"), ("check out my channel", "check out the drummer")],
)
def test_other_words_are_another_group(one: str, other: str) -> None:
    """Two comments that share half of their words have nothing to do with each other."""
    assert not together(one, other)


def test_likeness_goes_on_from_one_to_the_next() -> None:
    """The first and the last of a chain of near-duplicates are kept together."""
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    chain = [" ".join(words[start : start + 8]) for start in range(3)]
    assert len(set(groups(chain).tolist())) == 1
    assert not together(chain[0], "c d e f x y z w")


def test_groups_depend_on_the_text_alone() -> None:
    """Another order of the comments, or other comments beside them, change no name and no side."""
    comments = [f"comment about {name} and nothing else here" for name in ("drums", "strings", "brass")]
    comments += ["first", "second", "third"]
    found = dict(zip(comments, groups(comments).tolist(), strict=True))
    shuffled = ["new", *reversed(comments), "other"]
    again = dict(zip(shuffled, groups(shuffled).tolist(), strict=True))
    assert {comment: again[comment] for comment in comments} == found
    assert found["first"] == 7710211399074899735


def test_the_held_out_share_is_about_what_was_asked() -> None:
    """Also where groups are large: their names are not small numbers."""
    comments = [f"{a} {b}" for a in range(40) for b in "abcdefghijklmnopqrst"] + [f"x{a}" for a in range(40)]
    many = groups([f"word{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(5000)])
    assert held_out(many, 0.3).mean() == pytest.approx(0.3, abs=0.03)
    assert not held_out(many, 0.0).any()
    assert held_out(groups(comments), 1.0).all()


def test_a_sample_is_of_whole_groups_and_grows_by_adding() -> None:
    """No more than asked, no group is cut, and the larger sample holds the smaller one."""
    comments = read_comments(local_files(SAMPLE))["CONTENT"]
    found = groups(comments)
    small, large = sample(found, 100), sample(found, 300)
    assert 90 <= small.sum() <= 100
    assert not set(found[small]) & set(found[~small])
    assert (large | ~small).all()
    assert sample(found, len(comments)).all()


def test_the_time_grows_with_the_number_of_comments() -> None:
    """Eight times the comments take about eight times as long, also when many are alike."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghij", k=5)) for _ in range(3000)]
    comments = [" ".join(generator.choices(words, k=12)) for _ in range(12_000)] + ["the very same words"] * 4_000
    seconds = []
    for part in (comments[-2_000:], comments):
        started = time.process_time()
        groups(part)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 25 * seconds[0]
    assert len(np.unique(groups(comments))) > 11_000
