"""The plots and tables of the training report, one function each."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.axes import Axes
from numpy.typing import NDArray
from pandas.io.formats.style import Styler
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.model_selection import GridSearchCV

from pmip.model.scorer import SPAM_THRESHOLD, Scorer
from pmip.training import evaluation

# A colour means the same in all plots; people who confuse red and green can tell them apart (Okabe and Ito).
GOOD, SPAM, MODEL, BASELINE = "#0072b2", "#d55e00", "#009e73", "#555555"
WIDTH = 10  # inches; all pictures have it, so that a page shows letters of one size
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
EVIDENCE = 15  # features on each side
LONGEST_LABEL = 40
NEARLY_PERFECT = 0.98  # precision or recall

plt.rcParams["text.parse_math"] = False  # a $ in the name of a file does not start a formula
plt.rcParams["axes.titlesize"] = plt.rcParams["font.size"]  # all other letters have this size by default
plt.rcParams["figure.dpi"] = 100


def comments(table: pd.DataFrame) -> None:
    """Show for each source the number of comments and their lengths, by class."""
    sources = sorted(table["source"].unique())[:MOST_ROWS]
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 1.2 + 0.42 * len(sources)), sharey=True)
    for row, source in enumerate(sources):
        of_source = table[table["source"] == source]
        lengths = [of_source.loc[of_source["CLASS"] == label, "CONTENT"].str.len() for label in (0, 1)]
        for label, colour in ((0, GOOD), (1, SPAM)):
            left.barh(row, len(lengths[label]), left=label * len(lengths[0]), color=colour)
            _box(right, lengths[label], row + (0.2 if label else -0.2), colour)
    left.set(yticks=range(len(sources)), yticklabels=map(_label, sources), xlabel="comments", title="How many")
    left.set_xlim(0, 1.6 * table["source"].value_counts().max())
    left.legend(["not spam", "spam"], loc="center right")
    left.invert_yaxis()
    right.set(xscale="log", xlabel="characters (25 to 75 % as box, 5 to 95 % as line)", title="How long")
    _ticks(right, [5, 10, 30, 100, 300, 1000])
    spam = table["CLASS"].mean()
    _show(figure, f"Number and length of the comments of {len(sources)} sources, by class; {spam:.0%} of all are spam.")


def search(grid_search: GridSearchCV) -> None:
    """Show the mean log-loss of each candidate, with the standard deviation over the folds."""
    results = grid_search.cv_results_
    names = [name for name in results if name.startswith("param_")]
    mean, spread = -results["mean_test_score"], results["std_test_score"]
    values = list(results[names[0]]) if len(names) == 1 else []
    if len(values) > 1 and all(isinstance(value, int | float | np.number) and value > 0 for value in values):
        figure, axes = plt.subplots(figsize=(WIDTH, 3))
        axes.errorbar(values, mean, spread, marker="o", capsize=3, color=MODEL)
        axes.axvline(values[grid_search.best_index_], color=BASELINE, linestyle=":")
        axes.set(xscale="log", xlabel=names[0].removeprefix("param_"), ylabel="log-loss", title="Smaller is better")
        _ticks(axes, values)
    else:
        order = np.argsort(mean)[:MOST_ROWS]
        labels = [_label(_candidate(results["params"][row])) for row in order]
        figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + 0.35 * len(order)))
        axes.errorbar(mean[order], range(len(order)), xerr=spread[order], fmt="o", capsize=3, color=MODEL)
        axes.set(yticks=range(len(order)), yticklabels=labels, xlabel="log-loss", title="Smaller is better")
        axes.invert_yaxis()
    best = _candidate(grid_search.best_params_)
    _show(figure, f"Log-loss of {len(mean)} candidates; the best one, {best}, has {mean[grid_search.best_index_]:.3f}.")


def candidates(grid_search: GridSearchCV) -> pd.DataFrame:
    """Return the mean log-loss of each candidate, and the standard deviation over the folds, the best first."""
    results = grid_search.cv_results_
    losses = {"log-loss": -results["mean_test_score"], "±": results["std_test_score"]}
    table = pd.DataFrame({"candidate": map(_candidate, results["params"])} | losses)
    return table.sort_values("log-loss", ignore_index=True)


def _candidate(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('__')[2]}={value}" for name, value in parameters.items()) or "as it is"


def by_source(
    sources: Iterable[str],
    y: NDArray[Any],
    probability: NDArray[np.float64],
    protocol: str,
    baseline: NDArray[np.float64] | None = None,
) -> None:
    """Show the accuracy of each source and its number of comments, the lowest first; a line marks the baseline's."""
    right = pd.DataFrame({"model": (probability > SPAM_THRESHOLD) == y})
    if baseline is not None:
        right["baseline"] = (baseline > SPAM_THRESHOLD) == y
    of_source = right.groupby(np.asarray(sources))
    accuracy = of_source.mean().sort_values("model").head(MOST_ROWS)
    labels = [f"{_label(source)} ({size})" for source, size in of_source.size()[accuracy.index].items()]
    figure, axes = plt.subplots(figsize=(WIDTH, 1.4 + 0.35 * len(accuracy)))
    bars = axes.barh(range(len(accuracy)), accuracy["model"], color=MODEL, label="this model")
    axes.bar_label(bars, fmt="{:.1%}", padding=5)
    if baseline is not None:
        axes.plot(accuracy["baseline"], range(len(accuracy)), "|", color=BASELINE, ms=20, mew=3, label="baseline")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(yticks=range(len(accuracy)), yticklabels=labels, xlim=(0, 1.15), xlabel="accuracy")
    axes.set_title(f"By source ({protocol}), the lowest first")
    axes.invert_yaxis()
    lowest = f"{accuracy['model'].iloc[0]:.1%} for {accuracy.index[0]}"
    _show(figure, f"Accuracy of {len(accuracy)} sources, with their numbers of comments; the lowest is {lowest}.")


