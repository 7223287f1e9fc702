"""The plots and tables of the training report, one function each."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from pandas.io.formats.style import Styler
from sklearn import metrics
from sklearn.model_selection import GridSearchCV

from pmip.model.scorer import SPAM_THRESHOLD, Scorer

HAM, SPAM = "tab:blue", "tab:orange"
FIGURES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "spam_caught": "spam caught",
    "log_loss": "log-loss",
    "calibration_error": "calibration error",
}
MOST_ROWS = 20
LONGEST_LABEL = 40

plt.rcParams["text.parse_math"] = False  # a $ in the name of a file does not start a formula


def comments(table: pd.DataFrame) -> None:
    """Show for each source the number of comments and their lengths, by class."""
    sources = sorted(table["source"].unique())[:MOST_ROWS]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 1.2 + 0.42 * len(sources)), sharey=True)
    for row, source in enumerate(sources):
        of_source = table[table["source"] == source]
        lengths = [of_source.loc[of_source["CLASS"] == label, "CONTENT"].str.len() for label in (0, 1)]
        for label, colour in ((0, HAM), (1, SPAM)):
            left.barh(row, len(lengths[label]), left=label * len(lengths[0]), color=colour)
            _box(right, lengths[label], row + (0.2 if label else -0.2), colour)
    left.set(yticks=range(len(sources)), yticklabels=map(_label, sources), xlabel="comments", title="How many")
    left.set_xlim(0, 1.6 * table["source"].value_counts().max())
    left.legend(["not spam", "spam"], loc="center right")
    left.invert_yaxis()
    right.set(xscale="log", xlabel="characters (25 to 75 % as box, 5 to 95 % as line)", title="How long")
    _ticks(right, [5, 10, 30, 100, 300, 1000])
    _show(figure)


def search(found: GridSearchCV) -> None:
    """Show the mean log-loss of each candidate, with the standard deviation over the folds."""
    names = [name for name in found.cv_results_ if name.startswith("param_")]
    mean, spread = -found.cv_results_["mean_test_score"], found.cv_results_["std_test_score"]
    values = list(found.cv_results_[names[0]]) if len(names) == 1 else []
    if len(values) > 1 and all(isinstance(value, int | float | np.number) and value > 0 for value in values):
        figure, axes = plt.subplots(figsize=(6, 3))
        axes.errorbar(values, mean, spread, marker="o", capsize=3)
        axes.axvline(values[found.best_index_], color="grey", linestyle=":")
        axes.set(xscale="log", xlabel=names[0].removeprefix("param_"), ylabel="log-loss", title="Smaller is better")
        _ticks(axes, values)
    else:
        order = np.argsort(mean)[:MOST_ROWS]
        labels = [_label(", ".join(map(str, found.cv_results_["params"][row].values())) or "as it is") for row in order]
        figure, axes = plt.subplots(figsize=(8, 1.2 + 0.35 * len(order)))
        axes.errorbar(mean[order], range(len(order)), xerr=spread[order], fmt="o", capsize=3)
        axes.set(yticks=range(len(order)), yticklabels=labels, xlabel="log-loss", title="Smaller is better")
        axes.invert_yaxis()
    _show(figure)


def by_source(sources: Iterable[str], y: NDArray[Any], probability: NDArray[np.float64], title: str) -> None:
    """Show the accuracy of each source, the lowest first."""
    right = (probability > SPAM_THRESHOLD) == y
    accuracy = pd.Series(right).groupby(np.asarray(sources)).mean().sort_values().head(MOST_ROWS)
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.35 * len(accuracy)))
    bars = axes.barh([_label(source) for source in accuracy.index], accuracy, color="tab:green")
    axes.bar_label(bars, fmt="{:.1%}", padding=3)
    axes.set(xlim=(0, 1.1), xlabel="accuracy", title=title)
    axes.invert_yaxis()
    _show(figure)


def held_out(y: NDArray[Any], probability: NDArray[np.float64], baseline: NDArray[np.float64] | None) -> None:
    """Show precision and recall, calibration and the confusion matrix of the held-out comments."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4))
    metrics.PrecisionRecallDisplay.from_predictions(y, probability, ax=left, name="this model")
    if baseline is not None:
        metrics.PrecisionRecallDisplay.from_predictions(y, baseline, ax=left, name="baseline")
    left.set(
        xlabel="recall (share of spam found)",
        ylabel="precision (share of spam in what is found)",
        title="Precision and recall",
    )
    left.set(xlim=(0, 1.02), ylim=(0, 1.02))
    left.legend(loc="lower left")
    middle.plot([0, 1], [0, 1], color="grey", linestyle=":")
    bins = pd.DataFrame({"said": probability, "spam": y}).groupby(np.minimum((probability * 10).astype(int), 9))
    middle.plot(bins["said"].mean(), bins["spam"].mean(), color=SPAM)
    middle.scatter(bins["said"].mean(), bins["spam"].mean(), 4 + 500 * bins.size() / len(y), color=SPAM, alpha=0.6)
    middle.set(xlabel="probability of spam", ylabel="share that is spam", title="Calibration")
    names = ["not spam", "spam"]
    decision = (probability > SPAM_THRESHOLD).astype(int)
    metrics.ConfusionMatrixDisplay.from_predictions(
        y, decision, labels=[0, 1], display_labels=names, colorbar=False, cmap="Blues", ax=right
    )
    right.set(xlabel="answer", ylabel="label", title=f"Threshold {SPAM_THRESHOLD}")
    _show(figure)


