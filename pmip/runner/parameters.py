"""The parameters of a training run: reading them from the command line or the notebook, and checking their values."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from pmip.errors import SettingsError
from pmip.store.versions import is_model_id

# A parameter that is added to the notebook need not be listed here; then every value is accepted.
RANGES: dict[str, tuple[float, float]] = {
    "HELD_OUT_SHARE": (0.05, 0.9),
    "FOLDS": (2, 20),
    "EVALUATED_AT_MOST": (100, 10_000_000),
    "SEED": (0, 2**32 - 1),
    "SPAM_SHARE": (0.001, 0.999),
    "MIN_ACCURACY": (0, 1),
    "MIN_MCC": (-1, 1),
    "MIN_SPAM_CAUGHT": (0, 1),
    "MAX_MCC_DROP": (0, 2),
    "MAX_FLIPPED": (0, 1),
    "MIN_COMPARED": (0, 10_000_000),
    "MIN_DATA_SHARE": (0, 1),
}
CHOICES = {"REPORT": ("full", "short")}
NOT_KEPT = ("MODEL_ID", "DASK_SCHEDULER")  # they say nothing about how a model was trained
KNOWN = (*RANGES, *CHOICES, *NOT_KEPT, "TRAINING_DATA_ID")  # the notebook must have these


def parse_parameters(arguments: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read `NAME=VALUE` with the type of the notebook's default, so that an id of digits stays text; skip blanks.

    A default of None stands for a number that is not given.
    """
    parameters = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or name not in defaults:
            raise SettingsError(f"{argument!r} is not NAME=VALUE with one of the parameters {', '.join(defaults)}")
        if text.strip():
            kind = float if defaults[name] is None else type(defaults[name])
            parameters[name] = _value(name, text.strip(), kind)
    return parameters


def notebook_parameters(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return and check the parameters among the notebook's variables: names in capitals, with values for JSON."""
    parameters = {
        name: value
        for name, value in variables.items()
        if name.isupper() and not name.startswith("_") and _is_plain(value)
    }
    require_parameters(parameters)
    return {name: parameters[name] for name in parameters if name not in NOT_KEPT}


def require_parameters(parameters: Mapping[str, Any]) -> None:
    """Check the given parameters; raise one `SettingsError` that names all wrong values."""
    rules = {name: _broken_rule(name, value) for name, value in parameters.items()}
    mistakes = [f"{name}={parameters[name]}: must be {rule}" for name, rule in rules.items() if rule]
    if mistakes:
        raise SettingsError("; ".join(mistakes))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | None) or (isinstance(value, list) and all(map(_is_plain, value)))


def _broken_rule(name: str, value: Any) -> str | None:
    if name in RANGES:
        low, high = RANGES[name]
        if value is None and name == "SPAM_SHARE":
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if is_number and low <= value <= high else f"a number from {low:,} to {high:,}"
    if name in CHOICES:
        return None if value in CHOICES[name] else " or ".join(CHOICES[name])
    if name == "TRAINING_DATA_ID":
        return None if value == "" or _is_id(value, 8) else "a calendar day, written as YYYYMMDD, or blank"
    if name == "MODEL_ID":
        return None if value == "" or _is_id(value, 16) else "a UTC time, written as YYYYMMDDTHHMMSSZ, or blank"
    return None


def _is_id(value: Any, length: int) -> bool:
    return isinstance(value, str) and len(value) == length and is_model_id(value)


def _value(name: str, text: str, expected: type) -> Any:
    try:
        value = expected(text) if expected in (str, int, float) else ast.literal_eval(text)
        if isinstance(value, expected):
            return value
        raise ValueError
    except (ValueError, SyntaxError):
        noun = {int: "a whole number", float: "a number", bool: "True or False"}.get(expected, f"a {expected.__name__}")
        raise SettingsError(f"{name}={text}: must be {noun}") from None
