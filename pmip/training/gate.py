"""The gate: judges a version by its own metadata, so that what is published is what was checked."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pmip.errors import GateError
from pmip.model.artifact import Artifact, Metadata


@dataclass(frozen=True)
class Check:
    """One figure, its limit and its standard deviation; a `value` of None could not be measured, and does not fail.

    A small test set makes a figure uncertain, so a figure fails only if it misses its limit by more than its deviation.
    """

    figure: str
    value: float | None
    limit: float
    parameter: str
    at_least: bool = True
    deviation: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the figure is within its limit, or misses it by no more than its standard deviation."""
        return self._misses_by() <= (self.deviation or 0.0)

    def _misses_by(self) -> float:
        if self.value is None:
            return 0.0
        return self.limit - self.value if self.at_least else self.value - self.limit

    @property
    def outcome(self) -> str:
        """The outcome of the check in words."""
        if self.value is None:
            return "not measured"
        within_deviation = "passed, within its standard deviation" if self.passed else "FAILED"
        return "passed" if self._misses_by() <= 0 else within_deviation

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        number = f"{self.value:.4f}" if isinstance(self.value, float) else f"{self.value}"
        shown = "not measured" if self.value is None else number
        spread = f" ± {self.deviation:.4f}" if self.deviation else ""
        return f"{self.figure} is {shown}{spread}, {bound} {self.limit:g} is required ({self.parameter})"


@dataclass(frozen=True)
class Passed:
    """A version that passed the gate, which publishing requires; only `decide` creates it."""

    artifact: Artifact


def checks(version: Metadata) -> list[Check]:
    """Return the checks of a version: its figures on the held-out comments, and those against the version before it."""
    held_out, limits, previous = version.metrics["held_out"], version.parameters, version.metrics.get("previous")
    of_version = [
        Check(f"{title} on the held-out comments", held_out[name], limits[limit], limit, True, held_out["spread"][name])
        for title, name, limit in (
            ("accuracy", "accuracy", "MIN_ACCURACY"),
            ("MCC", "mcc", "MIN_MCC"),
            ("spam caught", "spam_caught", "MIN_SPAM_CAUGHT"),
        )
    ]
    return of_version + list(_against(previous, limits) if previous else [])


def _against(previous: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[Check]:
    least_share, least_compared = limits["MIN_DATA_SHARE"], limits["MIN_COMPARED"]
    kept, gone = previous["data_share"], len(previous["sources_gone"])
    yield Check("share of the previous model's comments in the data", kept, least_share, "MIN_DATA_SHARE")
    if least_share:
        accepts = "MIN_DATA_SHARE=0 accepts any number"
        yield Check("number of the previous model's sources that are gone", gone, 0, accepts, at_least=False)
    yield Check("number of comments held out in both runs", previous["comments"], least_compared, "MIN_COMPARED")
    for title, name, limit in (
        ("drop of MCC against the previous model", "mcc_drop", "MAX_MCC_DROP"),
        ("share of flipped answers", "flipped", "MAX_FLIPPED"),
    ):
        yield Check(title, previous[name], limits[limit], limit, False, previous["spread"][name])


def decide(checks: Iterable[Check], artifact: Artifact) -> Passed:
    """Return what publishing requires; raise `GateError` with each figure that misses its limit."""
    checks = list(checks)
    failed = [str(check) for check in checks if not check.passed]
    if failed:
        raise GateError("the model does not pass the gate and is not published: " + "; ".join(failed))
    if all(check.value is None for check in checks):
        raise GateError("the model is not published: none of the gate's metrics was measured")
    return Passed(artifact)
