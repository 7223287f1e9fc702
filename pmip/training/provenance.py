"""Provenance: each step of the notebook records what it was made from, so that a version describes only itself.

In Jupyter, cells run in any order. The steps of one version must come from the same data, parameters, model and code.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from pmip import disguises, steps, text
from pmip.errors import GateError
from pmip.training import augmentation, evaluation, scale, spam_share

CODE: tuple[ModuleType, ...] = (text, disguises, steps, augmentation, evaluation, scale, spam_share)
DATA = ["CONTENT", "CLASS", "source", "group"]
LIMITS = ("MIN_", "MAX_")  # the gate applies them to a finished version


class Provenance:
    """What each step of the notebook was made from; a step is named by the heading of its cell.

    `parameters` returns the current parameters of the notebook.
    """

    def __init__(self, parameters: Callable[[], Mapping[str, Any]]) -> None:
        self._parameters = parameters
        self._inputs: dict[str, dict[str, str]] = {}

    def start(self, step: str) -> None:
        """Mark a step as unfinished; it remains so if its cell is interrupted."""
        self._inputs[step] = {"code": _code()}

    def finish(self, step: str, comments: pd.DataFrame, search: Any = None) -> None:
        """Record that a step has been made from these comments and, if given, by this search."""
        inputs, code = self._data(comments), self._inputs[step]["code"]
        if search is not None:
            space = search.param_grid if hasattr(search, "param_grid") else search.param_distributions
            inputs |= _model(search.estimator, space) | {"code": code if code == _code() else "changed meanwhile"}
        self._inputs[step] = inputs

    def require_current(self, comments: pd.DataFrame, pipeline: Pipeline, search_space: Any, but: str = "") -> None:
        """Raise `GateError` with the steps to run again, and why, unless all were made from the current inputs.

        `but` is the step that is being made.
        """
        current = self._data(comments) | _model(pipeline, search_space) | {"code": _code()}
        stale = {step: _changed(inputs, current) for step, inputs in self._inputs.items() if step != but}
        mistakes = [f"'{step}' {changed}" for step, changed in stale.items() if changed]
        if mistakes:
            raise GateError(
                f"the parts of this version do not belong together: {'; '.join(mistakes)}. Run these cells again, and "
                "those below them"
            )

    def _data(self, comments: pd.DataFrame) -> dict[str, str]:
        decisive = {name: value for name, value in self._parameters().items() if not name.startswith(LIMITS)}
        rows = pd.util.hash_pandas_object(comments[DATA], index=False).to_numpy()
        return {"comments": sha256(rows.tobytes()).hexdigest(), "parameters": joblib.hash(decisive)}


def _code() -> str:
    return sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in CODE)).hexdigest()


def _model(pipeline: Pipeline, search_space: Any) -> dict[str, str]:
    return {"pipeline or search space": joblib.hash((clone(Pipeline(pipeline.steps)), search_space))}


def _changed(inputs: Mapping[str, str], current: Mapping[str, str]) -> str:
    if "comments" not in inputs:
        return "did not end"
    changed = [name for name, value in inputs.items() if value != current[name]]
    return f"was made with other {' and '.join(changed)}" if changed else ""
