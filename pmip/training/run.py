"""One training run from the outside: papermill runs the notebook, and the report goes where the model is."""

import ast
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from pmip import errors
from pmip.config import Settings
from pmip.errors import SettingsError, Stopped, TrainingRunError
from pmip.store.versions import is_model_id, new_model_id
from pmip.training.report import RunReport, not_writable

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "model-training.ipynb"
RESULT_TAG = "model-id"
PROGRESS_BAR = re.compile(r"([^\r\n]*?):\s+\d+%\|[^|]*\| (\S+) \[([\d:]+)[^]]*\]")

log = logging.getLogger(__name__)


def train(settings: Settings, arguments: Sequence[str]) -> str:
    """Run the training notebook with `NAME=VALUE` parameters and return the model id that it published or saved.

    The executed notebook and its HTML are kept whatever happens. Raises `TrainingRunError` when there is no model.
    """
    parameters = parse_parameters(arguments, papermill.inspect_notebook(str(NOTEBOOK)))
    model_id = parameters.get("MODEL_ID") or new_model_id()
    if not is_model_id(model_id):
        raise SettingsError(f"MODEL_ID={model_id}: must be a UTC time as YYYYMMDDTHHMMSSZ")
    report = RunReport(settings, ROOT / settings.data_dir, model_id)
    try:
        _execute(report.path, parameters | {"MODEL_ID": model_id})
        final_id = result_of(report.path)
    except (PapermillExecutionError, RuntimeError, TrainingRunError, OSError) as error:
        where = report.keep(model_id, has_model=False)
        raise TrainingRunError(_and_report(_explain(error, settings), where)) from None
    except Stopped as stopped:
        where = report.keep(model_id, has_model=False)
        raise Stopped(_and_report(str(stopped), where)) from None
    log.info("report: %s", report.keep(final_id, has_model=True))
    return final_id


def parse_parameters(arguments: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Read `NAME=VALUE` by the type of the notebook's default, so that an id of digits stays text; blank = default."""
    parameters = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or name not in known:
            raise SettingsError(f"{argument!r} is no parameter of the notebook; NAME=VALUE with {', '.join(known)}")
        default = ast.literal_eval(known[name]["default"])
        if text.strip():
            parameters[name] = _value(name, text.strip(), type(default))
    return parameters


def result_of(report: Path) -> str:
    """Return the model id that an executed notebook shows in the cell made for it."""
    for cell in nbformat.read(report, as_version=4).cells:
        if RESULT_TAG in cell.metadata.get("tags", []):
            shown = "".join(output.get("text", "") for output in cell.get("outputs", [])).strip()
            if is_model_id(shown):
                return shown
    raise TrainingRunError(f"the notebook ended without printing a model id in its cell tagged {RESULT_TAG!r}")


def _value(name: str, text: str, kind: type) -> Any:
    try:
        value = kind(text) if kind in (str, int, float) else ast.literal_eval(text)
        if isinstance(value, kind):
            return value
        raise ValueError
    except (ValueError, SyntaxError):
        noun = {int: "a whole number", float: "a number", bool: "True or False"}.get(kind, f"a {kind.__name__}")
        raise SettingsError(f"{name}={text}: must be {noun}") from None


def _execute(report: Path, parameters: dict[str, Any]) -> None:
    """Run the notebook in its own folder, as Jupyter does; the report is saved after each cell."""
    with TemporaryDirectory(prefix="pmip-") as sockets, _without_paths(report):
        papermill.execute_notebook(
            str(NOTEBOOK),
            str(report),
            parameters=parameters,
            cwd=str(NOTEBOOK.parent),
            kernel_name="python3",
            # By default a kernel listens on TCP ports, where other users of the machine reach it; and when a run is
            # stopped, a busy kernel would be given 5 of the 10 seconds that a container has to end.
            config=Config(
                {"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel", "shutdown_wait_time": 2.0}}
            ),
            extra_arguments=["--IPKernelApp.log_level=50"],  # it would tell at length that its sockets are closed
            progress_bar=False,
            stderr_file=_LogLines(),
        )


class _LogLines(StringIO):
    """Logs what the notebook writes to stderr: of progress bars one line a step, and no control characters."""

    _last = ""

    def write(self, text: str) -> int:
        for line in re.split(r"[\r\n]+", PROGRESS_BAR.sub(r"\1: \2 (\3)", text)):
            shown = "".join(filter(str.isprintable, line)).strip()
            step = shown.partition(" (")[0]
            if shown and step != self._last:
                log.info(shown)
                self._last = step
        return len(text)


@contextmanager
def _without_paths(report: Path) -> Iterator[None]:
    """Take this machine's paths out of the report, which others will read, however the run ends."""
    try:
        yield
    finally:
        content = report.read_text(encoding="utf-8")
        for path, name in ((report.parent, "data"), (ROOT, "."), (sys.prefix, "<python>"), (Path.home(), "~")):
            content = content.replace(f"{path}/", f"{name}/")
        report.write_text(content, encoding="utf-8")


def _and_report(what: str, where: str) -> str:
    return f"{what}\nreport: {where}" if where else what


def _explain(error: Exception, settings: Settings) -> str:
    if isinstance(error, OSError):  # papermill's, when it writes what a cell gave
        return not_writable(settings.data_dir, error)
    if isinstance(error, RuntimeError):  # nbclient's, when the kernel does not start, or dies
        return f"the notebook's kernel failed: {error}. Did the machine run out of memory?"
    if not isinstance(error, PapermillExecutionError):
        return str(error)
    if hasattr(errors, error.ename):  # written for the person who reads it
        return str(error.evalue)
    return f"{error.ename}: {error.evalue} (cell [{error.exec_count}] of the notebook)"