def held_out(y: NDArray[Any], probability: NDArray[np.float64], baseline: NDArray[np.float64] | None) -> None:
    """Show precision and recall, calibration and the confusion matrix of the held-out comments."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 3.8))
    _precision_recall(left, y, {"this model": probability} | ({} if baseline is None else {"baseline": baseline}))
    _calibration(middle, y, probability)
    decision = (probability > SPAM_THRESHOLD).astype(int)
    display = metrics.ConfusionMatrixDisplay.from_predictions(
        y, decision, labels=[0, 1], display_labels=["not spam", "spam"], colorbar=False, cmap="Greys", ax=right
    )
    right.set(xlabel="answer", ylabel="label", title=f"Threshold {SPAM_THRESHOLD}")
    (_, blocked), (missed, caught) = display.confusion_matrix
    precision = metrics.average_precision_score(y, probability)
    _show(
        figure,
        f"{len(y)} held-out comments: average precision {precision:.3f}; at the threshold {SPAM_THRESHOLD}, "
        f"{caught} spam comments are caught, {missed} are missed, and {blocked} good comments are blocked.",
    )


def _precision_recall(axes: Axes, y: NDArray[Any], probabilities: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw the part of the curves in which they leave the corner of a perfect classifier."""
    recalls, precisions = [1.0], [1.0]
    for name, colour in zip(probabilities, (MODEL, BASELINE), strict=False):
        precision, recall, _ = metrics.precision_recall_curve(y, probabilities[name], drop_intermediate=True)
        axes.step(recall, precision, where="post", color=colour, label=name)
        recalls += recall[(precision < NEARLY_PERFECT) & (recall > 0)].tolist()
        precisions += precision[(recall > 0) & (recall <= NEARLY_PERFECT)].tolist()
    low = [np.floor(10 * min(values) - 1e-9) / 10 for values in (recalls, precisions)]
    axes.set(xlim=(max(low[0], 0), 1.01), ylim=(max(low[1], 0), 1.01))
    title = "Precision and recall" + ("\n(the axes do not begin at 0)" if max(low) > 0 else "")
    axes.set(xlabel="recall: share of spam caught", ylabel="precision: share of spam in it", title=title)
    axes.legend(loc="lower left")


