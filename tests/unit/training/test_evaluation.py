"""The evaluation keeps near-duplicates together, and its metrics are those that a person counts by hand."""

import math
import random
import time

import numpy as np
import pandas as pd
import pytest
from conftest import SAMPLE
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from pmip.errors import TrainingDataError
from pmip.training import evaluation
from pmip.training.comments import read_comments
from pmip.training.data import local_files
from pmip.training.evaluation import groups

TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1])
GUESS = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])


def together(one: str, other: str) -> bool:
    found = groups([one, "something else", "", other, "12:34"])
    return bool(found[0] == found[3])


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Check out my channel!!!", "check out MY channel :)", True),
        ("I love this song", "i love\ufeff song, this", True),
        ("please subscribe to my new channel for daily gifts", "subscribe to my new channel for daily gifts", True),
        ("😍😍", " 😍😍 ", True),
        ("nice song", "nice video", False),
        ("😍", "😂", False),
        ("1", "2", False),
        ("check out my channel", "check out the drummer", False),
    ],
)
def test_nearly_the_same_words_are_one_group(one: str, other: str, alike: bool) -> None:
    """Comments that differ only in case, punctuation or one word of many are one group; other comments are not."""
    assert together(one, other) == alike


def test_likeness_goes_on_from_one_to_the_next() -> None:
    """All comments of a chain of near-duplicates are in one group, also the first and the last."""
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    chain = [" ".join(words[start : start + 8]) for start in range(3)]
    assert len(set(groups(chain).tolist())) == 1
    assert not together(chain[0], "c d e f x y z w")


def test_groups_depend_on_the_text_alone() -> None:
    """A comment keeps its group when the comments are in another order or other comments are added."""
    comments = [f"comment about {name} and nothing else here" for name in ("drums", "strings", "brass")]
    comments += ["first", "second", "third"]
    found = dict(zip(comments, groups(comments).tolist(), strict=True))
    shuffled = ["new", *reversed(comments), "other"]
    again = dict(zip(shuffled, groups(shuffled).tolist(), strict=True))
    assert {comment: again[comment] for comment in comments} == found
    assert found["first"] == 7710211399074899735


