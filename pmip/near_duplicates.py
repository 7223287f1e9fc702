"""Training side: which comments are nearly the same text, and what follows from that alone.

Sides and samples follow from hashes of the text, so they stay as they are from run to run while comments are added,
but for the few groups that a new comment joins. `pmip.text` has no part in this: an edit of it must not move comments
from one side to the other.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Hashes = NDArray[np.uint64]

ALIKE = 0.7  # shared words among all words of two comments
BANDS, ROWS = 8, 3  # of MinHash: two comments of which 0.7 is shared are missed in 3 of 100 cases
SPACE = 2.0**64
_WORD = re.compile(r"[^\W\d_]+")
_NO_LABEL = str.maketrans("", "", "\ufeff")  # the byte order mark tells the label in one known collection


def groups(comments: Iterable[str]) -> Hashes:
    """Return for each comment the group of near-duplicates that it belongs to, named by a hash of their text."""
    words = [_words(comment) for comment in comments]
    prints = np.array([_fingerprint(found) for found in words], dtype=np.uint64)
    pairs = np.array([*_same(prints), *_alike(words)], dtype=np.int64).reshape(-1, 2)
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(words), len(words)))
    _, members = connected_components(links, directed=False)
    smallest = np.full(len(words), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, members, prints)
    return _mixed(smallest[members], 1)  # mixed, as the smallest of many prints is a small one


def held_out(groups: Hashes, share: float) -> NDArray[np.bool_]:
    """Tell which comments are held out: near-duplicates together, and the same in every run."""
    return groups < share * SPACE


def sample(groups: Hashes, at_most: int) -> NDArray[np.bool_]:
    """Choose whole groups by hash, together no more comments than allowed; all of them when these are few."""
    _, places, counts = np.unique(_mixed(groups, 2), return_inverse=True, return_counts=True)
    chosen: NDArray[np.bool_] = (np.cumsum(counts) <= at_most)[places]
    return chosen


def _words(comment: str) -> list[str]:
    comment = comment.translate(_NO_LABEL).casefold()
    return sorted(set(_WORD.findall(comment))) or [comment.strip()]


def _fingerprint(words: list[str]) -> int:
    return int.from_bytes(blake2b(" ".join(words).encode(errors="replace"), digest_size=8).digest())


def _same(signatures: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield neighbours among equal signatures, as pairs of their places."""
    order = np.argsort(signatures, kind="stable")
    equal = signatures[order][1:] == signatures[order][:-1]
    yield from zip(order[1:][equal].tolist(), order[:-1][equal].tolist(), strict=True)


def _alike(words: Sequence[list[str]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of comments that share most of their words: candidates by MinHash, each looked at."""
    numbers = {word: _fingerprint([word]) for word in set(chain.from_iterable(words))}
    hashes = np.array([numbers[word] for found in words for word in found], dtype=np.uint64)
    starts = np.cumsum([0, *map(len, words)])[:-1]
    for band in range(BANDS):
        signature = np.zeros(len(words), dtype=np.uint64)
        for row in range(ROWS):
            signature = _mixed(signature ^ np.minimum.reduceat(_mixed(hashes, 3 + band * ROWS + row), starts), 1)
        yield from (pair for pair in _same(signature) if _share(words[pair[0]], words[pair[1]]) >= ALIKE)


def _share(one: list[str], other: list[str]) -> float:
    common = len(set(one).intersection(other))
    return common / (len(one) + len(other) - common)


def _mixed(hashes: Hashes, salt: int) -> Hashes:
    """Scatter hashes anew, differently for each salt: the last steps of SplitMix64."""
    mixed = hashes + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