def _calibration(axes: Axes, y: NDArray[Any], probability: NDArray[np.float64]) -> None:
    """Draw the share of spam in each bin of probabilities, with its 95 % confidence interval."""
    table = pd.DataFrame({"probability": probability, "spam": y, "comments": 1})
    bins = table.groupby(evaluation.calibration_bins(probability)).agg(
        {"probability": "mean", "spam": "sum", "comments": "sum"}
    )
    intervals = [
        binomtest(int(spam), int(n)).proportion_ci(method="wilson") for spam, n in bins[["spam", "comments"]].to_numpy()
    ]
    share = bins["spam"] / bins["comments"]
    ends = np.array([[low, high] for low, high in intervals]).T
    axes.plot([0, 1], [0, 1], color=BASELINE, linestyle=":")
    axes.errorbar(bins["probability"], share, np.abs(ends - share.to_numpy()), fmt="o", color=MODEL, capsize=3)
    axes.set(xlabel="probability of spam", ylabel="share that is spam", title="Calibration\n(lines: 95 % intervals)")


def learning_curve(sizes: Sequence[int], test_scores: NDArray[np.float64]) -> None:
    """Show the log-loss on the held-out comments for each size of the training set."""
    losses = -np.asarray(test_scores).mean(axis=1)
    figure, axes = plt.subplots(figsize=(WIDTH, 3))
    axes.plot(sizes, losses, marker="o", color=MODEL)
    axes.set(xlabel="comments in the training set", ylabel="log-loss, held out", title="Would more comments help?")
    axes.set_ylim(bottom=0)
    _show(figure, f"Log-loss {losses[0]:.3f} with {sizes[0]} comments, and {losses[-1]:.3f} with {sizes[-1]}.")


def evidence(average: Mapping[int, Mapping[str, float]]) -> None:
    """Show the average contributions of features to the log-odds, in spam and in good comments.

    Left are features that speak against spam, right those that speak for it: where the averages differ most. Both sides
    have one scale.
    """
    table = pd.DataFrame(average).fillna(0)
    difference, speaks_for_spam = table[1] - table[0], table.sum(axis=1) > 0
    figure, sides = plt.subplots(1, 2, figsize=(WIDTH, 5.5), sharex=True)
    for axes, strongest, title in (
        (sides[0], difference[~speaks_for_spam].nlargest(EVIDENCE), "against spam"),
        (sides[1], difference[speaks_for_spam].nlargest(EVIDENCE), "for spam"),
    ):
        rows = np.arange(len(strongest))
        for label, colour, place, name in ((0, GOOD, -0.2, "in good comments"), (1, SPAM, 0.2, "in spam")):
            axes.barh(rows + place, table.loc[strongest.index, label], 0.4, color=colour, label=name)
        labels = [_label(ascii(feature)[1:-1]) for feature in strongest.index]
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(yticks=rows, yticklabels=labels, xlabel="log-odds: against spam < 0 < for spam", title=title)
        axes.invert_yaxis()
    sides[0].legend(loc="lower right")
    first = ", ".join(ascii(feature) for feature in difference[speaks_for_spam].nlargest(3).index)
    _show(figure, f"Average contributions of features to the log-odds; strongest for spam: {first}.")


def over_versions(versions: pd.DataFrame) -> None:
    """Show accuracy and MCC of the versions, oldest first; a label says that the axis does not begin at zero."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
    for metric, line in (("accuracy", "-"), ("MCC", "--")):
        for where, marker in (("another video", "o"), ("held out", "s")):
            values = versions[f"{metric}, {where}"].astype(float)
            axes.plot(range(len(versions)), values, line, marker=marker, color=MODEL, label=f"{metric}, {where}")
    axes.set_xticks(range(len(versions)), versions["model id"], rotation=30, ha="right")
    axes.set(ylabel="does not begin at 0", title="The last versions")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    _show(figure, f"Accuracy and MCC of the last {len(versions)} versions, which the table below gives as numbers.")


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
    return _CONTACT.sub(lambda match: "[mail]" if "@" in match[0] or "%40" in match[0] else "[number]", text)


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


def _show(figure: Any, alternative: str) -> None:
    """Display a figure once, with a text for people who cannot see it."""
    figure.tight_layout()
    display(figure, metadata={"image/png": {"alt": alternative}})  # type: ignore[no-untyped-call]
    plt.close(figure)  # otherwise the notebook would show it again after the cell
