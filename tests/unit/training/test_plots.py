"""The report's plots and tables can be drawn for any data, and show no mail address or telephone number."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from pmip.model.artifact import Artifact
from pmip.model.scorer import Scorer
from pmip.model.verification import load
from pmip.training import evaluation, plots

Y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
P = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 1.0])
TABLE = pd.DataFrame(
    {"source": list("aabbaabb"), "CLASS": Y, "CONTENT": [f"call {n}" for n in range(8)], "source_row": 1}
)


Drawn = list[tuple[Any, str]]


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Render each plot completely, and return the figures with their alternative texts."""
    plt.switch_backend("agg")
    figures: Drawn = []

    def display(figure: Any, metadata: dict[str, dict[str, str]]) -> None:
        figure.canvas.draw()
        figures.append((figure, metadata["image/png"]["alt"]))

    monkeypatch.setattr(plots, "display", display)
    return figures


def axes(drawn: Drawn) -> list[Axes]:
    """Return the axes of the last figure, after a check of its width, its text and that it is closed."""
    figure, alternative = drawn[-1]
    assert figure.get_figwidth() == plots.WIDTH
    assert plt.get_fignums() == []
    assert alternative.endswith(".")
    return list(figure.axes)


@pytest.fixture
def scorer(artifact: Artifact) -> Scorer:
    return load(artifact, "measured", "dev")


@pytest.mark.parametrize("name", ["cheap $50 \\mix $60", "x" * 300, "видео", "a_b^c{d"])
def test_any_name_of_a_source_can_be_drawn(name: str, drawn: Drawn) -> None:
    """Plots accept any name of a source: with signs of formulas, 300 characters or Cyrillic letters."""
    table = TABLE.replace({"source": {"a": name}})
    plots.comments(table)
    plots.by_source(table["source"], Y, P, "another of these videos", baseline=P[::-1])
    assert axes(drawn)[0].get_yticklabels()[0].get_text().endswith(" (4)")
    assert axes(drawn)[0].get_xlim()[0] == 0


def found(space: dict[str, list[Any]]) -> GridSearchCV:
    return GridSearchCV(LogisticRegression(), space, scoring="neg_log_loss", cv=2).fit(P.reshape(-1, 1), Y)


@pytest.mark.parametrize(
    ("space", "scale"),
    [
        ({"C": [1, 10, 100]}, "log"),
        ({"C": [0.5, 1.0]}, "log"),
        ({}, "linear"),
        ({"C": [1, 10], "fit_intercept": [True, False]}, "linear"),
        ({"class_weight": [None, "balanced"]}, "linear"),
    ],
)
def test_any_search_can_be_drawn(space: dict[str, list[Any]], scale: str, drawn: Drawn) -> None:
    """A search over one numeric parameter is drawn on a logarithmic axis, and any other search on a linear one."""
    plots.search(found(space))
    [only] = axes(drawn)
    assert only.get_xscale() == scale
    assert "log-loss" in (only.get_xlabel(), only.get_ylabel())


@pytest.mark.parametrize("baseline", [None, P[::-1]])
def test_the_held_out_comments_are_drawn_with_and_without_a_baseline(baseline: Any, drawn: Drawn) -> None:
    """Held-out comments are drawn with or without a baseline, and the alternative text counts spam and errors."""
    plots.held_out(Y, P, baseline)
    left, middle, right = axes(drawn)[:3]
    assert len(left.get_lines()) == (1 if baseline is None else 2)
    assert right.get_title() == "Threshold 0.5"
    assert len(middle.containers[0].lines[0].get_xdata()) == 8
    assert drawn[-1][1].endswith("3 spam comments are caught, 1 are missed, and 1 good comments are blocked.")


def test_precision_and_recall_are_drawn_where_they_differ(drawn: Drawn) -> None:
    """The axes of precision and recall begin where a curve leaves the corner, and the title says so."""
    y = np.repeat([0, 1], 100)
    plots.held_out(y, y * 0.8 + 0.1 - 0.75 * (np.arange(200) == 150), None)
    left = axes(drawn)[0]
    assert left.get_xlim()[0] == pytest.approx(0.9)
    assert left.get_title().endswith("(the axes do not begin at 0)")


