"""The types of answers. Each is declared once, here: the route, the limits and the Swagger document read the table.

Only a key of a row that no other type has is declared in `prediction_model` of `swagger.py` too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from pmip.model.scorer import Scorer, class_of, probabilities_of

Row = dict[str, Any]
EXPLAINED = {
    "class": 1,
    "probability": [0.08, 0.92],
    "intercept": -0.4,
    "contributions": [{"feature": "check it out", "contribution": 1.9}],
    "remainder": 0.94,
}


class AnswerType(NamedTuple):
    """One type of answer.

    - `about`, `example`: what it is, and an answer to one comment, for the document.
    - `rows`: the function that yields the answer to each comment, and the probability of spam, for the metrics.
    - `is_explanation`: whether it lists contributions, and so has the limits of an explanation.
    """

    about: str
    example: Row
    rows: Callable[[Scorer, Sequence[str], int], Iterable[tuple[Row, float]]]
    is_explanation: bool = False


def _classes(scorer: Scorer, comments: Sequence[str], _top: int) -> Iterator[tuple[Row, float]]:
    for probability in scorer.spam(comments):
        yield {"class": class_of(probability)}, probability


def _probabilities(scorer: Scorer, comments: Sequence[str], _top: int) -> Iterator[tuple[Row, float]]:
    for probability in scorer.spam(comments):
        yield {"probability": probabilities_of(probability)}, probability


def _explanations(scorer: Scorer, comments: Sequence[str], top: int) -> Iterator[tuple[Row, float]]:
    for row in scorer.explain(comments, top):
        yield row, row["probability"][1]


ANSWER_TYPES = {
    "class": AnswerType("1 is spam, 0 is not", {"class": 1}, _classes),
    "probability": AnswerType("of class 0 and class 1", {"probability": [0.08, 0.92]}, _probabilities),
    "explanation": AnswerType(
        "what each word adds to the log-odds of spam. The intercept, all contributions and the remainder, which is the "
        "sum of the contributions that are not listed, add up to the log-odds",
        EXPLAINED,
        _explanations,
        is_explanation=True,
    ),
}


def answer(kind: str, scorer: Scorer, comments: Sequence[str], top: int) -> tuple[bytes, list[float]]:
    """Return the JSON of the answer to all comments, and their probabilities of spam.

    Each row becomes JSON at once, because the objects of a large explanation take five times the memory of its JSON.
    """
    spam, rows = [], []
    for row, probability in ANSWER_TYPES[kind].rows(scorer, comments, top):
        rows.append(msgspec.json.encode(row))
        spam.append(probability)
    return msgspec.json.format(b'{"result":[%b]}' % b",".join(rows), indent=0) + b"\n", spam
