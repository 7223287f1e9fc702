"""One training run from the outside: papermill runs the notebook, then the report is stored beside the model."""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from pmip import errors
from pmip.config import Settings
from pmip.errors import PmipError, Stopped, TrainingRunError
from pmip.runner.parameters import parse_parameters, require_parameters
from pmip.runner.preflight import DATA_TAG, RESULT_TAG, read_parameters
from pmip.runner.report import RunReport, not_writable
from pmip.store.versions import LocalModel, is_model_id, new_model_id

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "model-training.ipynb"
# By key in the metadata, the most realistic evaluation first: the words that the summary uses.
PROTOCOLS = {
    "leave_one_source_out": "on another of these videos",
    "grouped_10_fold": "on the same videos",
    "held_out": "held out",
}
# Wait until standard input is closed, which happens whenever this process ends, even by SIGKILL. Send SIGTERM first:
# joblib's tracker ignores it, and then deletes the files that the workers shared.
END_GROUP = 'exec 2>/dev/null; cat >&2; kill -TERM "-$1" && sleep 1 && kill -KILL "-$1"'
PROGRESS_BAR = re.compile(r"([^\r\n]*?):\s+\d+%\|[^|]*\| (\S+) \[([\d:]+)[^]]*\]")

log = logging.getLogger(__name__)


def train(settings: Settings, arguments: Sequence[str]) -> str:
    """Run the training notebook with `NAME=VALUE` parameters and return the model id that it published or saved.

    Keep the executed notebook and its HTML in any case. Raise `TrainingRunError` if there is no model.
    """
    parameters = parse_parameters(arguments, read_parameters(NOTEBOOK))
    require_parameters(parameters)
    model_id = parameters.get("MODEL_ID") or new_model_id()
    report = RunReport(settings, ROOT / settings.data_dir, model_id)
    try:
        _execute(report.path, parameters | {"MODEL_ID": model_id})
        final_id = result_of(report.path)
    except (PapermillExecutionError, RuntimeError, TrainingRunError, OSError) as error:
        raise TrainingRunError(_ended(_explain(error, settings), report, model_id)) from None
    except Stopped as stopped:
        raise Stopped(_ended(str(stopped), report, model_id), stopped.signal_number) from None
    log.info("%s", _summary(final_id, ROOT / settings.data_dir))
    log.info("report: %s", report.keep(final_id, has_model=True))
    return final_id


def result_of(report: Path) -> str:
    """Return the model id that an executed notebook printed in its tagged cell."""
    shown = _shown(nbformat.read(report, as_version=4).cells, RESULT_TAG)
    if not is_model_id(shown):
        raise TrainingRunError(f"the notebook ended without printing a model id in its cell tagged {RESULT_TAG!r}")
    return shown


def _shown(cells: list[Any], tag: str) -> str:
    """Return what the cell with a tag printed."""
    outputs = (output for cell in cells if tag in cell.metadata.get("tags", []) for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout").strip()


def _summary(model_id: str, data_dir: Path) -> str:
    """Return one line about the model of a run: its data, its metrics, and that it passed the gate."""
    try:
        made = LocalModel(data_dir).fetch().metadata
    except PmipError:
        made = None
    if made is None or made.model_id != model_id:  # another run of this machine ended at the same time
        return f"model {model_id} passed the gate"
    comments = sum(file["rows"] for file in made.training_files)
    figures = [
        f"{where} accuracy {made.metrics[name]['accuracy']:.3f} and MCC {made.metrics[name]['mcc']:.3f}"
        for name, where in PROTOCOLS.items()
        if name in made.metrics
    ]
    trained = f"model {model_id}, trained on {comments} comments of training data {made.training_data_id}"
    return f"{trained}, passed the gate: {', '.join(figures)}"


def _execute(report: Path, parameters: dict[str, Any]) -> None:
    """Run the notebook in its own folder, as Jupyter does; the report is saved after each cell."""
    for library in ("asyncio", "papermill"):  # they would log a failed run again, with tracebacks
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with TemporaryDirectory(prefix="pmip-") as sockets, _without_paths(report):
        papermill.execute_notebook(  # it passes unknown options to nbclient
            str(NOTEBOOK),
            str(report),
            parameters=parameters,
            cwd=str(NOTEBOOK.parent),
            kernel_name="python3",
            language="python",
            # By default a kernel listens on TCP ports, which other users of the machine can reach. A container has 10
            # seconds to stop, of which a busy kernel would get 5 by default.
            config=Config(
                {"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel", "shutdown_wait_time": 2.0}}
            ),
            extra_arguments=["--IPKernelApp.log_level=50"],  # otherwise it logs many lines when its sockets are closed
            progress_bar=False,
            stderr_file=_LogLines(),
            kernel_manager_class=_OwnGroup,
            force_raise_errors=True,  # otherwise a gate cell tagged raises-exception would let every model pass
        )


class _OwnGroup(AsyncKernelManager):
    """A kernel whose process group, including joblib's workers, always ends with the run."""

    async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # there it is an attribute
        """Start the kernel and a guard process, which ends the kernel's group and runs in its own session."""
        # Messages of the kernel and its workers about their end would hide the reason for it.
        await super().start_kernel(stderr=subprocess.DEVNULL, **options)
        group = str(getattr(self.provisioner, "pgid", ""))
        command = ["sh", "-c", END_GROUP, "sh", group]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    async def cleanup_resources(self, restart: bool = False) -> None:  # type: ignore[override]
        """Clean up after the kernel has ended, and let the guard end the remaining processes of its group."""
        await super().cleanup_resources(restart)
        self._guard.communicate()


class _LogLines(StringIO):
    """Logs the notebook's stderr: one line for each step of a progress bar, without control characters."""

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
    """Remove paths of this machine from the report, which other people read, whether or not the run succeeds."""
    try:
        yield
    finally:
        content = report.read_text(encoding="utf-8")
        for path, name in ((report.parent, "data"), (ROOT, "."), (sys.prefix, "<python>"), (Path.home(), "~")):
            content = content.replace(f"{path}/", f"{name}/")
        report.write_text(content, encoding="utf-8")


def _ended(what: str, report: RunReport, model_id: str) -> str:
    """Keep the report of a run without a model; return why the run ended, its data and where the report is."""
    data = ""
    with suppress(ValueError):  # the run was stopped while it wrote the report
        data = _shown(nbformat.read(report.path, as_version=4).cells, DATA_TAG)
    where = report.keep(model_id, has_model=False)
    return "\n".join([what, *([data] if data else []), *([f"report: {where}"] if where else [])])


def _explain(error: Exception, settings: Settings) -> str:
    if isinstance(error, OSError):  # papermill could not write the report
        return not_writable(settings.data_dir, error)
    if isinstance(error, RuntimeError):  # nbclient: the kernel did not start, or died
        return f"the notebook's kernel failed: {error}. Did the machine run out of memory?"
    if not isinstance(error, PapermillExecutionError):
        return str(error)
    if hasattr(errors, error.ename):  # the message is already written for people
        return str(error.evalue)
    # Its text may quote a comment, and a log is no place for comments; the report shows some of them anyway.
    return f"{error.ename} in cell [{error.exec_count}] of the notebook; the report has the whole error"