def learning_curve(sizes: Sequence[int], test_scores: NDArray[np.float64]) -> None:
    """Show the log-loss on the held-out comments for each size of the training set."""
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(sizes, -np.asarray(test_scores).mean(axis=1), marker="o")
    axes.set(xlabel="comments in the training set", ylabel="log-loss, held out", title="Would more comments help?")
    axes.set_ylim(bottom=0)
    _show(figure)


def evidence(average: Mapping[int, Mapping[str, float]]) -> None:
    """Show the features whose average contributions to the log-odds differ most between spam and good comments."""
    table = pd.DataFrame(average).fillna(0)
    difference, speaks_for_spam = table[1] - table[0], table.sum(axis=1) > 0
    figure, sides = plt.subplots(1, 2, figsize=(11, 5))
    for axes, strongest, colour, title in (
        (sides[0], difference[~speaks_for_spam].nlargest(15), HAM, "for a good comment"),
        (sides[1], difference[speaks_for_spam].nlargest(15), SPAM, "for spam"),
    ):
        axes.barh(range(len(strongest)), strongest, color=colour)
        labels = [_label(ascii(feature)[1:-1]) for feature in strongest.index]
        axes.set(yticks=range(len(strongest)), yticklabels=labels, xlabel="log-odds", title=title)
        axes.invert_yaxis()
    _show(figure)


def over_versions(versions: pd.DataFrame) -> None:
    """Show accuracy and MCC of the versions, oldest first; a label says that the axis does not begin at zero."""
    figure, axes = plt.subplots(figsize=(9, 3.6))
    for name in ("accuracy, a new video", "MCC, a new video", "accuracy, held out", "MCC, held out"):
        axes.plot(range(len(versions)), versions[name].astype(float), marker="o", label=name)
    axes.set_xticks(range(len(versions)), versions["model id"], rotation=30, ha="right")
    axes.set(ylabel="does not begin at 0", title="The last versions")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    _show(figure)


