"""The gate: what it lets through, what it says, and what a run keeps for the next one's comparison."""

import numpy as np
import pytest

from pmip.errors import GateError
from pmip.training.evaluation import MOST_REMEMBERED, Check, flipped, hash_of, recall, remember, require


def test_figures_at_their_limits_pass() -> None:
    """So does a figure that could not be measured."""
    checks = [
        Check("accuracy", 0.9, 0.9, "MIN_ACCURACY"),
        Check("drop", 0.02, 0.02, "MAX_DROP", at_least=False),
        Check("drop", None, 0.02, "MAX_DROP", at_least=False),
    ]
    require(checks)
    assert [check.outcome for check in checks] == ["passed", "passed", "not measured"]
    assert Check("accuracy", 0.8, 0.9, "MIN_ACCURACY").outcome == "FAILED"


def test_all_failures_are_told_together() -> None:
    """Each names the figure, its value, its limit and the parameter that holds it."""
    checks = [
        Check("accuracy", 0.8999, 0.9, "MIN_ACCURACY"),
        Check("MCC", 0.95, 0.9, "MIN_MCC"),
        Check("share of flips", 0.2, 0.1, "MAX_FLIPPED", at_least=False),
    ]
    with pytest.raises(GateError) as failure:
        require(checks)
    assert str(failure.value).endswith(
        "accuracy is 0.8999, at least 0.9 is asked for (MIN_ACCURACY); "
        "share of flips is 0.2000, at most 0.1 is asked for (MAX_FLIPPED)"
    )


def test_what_is_remembered_is_found_by_the_text() -> None:
    """Comments that the earlier run did not hold out are unknown, and no text is kept."""
    kept = remember(["one\ud800", "two"], [0.25, 0.123456789])
    assert kept == {hash_of("one\ud800"): 0.25, hash_of("two"): 0.123457}
    found = recall(["two", "three", "one\ud800"], kept)
    assert np.array_equal(found, [0.123457, np.nan, 0.25], equal_nan=True)


def test_what_is_remembered_is_bounded() -> None:
    """Of many, those of the smallest hashes are kept: two runs keep the same ones."""
    texts = [f"comment {number}" for number in range(3 * MOST_REMEMBERED)]
    kept = remember(texts, np.zeros(len(texts)))
    assert len(kept) == MOST_REMEMBERED
    assert max(kept) < min({hash_of(text) for text in texts} - kept.keys())


def test_a_flip_is_another_class() -> None:
    """The threshold is that of the API: 0.5 is not spam."""
    assert flipped(np.array([0.5, 0.51, 0.9]), np.array([0.4, 0.5, 0.6])).tolist() == [False, True, False]
