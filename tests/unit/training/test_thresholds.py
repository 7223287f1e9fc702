"""What the thresholds of the report catch and block is the same as counted by hand."""

import numpy as np

from pmip.training import thresholds

Y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
PROBABILITY = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.85])


def test_a_threshold_blocks_at_most_the_given_share_of_good_comments() -> None:
    """The threshold is the smallest one that blocks at most the given share of good comments."""
    assert thresholds.threshold(Y, PROBABILITY, 0.01) == 0.6
    assert thresholds.threshold(Y, PROBABILITY, 0.25) == 0.3


def test_a_threshold_is_measured_on_comments_that_did_not_choose_it() -> None:
    """Each half of the comments is classified with the threshold that the other half has chosen."""
    halves = [np.array([0, 1, 4, 5]), np.array([2, 3, 6, 7])]
    assert thresholds.above_threshold(Y, PROBABILITY, halves, 0.0).tolist() == [False] * 2 + [True] * 2 + [
        False,
        True,
        True,
        True,
    ]
    table = thresholds.at_thresholds(Y, PROBABILITY, halves)
    assert table.iloc[0].tolist() == ["1%", "0.600", "75.0%", "50.0%"]


def test_at_each_share_of_spam_the_table_has_what_the_threshold_does() -> None:
    """The table shows the threshold's effect at each share of spam, and has a line for the stated share."""
    table = thresholds.at_shares(Y, PROBABILITY, None)
    assert table.index.tolist() == ["2%", "10%", "50%"]
    assert table.loc["50%"].tolist() == ["75.0%", "25.0%", "75.0%"] * 2
    assert table.loc["10%"].tolist() == ["75.0%", "25.0%", "25.0%", "0.0%", "0.0%", "–"]
    assert table.loc["2%", "this model"]["precision"] == "5.8%"
    assert thresholds.at_shares(Y, PROBABILITY, 0.3).index.tolist() == ["2%", "10%", "30%", "50%"]