def figures(scores: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> pd.DataFrame:
    """Return a table of metrics as text: a column for each method and protocol, with the spread after ±."""
    return pd.DataFrame(
        {
            (method, titles[name]): _column(of_method[name])
            for method, of_method in scores.items()
            for name in of_method
            if name in titles
        }
    )


def _column(figures: Mapping[str, Any]) -> dict[str, str]:
    spread = figures["spread"]
    shown = {"comments": f"{figures['comments']}"}
    for name, title in FIGURES.items():
        shown[title] = "–" if figures[name] is None else f"{figures[name]:.3f}"
        shown[title] += f" ± {spread[name]:.3f}" if spread[name] is not None else ""
    return shown


def average_evidence(scorer: Scorer, comments: Sequence[str]) -> dict[str, float]:
    """Return the average contribution of each feature to the log-odds.

    Raise `NotExplainableError` if the model is not linear in its features.
    """
    total: Counter[str] = Counter()
    for answer in scorer.explanations(comments):
        total.update({item["feature"]: item["contribution"] for item in answer["contributions"]})
    return {feature: added / len(comments) for feature, added in total.items()}


def worst_errors(
    table: pd.DataFrame, probability: NDArray[np.float64], scorer: Scorer, usual: Mapping[str, float] | None
) -> Styler:
    """Return the most confident wrong answers, with the features that contributed more than on average."""
    surprise = np.abs(probability - table["CLASS"])
    wrong = ((probability > SPAM_THRESHOLD) != table["CLASS"]).to_numpy()
    worst = table.assign(probability=probability, surprise=surprise)[wrong].nlargest(15, "surprise")
    worst["comment"] = worst["CONTENT"].map(without_contacts)
    worst = worst.rename(columns={"source_row": "row", "CLASS": "label"})
    columns = ["source", "row", "label", "probability", "comment"]
    if usual is not None:
        worst["main reasons"] = [_reasons(scorer, comment, usual) for comment in worst["CONTENT"]]
        columns.append("main reasons")
    return _styled(worst[columns])


def _reasons(scorer: Scorer, comment: str, usual: Mapping[str, float]) -> str:
    [answer] = scorer.explanations([comment])
    evidence = {
        item["feature"]: item["contribution"] - usual.get(item["feature"], 0) for item in answer["contributions"]
    }
    strongest = sorted(evidence, key=lambda feature: -abs(evidence[feature]))[:6]
    return without_contacts(" · ".join(f"{feature} {evidence[feature]:+.1f}" for feature in strongest))


def flips(table: pd.DataFrame, now: NDArray[np.float64], before: NDArray[np.float64]) -> Styler:
    """Return comments that two models classify differently, with both probabilities of spam."""
    shown = table[["source", "CLASS"]].assign(now=now, before=before, comment=table["CONTENT"].map(without_contacts))
    return _styled(shown.head(30))


def _styled(table: pd.DataFrame) -> Styler:
    """Return the table with comments escaped, in a column that is wide enough on a telephone."""
    shown: Styler = table.style.hide().format(escape="html", precision=3)
    return shown.set_properties(subset=["comment"], **{"min-width": "16em"})


# A mail address, also if it is escaped for a URL, and a telephone number with any grouping.
_CONTACT = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}|(?<!\w)\+?\(?\d(?:[\s().\-/]{0,3}\d){6,}|\d{7,}"
)


def without_contacts(text: str) -> str:
    """Return a text without mail addresses and telephone numbers, for a report that other people read."""
    return _CONTACT.sub(lambda found: "[mail]" if "@" in found[0] or "%40" in found[0] else "[number]", text)


def _box(axes: Axes, lengths: pd.Series, place: float, colour: str) -> None:
    axes.boxplot(
        lengths,
        positions=[place],
        widths=0.3,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": colour},
        medianprops={"color": "black"},
        manage_ticks=False,
    )


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xticks(values, minor=False, labels=[f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)


def _label(text: str) -> str:
    """Return a short label with escaped dollar signs, because matplotlib reads a formula between two of them."""
    shown = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
    return shown.replace("$", r"\$")


def _show(figure: Any) -> None:
    figure.tight_layout()
    plt.show()
