"""Collects what is wrong in a table, so that a person hears of everything at once and of no comment."""

import re
from collections.abc import Sequence

from pmip.errors import TrainingDataError

SHOWN = 5
MAX_WRONG_LABELS = 10  # a column with more different ones holds no labels, and its values are not shown
LABEL = re.compile(r"[\w+.,-]{1,20}(?: [\w+.,-]{1,20})?")


class Mistakes:
    """The mistakes of one table; each kind is reported once, with its first line and how often it occurs."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._kinds: dict[str, list[int]] = {}  # the lines, by what is wrong
        self._labels: dict[str, list[int]] = {}

    def add(self, line: int, what: str) -> None:
        """Note a mistake without quoting the row."""
        self._kinds.setdefault(what, []).append(line)

    def add_label(self, line: int, label: str) -> None:
        """Note a label that means neither class."""
        self._labels.setdefault(label.strip(), []).append(line)

    def require_none(self) -> None:
        """Raise `TrainingDataError` with the first mistakes and their number, if there are any."""
        kinds = self._kinds | self._kinds_of_labels()
        if not kinds:
            return
        first = sorted(kinds.items(), key=lambda kind: kind[1][0])
        sentences = [f"line {lines[0]}: {what}{_others(lines)}" for what, lines in first[:SHOWN]]
        rest = sum(len(lines) for _, lines in first[SHOWN:])
        more = f"; and {rest:,} more mistakes of other kinds" if rest else ""
        raise TrainingDataError(f"{self._origin}, {'; '.join(sentences)}{more}")

    def _kinds_of_labels(self) -> dict[str, list[int]]:
        wrong = "CLASS must be 0 (not spam) or 1 (spam)"
        shown = [label for label in self._labels if LABEL.fullmatch(label)]
        if len(self._labels) > MAX_WRONG_LABELS:
            wrong = f"{wrong}, but holds {len(self._labels):,} different values; are the columns in the right order?"
            shown = []
        kinds = {f"{wrong}, not {label!r}": self._labels[label] for label in shown}
        if hidden := sorted(line for label, lines in self._labels.items() if label not in shown for line in lines):
            kinds[wrong] = hidden
        return kinds


def _others(lines: Sequence[int]) -> str:
    return f" (and {len(lines) - 1:,} more rows)" if len(lines) > 1 else ""
