"""The figures: right where they can be counted by hand, and honest about what was left out."""

import math

import numpy as np
import pytest

from pmip.errors import TrainingDataError
from pmip.training.evaluation import (
    calibration_error,
    grouped_folds,
    require_both_classes,
    resamples,
    scores,
    source_folds,
    spam_caught,
    summarise,
)

TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1])
GUESS = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])


def test_figures_are_those_counted_by_hand() -> None:
    """One good comment is accused, and one spam is missed."""
    found = scores(TRUTH, GUESS)
    assert found["accuracy"] == found["f1"] == 0.75
    assert found["mcc"] == 0.5
    assert found["roc_auc"] == 15 / 16
    assert found["log_loss"] == pytest.approx(-np.log(np.where(TRUTH, GUESS, 1 - GUESS)).mean())
    assert found["average_precision"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)


def test_where_there_is_one_class_only_some_figures_say_something() -> None:
    """The others are NaN, without a warning."""
    found = scores(np.zeros(3, int), np.array([0.1, 0.2, 0.6]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert math.isnan(found["mcc"])
    assert math.isnan(found["roc_auc"])


def test_spam_is_caught_at_a_threshold_that_blocks_hardly_a_good_comment() -> None:
    """One good comment of a hundred may be blocked, a second one may not."""
    truth = np.repeat([0, 1], [100, 4])
    ham = np.linspace(0, 0.4, 98)
    assert spam_caught(truth, np.concatenate([ham, [0.6, 0.9], [0.5, 0.7, 0.8, 0.95]])) == 0.75
    assert spam_caught(truth[98:], np.array([0.6, 0.9, 0.5, 0.7, 0.8, 0.95])) == 0.25


def test_calibration_error_is_the_distance_of_saying_and_being() -> None:
    """Of those called 0.8 half are spam, of those called 0 none; 1.0 has its place too."""
    assert calibration_error(np.array([1, 0, 0, 0]), np.array([0.8, 0.8, 0.0, 0.0])) == pytest.approx(0.15)
    assert calibration_error(np.array([1, 1]), np.array([1.0, 1.0])) == 0.0


def test_a_summary_holds_figures_over_all_rows_and_their_spread_over_parts() -> None:
    """Rounded, with None in place of what is unknown, as JSON needs it."""
    found = summarise(TRUTH, GUESS, [np.arange(0, 4), np.arange(4, 8)])
    assert (found["comments"], found["accuracy"], found["spread"]["accuracy"]) == (8, 0.75, 0.0)
    assert found["spread"]["mcc"] is None
    assert summarise(TRUTH, GUESS, [np.arange(0, 5), np.arange(3, 8)])["spread"]["accuracy"] == 0.0
    assert summarise(TRUTH, GUESS, [np.arange(0, 3), np.arange(3, 8)])["spread"]["accuracy"] == 0.2


def test_resamples_keep_groups_whole_and_repeat_by_seed() -> None:
    """Each draw takes as many groups as there are, near-duplicates together."""
    groups = np.array([5, 5, 7, 9, 9, 9])
    draws = [part.tolist() for part in resamples(groups, 20, seed=0)]
    assert draws == [part.tolist() for part in resamples(groups, 20, seed=0)]
    assert draws != [part.tolist() for part in resamples(groups, 20, seed=1)]
    for part in draws:
        counts = np.bincount(part, minlength=6)
        assert counts[0] == counts[1]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[2] + counts[3] == 3


def test_folds_keep_near_duplicates_together_and_classes_in_balance() -> None:
    """Each row is left out once, never with its near-duplicate among the comments to learn from."""
    groups = np.repeat(np.arange(60), 2)
    labels = np.repeat(np.arange(60) % 3 == 0, 2).astype(int)
    folds = grouped_folds(labels, groups, 10, seed=0)
    assert len(folds) == 10
    assert sorted(np.concatenate([left_out for _, left_out in folds])) == list(range(120))
    for rest, left_out in folds:
        assert not set(groups[rest]) & set(groups[left_out])
        assert labels[left_out].mean() == pytest.approx(1 / 3)


def test_few_texts_make_fewer_folds_and_too_few_an_error() -> None:
    """The error says how many different comments there are of each class."""
    labels = np.array([0] * 9 + [1] * 3)
    assert len(grouped_folds(labels, np.arange(12), 10, seed=0)) == 3
    with pytest.raises(TrainingDataError, match="CLASS 0 there are 9 different comments to learn from, of CLASS 1 1"):
        grouped_folds(labels, np.array([*range(9), 9, 9, 9]), 10, seed=0)


def test_sources_are_left_out_one_after_the_other() -> None:
    """A source that holds the only spam cannot be, and a single source leaves nothing to learn from."""
    labels = np.array([0, 1, 0, 1, 0, 0])
    sources = ["a", "a", "b", "b", "c", "c"]
    left_out = {tuple(left_out.tolist()) for _, left_out in source_folds(labels, sources)}
    assert left_out == {(0, 1), (2, 3), (4, 5)}
    only_spam_in_a = source_folds(np.array([0, 1, 0, 0]), ["a", "a", "b", "b"])
    assert [left_out.tolist() for _, left_out in only_spam_in_a] == [[2, 3]]
    assert source_folds(labels, ["a"] * 6) == []
    assert len(source_folds(np.array([0, 1] * 30), [str(row // 2) for row in range(60)])) == 10


@pytest.mark.parametrize(("held_out", "what"), [([], "are none"), ([1, 1], "are all of CLASS 1")])
def test_a_held_out_part_without_both_classes_is_refused(held_out: list[int], what: str) -> None:
    """The error says what is there and what would help."""
    with pytest.raises(TrainingDataError, match=f"{what}; more comments, or a larger HELD_OUT_SHARE"):
        require_both_classes(held_out)
    require_both_classes([0, 1])
