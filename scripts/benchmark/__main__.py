"""What scripts/benchmark.sh runs: reads the arguments, and ends what it started however it ends."""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import Bench, Load, Start, say
from questions import questions
from servers import ROOT, BenchmarkError, end_all, servers
from table import loads_table, starts_table

from pmip.config import Settings
from pmip.errors import PmipError, SettingsError
from pmip.model.artifact import Artifact


def main() -> int:
    """Run one command; return 0, or 1 for what went wrong, or 2 for what was asked wrongly."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    options = _parser().parse_args()
    try:
        options.run(options, Settings.from_environ({**os.environ, "ENVIRONMENT": "dev"}))
    except SettingsError as error:
        return _failed(error, 2)
    except (PmipError, BenchmarkError, OSError) as error:
        return _failed(error, 1)
    return 0


def serving(options: argparse.Namespace, settings: Settings) -> None:
    """Measure the three servers; print the table."""
    model = _model(options, settings)
    say(f"{model}; {os.cpu_count()} cores, Python {platform.python_version()}, {settings.workers} workers")
    with tempfile.TemporaryDirectory(prefix="pmip-benchmark-") as name:
        try:
            starts, loads = _measure(model, Path(name), options)
        finally:
            end_all()
    print(loads_table(loads), starts_table(starts), sep="\n\n")


def labelled(options: argparse.Namespace, settings: Settings) -> None:
    """Print the comments with the classes that the model gives them, as JSON."""
    from models import labelled

    print(json.dumps(labelled(_model(options, settings), options.comments, settings.trust_pickles)))


def in_process(options: argparse.Namespace, settings: Settings) -> None:
    """Measure the scorer alone; print one line."""
    from models import microseconds

    print(microseconds(_model(options, settings), options.comments, settings.trust_pickles))


def fit_words(options: argparse.Namespace, _settings: Settings) -> None:
    """Fit and save the simpler model; print its path."""
    from models import fit_words

    print(fit_words(options.folder, options.files))


def _measure(model: Path, folder: Path, options: argparse.Namespace) -> tuple[list[Start], list[Load]]:
    Artifact.read(model).write(folder)
    bench = Bench(questions(folder / "model.pkl", options.comments), folder, options.seconds)
    compared = servers(folder)
    starts = [bench.start(server, round_) for round_ in range(options.rounds) for server in compared]
    return starts, bench.loads(compared, options.rounds)


def _model(options: argparse.Namespace, settings: Settings) -> Path:
    model: Path = options.model or ROOT / settings.data_dir / "model.pkl"
    if not model.is_file():
        raise BenchmarkError(f"{model}: there is no such model; 'bash scripts/train.sh' makes data/model.pkl")
    return model


def _end(number: int, _frame: Any) -> None:
    """Leave by the way that ends the servers, and let no second signal disturb it."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    sys.exit(128 + number)


def _failed(error: Exception, status: int) -> int:
    print(f"benchmark.sh: {error}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmark.sh")
    commands = parser.add_subparsers(required=True)
    for name, run in (("serving", serving), ("labelled", labelled), ("in-process", in_process)):
        command = commands.add_parser(name, prog="benchmark.sh" if run is serving else f"benchmark.sh {name}")
        command.add_argument("--comments", action="append", default=[], type=Path, metavar="FILE")
        command.add_argument("model", nargs="?", type=Path, metavar="MODEL.pkl")
        command.set_defaults(run=run)
        if run is serving:
            command.add_argument("--seconds", type=_at_least_one, default=5)
            command.add_argument("--rounds", type=_at_least_one, default=3)
    fitting = commands.add_parser("fit-words")
    fitting.add_argument("folder", type=Path, metavar="FOLDER")
    fitting.add_argument("files", type=Path, nargs="+", metavar="FILE")
    fitting.set_defaults(run=fit_words)
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