def test_the_candidates_have_a_positive_log_loss() -> None:
    """The table of candidates gives the log-loss as a positive number and begins with the chosen candidate."""
    grid_search = found({"C": [1, 100]})
    table = plots.candidates(grid_search)
    assert table["candidate"][0] == f"C={grid_search.best_params_['C']}"
    assert table["log-loss"].tolist() == sorted(-grid_search.cv_results_["mean_test_score"])


def test_the_learning_curve_begins_at_zero(drawn: Drawn) -> None:
    """The learning curve shows the log-loss as a positive number, on an axis that begins at 0."""
    plots.learning_curve([10, 20], np.array([[-0.4], [-0.2]]))
    [only] = axes(drawn)
    assert only.get_lines()[0].get_ydata().tolist() == [0.4, 0.2]
    assert only.get_ylim()[0] == 0


def test_evidence_has_one_scale_on_both_sides(scorer: Scorer, drawn: Drawn) -> None:
    """The plot shows evidence against and for spam on one scale, for spam and for good comments."""
    texts = {0: ["I love this song", "great song"], 1: ["check out my channel $5", "subscribe $$$"]}
    plots.evidence({label: plots.average_evidence(scorer, comments) for label, comments in texts.items()})
    left, right = axes(drawn)
    assert (left.get_title(), right.get_title()) == ("against spam", "for spam")
    assert left.get_xlim() == right.get_xlim()
    assert len(right.containers) == 2


def test_a_version_without_metrics_can_be_drawn(drawn: Drawn) -> None:
    """Versions are drawn although one of them lacks its metrics, and the axis says that it does not begin at 0."""
    names = ["accuracy, another video", "MCC, another video", "accuracy, held out", "MCC, held out"]
    lines = [{"model id": "one"} | dict.fromkeys(names, 0.9), {"model id": "two"} | dict.fromkeys(names)]
    plots.over_versions(pd.DataFrame(lines))
    assert axes(drawn)[0].get_ylabel() == "does not begin at 0"


def test_a_table_of_figures_shows_the_spread() -> None:
    """The table of metrics has a column for each method and protocol, and shows the spread where it is known."""
    scores = {"held_out": evaluation.summarise(Y, P, spread_over=[np.arange(4), np.arange(4, 8)])}
    table = plots.figures({"this model": scores, "baseline": {}}, {"held_out": "held out"})
    assert table.loc["accuracy", ("this model", "held out")] == "0.750 ± 0.000"
    assert table.loc["MCC", ("this model", "held out")] == "0.500"


def test_the_worst_errors_come_first_and_name_their_reasons(scorer: Scorer) -> None:
    """The table of errors begins with the worst, escapes HTML, replaces contacts and gives reasons where it can."""
    table = TABLE.assign(CONTENT="<b>call</b> +49 176 1234567 or mail joe@example.org")
    shown = plots.worst_errors(table, P, scorer, {})
    assert shown.data["probability"].tolist() == [0.6, 0.4]
    page = shown.to_html()
    assert "&lt;b&gt;call&lt;/b&gt; [number] or mail [mail]" in page
    assert "1234567" not in page
    assert "has address" in page
    assert "main reasons" not in plots.worst_errors(table, P, scorer, None).data


def test_flips_show_both_probabilities() -> None:
    """The table of flipped answers shows the new probabilities, and replaces contacts in the comments."""
    shown = plots.flips(TABLE.assign(CONTENT="call 0176-1234567"), P, P[::-1]).data
    assert shown["now"].tolist() == P.tolist()
    assert set(shown["comment"]) == {"call [number]"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail joe.b+x@my-shop.co.uk now", "mail [mail] now"),
        ("http://x.com/?to=joe%40example.org&a=1", "http://x.com/?to=[mail]&a=1"),
        ("mailto:joe@example.org", "mailto:[mail]"),
        ("call +49 (0)176 123 45 67!", "call [number]!"),
        ("https://wa.me/491761234567", "https://wa.me/[number]"),
        ("tel:0176/1234567", "tel:[number]"),
        ("id7654321x", "id[number]x"),
        ("at 2:19, 100 views in 2015, 1,000 likes", "at 2:19, 100 views in 2015, 1,000 likes"),
        ("user@", "user@"),
    ],
)
def test_contacts_are_left_out(text: str, shown: str) -> None:
    """The report replaces mail addresses and telephone numbers, in links too, and keeps times, years and counts."""
    assert plots.without_contacts(text) == shown
