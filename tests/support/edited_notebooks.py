"""Runs the training notebook by papermill with some cells edited, as a data scientist would edit them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import papermill
from conftest import ROOT, SAMPLE

NOTEBOOK = ROOT / "notebooks" / "model-training.ipynb"
QUICK = {"REPORT": "short", "FOLDS": 2}
ANY_MODEL = {"MIN_ACCURACY": 0, "MIN_MCC": -1, "MIN_SPAM_CAUGHT": 0}


def run_edited(folder: Path, edit: Callable[[Any], None], **parameters: Any) -> Any:
    """Pass each cell to `edit`, run the notebook on two files of the sample, and return it with its outputs."""
    training = folder / "training" / "20260101"
    training.mkdir(parents=True)
    for path in SAMPLE[:2]:
        (training / path.name).write_bytes(path.read_bytes())
    source = nbformat.read(NOTEBOOK, as_version=4)
    for cell in source.cells:
        edit(cell)
    nbformat.write(source, folder / "edited.ipynb")
    arguments = QUICK | ANY_MODEL | parameters
    with patch.dict(os.environ, {"DATA_DIR": str(folder), "ENVIRONMENT": "dev", "BUCKET": ""}):
        return papermill.execute_notebook(
            folder / "edited.ipynb",
            folder / "executed.ipynb",
            parameters=arguments,
            cwd=NOTEBOOK.parent,
            kernel_name="python3",
            progress_bar=False,
        )