def test_the_held_out_share_is_about_what_was_asked() -> None:
    """The test set has the requested share of comments, within 3 percentage points; 0 takes none and 1 takes all."""
    comments = [f"{a} {b}" for a in range(40) for b in "abcdefghijklmnopqrst"] + [f"x{a}" for a in range(40)]
    many = groups([f"word{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(5000)])
    assert evaluation.in_test_set(many, 0.3).mean() == pytest.approx(0.3, abs=0.03)
    assert not evaluation.in_test_set(many, 0.0).any()
    assert evaluation.in_test_set(groups(comments), 1.0).all()


def test_a_sample_is_of_whole_groups_and_grows_by_adding() -> None:
    """A sample has at most the requested size, divides no group, and a larger sample contains a smaller one."""
    comments = read_comments(local_files(SAMPLE))["CONTENT"]
    found = groups(comments)
    small, large = evaluation.sample(found, 100), evaluation.sample(found, 300)
    assert 90 <= small.sum() <= 100
    assert not set(found[small]) & set(found[~small])
    assert (large | ~small).all()
    assert evaluation.sample(found, len(comments)).all()


def test_the_time_grows_with_the_number_of_comments() -> None:
    """Grouping eight times as many comments takes less than 25 times as long, also when many are equal."""
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


def test_figures_are_those_counted_by_hand() -> None:
    """The metrics of eight comments, with one good one blocked and one spam missed, are those counted by hand."""
    found = evaluation.scores(TRUTH, GUESS)
    assert found["accuracy"] == found["f1"] == 0.75
    assert found["mcc"] == 0.5
    assert found["roc_auc"] == 15 / 16
    assert found["log_loss"] == pytest.approx(-np.log(np.where(TRUTH, GUESS, 1 - GUESS)).mean())
    assert found["average_precision"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)


def test_where_there_is_one_class_only_some_figures_say_something() -> None:
    """Where only one class occurs, the accuracy is given, and metrics that need both classes are NaN."""
    found = evaluation.scores(np.zeros(3, int), np.array([0.1, 0.2, 0.6]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert math.isnan(found["mcc"])
    assert math.isnan(found["roc_auc"])


def test_calibration_error_is_the_distance_of_saying_and_being() -> None:
    """The calibration error is the mean distance between the predicted and the observed share of spam."""
    error = evaluation.calibration_error
    assert error(np.array([1, 0, 0, 0]), np.array([0.8, 0.8, 0.0, 0.0]), np.ones(4)) == pytest.approx(0.15)
    assert error(np.array([1, 1]), np.array([1.0, 1.0]), np.ones(2)) == 0.0


def test_a_summary_holds_figures_over_all_rows_and_their_spread_over_parts() -> None:
    """A summary has the metrics of all rows and their spread over parts; an unknown one is None, as JSON needs."""
    halves = [np.array([0, 1, 4, 5]), np.array([2, 3, 6, 7])]
    found = evaluation.summarise(TRUTH, GUESS, halves, [np.arange(0, 4), np.arange(4, 8)])
    assert (found["comments"], found["accuracy"], found["spread"]["accuracy"]) == (8, 0.75, 0.0)
    assert (found["spam_caught"], found["spread"]["spam_caught"], found["spread"]["mcc"]) == (0.75, None, None)
    assert evaluation.summarise(TRUTH, GUESS, halves, [np.arange(3), np.arange(3, 8)])["spread"]["accuracy"] == 0.2
    scores = evaluation.evaluate(
        TRUTH, pd.DataFrame({"held_out": [np.nan, *GUESS[1:]]}), {}, groups(map(str, GUESS)), share=None, seed=0
    )
    assert scores["held_out"]["comments"] == 7


def test_with_a_share_of_spam_the_figures_are_those_of_weighted_comments() -> None:
    """With a stated share of spam, the metrics are those of comments weighted to it, but the ranking is unchanged."""
    found, plain = evaluation.scores(TRUTH, GUESS, 0.1), evaluation.scores(TRUTH, GUESS)
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["f1"] == pytest.approx(2 * 7.5 / (2 * 7.5 + 22.5 + 2.5))
    assert found["roc_auc"] == plain["roc_auc"]
    always_good = [evaluation.log_loss(TRUTH, np.full(8, 0.1), share) for share in (0.1, None)]
    assert always_good[0] < always_good[1]


def test_resamples_keep_groups_whole_and_repeat_by_seed() -> None:
    """A resample draws as many groups as there are, keeps each one whole, and is repeated by its seed."""
    groups = np.array([5, 5, 7, 9, 9, 9])
    draws = [part.tolist() for part in evaluation.resamples(groups, 20, seed=0)]
    assert draws == [part.tolist() for part in evaluation.resamples(groups, 20, seed=0)]
    assert draws != [part.tolist() for part in evaluation.resamples(groups, 20, seed=1)]
    for part in draws:
        counts = np.bincount(part, minlength=6)
        assert counts[0] == counts[1]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[2] + counts[3] == 3


def test_folds_keep_near_duplicates_together_and_classes_in_balance() -> None:
    """Each comment is tested once, without its near-duplicates in training, and all folds have equal shares of spam."""
    named = np.repeat(np.arange(60), 2)
    labels = np.repeat(np.arange(60) % 3 == 0, 2).astype(int)
    folds = list(evaluation.grouped_kfold(labels, named, 10, seed=0).split(labels, labels, named))
    assert len(folds) == 10
    assert sorted(np.concatenate([left_out for _, left_out in folds])) == list(range(120))
    for rest, left_out in folds:
        assert not set(named[rest]) & set(named[left_out])
        assert labels[left_out].mean() == pytest.approx(1 / 3)


def test_few_texts_make_fewer_folds_and_too_few_an_error() -> None:
    """Few different comments of a class make fewer folds; a single one is an error that counts both classes."""
    labels = np.array([0] * 9 + [1] * 3)
    assert evaluation.grouped_kfold(labels, np.arange(12), 10, seed=0).get_n_splits() == 3
    with pytest.raises(TrainingDataError, match="the training set has 9 distinct comments of CLASS 0 and 1 of CLASS 1"):
        evaluation.grouped_kfold(labels, np.array([*range(9), 9, 9, 9]), 10, seed=0)


def test_sources_are_left_out_one_after_the_other() -> None:
    """Each source is left out once, many sources are left out in ten groups, and a single source gives no folds."""
    labels = np.array([0, 1, 0, 1] * 3)
    sources = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    left_out = {
        tuple(left_out.tolist()) for _, left_out in evaluation.leave_one_source_out(labels, sources, np.arange(12))
    }
    assert left_out == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)}
    assert evaluation.leave_one_source_out(labels, ["a"] * 12, np.arange(12)) == []
    many = [str(row // 4) for row in range(60)]
    assert len(evaluation.leave_one_source_out(np.array([0, 1] * 30), many, np.arange(60))) == 10


def test_a_source_that_holds_all_spam_cannot_be_left_out() -> None:
    """If one source holds all spam, no fold is made, because not every source could be left out."""
    assert evaluation.leave_one_source_out(np.array([0, 0, 1, 1, 0, 0]), ["a"] * 4 + ["b"] * 2, np.arange(6)) == []


def test_near_duplicates_of_a_left_out_source_leave_the_training_set() -> None:
    """No near-duplicate of a left-out source is in the training set, and the report names files that repeat."""
    comments = read_comments(local_files(SAMPLE[:3]))
    again = comments[comments["source_file"] == SAMPLE[0].name]
    files = [*comments["source_file"], *("again/" + again["source_file"])]
    y, found = np.array([*comments["CLASS"], *again["CLASS"]]), groups([*comments["CONTENT"], *again["CONTENT"]])
    folds = evaluation.leave_one_source_out(y, files, found)
    assert len(folds) == 4
    assert sorted(np.concatenate([left_out for _, left_out in folds])) == list(range(len(y)))
    for rest, left_out in folds:
        assert not set(found[rest]) & set(found[left_out])
    assert evaluation.repeated_files(files, found) == [
        f"100% of the distinct texts of {SAMPLE[0].name} are also in again/{SAMPLE[0].name}.",
        f"100% of the distinct texts of again/{SAMPLE[0].name} are also in {SAMPLE[0].name}.",
    ]


def test_a_best_value_at_the_edge_of_the_grid_is_said() -> None:
    """The report names a parameter whose best value is at the edge of its grid, and no other parameter."""
    numbers, y = np.arange(40.0).reshape(-1, 1) - 20, np.repeat([0, 1], 20)
    search = GridSearchCV(
        LogisticRegression(), {"C": [0.001, 0.01, 0.1], "fit_intercept": [True]}, scoring="neg_log_loss"
    )
    [sentence] = evaluation.at_the_edge(search.fit(numbers, y))
    assert sentence.startswith("The best C, 0.1, is the largest searched value")
    search.best_params_ = {"C": 0.01}
    assert evaluation.at_the_edge(search) == []
    assert evaluation.at_the_edge(GridSearchCV(LogisticRegression(), {}).fit(numbers, y)) == []


def test_a_search_takes_the_first_candidate_within_a_standard_error() -> None:
    """A search takes the first candidate within a standard error, unless all folds prefer a later one."""
    first, second = [-0.30, -0.20, -0.11], [-0.28, -0.21, -0.10]
    for scores, best in (((first, second), 0), ((first, [score + 0.01 for score in first]), 1)):
        results = {f"split{fold}_test_score": np.array(pair) for fold, pair in enumerate(zip(*scores, strict=True))}
        results["mean_test_score"] = np.mean(scores, axis=1)
        assert evaluation.one_standard_error(results) == best


@pytest.mark.parametrize(("left_out", "what"), [([], "are none"), ([1, 1], "are all of CLASS 1")])
def test_a_held_out_part_without_both_classes_is_refused(left_out: list[int], what: str) -> None:
    """A test set without both classes is refused with what it holds and the parameter to change."""
    with pytest.raises(TrainingDataError, match=f"{what}; add comments or set a larger HELD_OUT_SHARE"):
        evaluation.require_both_classes(left_out)
    evaluation.require_both_classes([0, 1])


def test_the_baseline_learns() -> None:
    """The baseline classifies more than 90 % of its own training comments correctly."""
    comments = read_comments(local_files(SAMPLE[:2]))
    assert (
        evaluation.baseline(0).fit(comments["CONTENT"], comments["CLASS"]).score(comments["CONTENT"], comments["CLASS"])
        > 0.9
    )
