"""Commands for the scripts: python -m pmip COMMAND. Results go to stdout, everything else to stderr."""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from pmip.config import Settings
from pmip.errors import PmipError, SettingsError, Stopped
from pmip.model import verification
from pmip.model.artifact import MAX_METADATA_BYTES
from pmip.store.objects import FolderStorage, S3Storage
from pmip.store.versions import LOCAL, LocalModel, ModelStore

log = logging.getLogger("pmip")

KINDS = ".csv, .tsv, .csv.gz or .zip"
API_SECONDS = 10
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Command = Callable[[Settings, argparse.Namespace], list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 for a failure, 2 for wrong arguments or settings, or 128 + a signal."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _stop)
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environ()
        logging.basicConfig(format="==> %(message)s")  # libraries log only warnings
        log.setLevel(settings.log_level.upper())
        for line in options.run(settings, options):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SettingsError as error:
        print(f"pmip: {error}", file=sys.stderr)
        return 2
    except PmipError as error:
        print(f"pmip: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"pmip: {stopped}", file=sys.stderr)
        return 128 + stopped.signal_number
    return 0


def _stop(number: int, _frame: object) -> None:
    """End the command, once; without a handler, the first process of a container ignores SIGTERM."""
    for later in SIGNALS:
        signal.signal(later, signal.SIG_IGN)
    raise Stopped(f"stopped by {signal.Signals(number).name} before the end", number)


def train(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Run the training notebook; print the model id."""
    from pmip.runner.run import train

    return [train(settings, options.parameters)]


def check(_settings: Settings, options: argparse.Namespace) -> list[str]:
    """Check the training notebook and run it on a small sample."""
    from pmip.runner import preflight
    from pmip.runner.run import NOTEBOOK, ROOT

    notebook = options.notebook or NOTEBOOK
    preflight.check(notebook)
    if not options.only_read:
        log.info("%s has no mistakes that can be read; running it on a small sample, for about 20 seconds", notebook)
        preflight.run(ROOT, NOTEBOOK.parent / "sample-training-data")
    log.info("%s can be committed%s", notebook, "" if options.only_read else ": it ran on the sample")
    return []


def get_training_data(settings: Settings, _options: argparse.Namespace) -> list[str]:
    """Download the newest training data; print its files."""
    from pmip.training.data import pull

    return [str(file.path) for file in pull(_bucket(settings), settings.data_dir).files]


def seed_training_data(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Check and upload training data; print its addresses."""
    from pmip.training.data import holds_data, seed

    if options.if_empty and holds_data(_bucket(settings)):
        return []
    day = options.day or f"{datetime.now(UTC):%Y%m%d}"
    return seed(_bucket(settings), [Path(file) for file in options.files], day)


def score(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Score the comments in files; write their columns with class and probability (of spam) as CSV."""
    from pmip.training.scoring import score

    if settings.environment != "dev":
        store = _store(settings)
        model_id, artifact = (
            (options.model_id, store.fetch(options.model_id)) if options.model_id else store.fetch_newest()
        )
    elif options.model_id:
        raise SettingsError("--model-id requires ENVIRONMENT=staging or prod: dev has only data/model.pkl")
    else:
        model_id, artifact = LOCAL, LocalModel(settings.data_dir).fetch()
    load = partial(verification.load, artifact, model_id, settings.environment, trust_pickles=settings.trust_pickles)
    scored = score(options.files, options.column, load)
    if options.output is None:
        return [scored.removesuffix("\n")]
    FolderStorage(options.output.parent).write(options.output.name, scored.encode())
    return []


def get_latest_model(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Download the newest model into the data folder; print its id."""
    store = ModelStore(_bucket(settings), options.environment)
    model_id, artifact = store.fetch_newest()
    LocalModel(settings.data_dir).save(artifact)
    return [model_id]


def versions(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Print the versions of ENVIRONMENT with their data and metrics, newest first."""
    from pmip.training.table import table

    store = _store(settings)
    if options.ids:
        return store.published()
    served = _model_id_of(options.api, settings) if options.api else None
    return table(store.recent(), store.recent(retired=True), served)


def _model_id_of(api: str, settings: Settings) -> str | None:
    """Ask the API at an address which version it serves; send the first key of API_KEYS, if it is set."""
    from urllib.parse import urlsplit
    from urllib.request import Request, urlopen

    address = f"{api.rstrip('/')}/model-info"
    if urlsplit(api).scheme not in ("http", "https"):
        raise SettingsError("--api requires an address such as http://127.0.0.1:8000")
    headers = {"X-API-Key": settings.api_keys[0]} if settings.api_keys else {}
    try:
        with urlopen(Request(address, headers=headers), timeout=API_SECONDS) as answer:  # noqa: S310 - checked above
            model_id = json.loads(answer.read(8 * MAX_METADATA_BYTES))["result"]["model_id"]
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        advice = (
            "; set API_KEYS to a key that it accepts" if getattr(error, "code", 0) == HTTPStatus.UNAUTHORIZED else ""
        )
        raise PmipError(f"{address} did not answer with a model ({error}){advice}") from None
    return model_id if isinstance(model_id, str) else None


def retire(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Take a version out of service (rollback)."""
    store = _store(settings)
    store.retire(options.model_id)
    log.info("%s is retired from %s; %s", options.model_id, settings.environment, _newest(store))
    return []


def restore(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Put a retired version back into service."""
    store = _store(settings)
    store.restore(options.model_id)
    log.info("%s is restored in %s; %s", options.model_id, settings.environment, _newest(store))
    return []


def promote(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Copy a version from staging to prod, whose APIs then serve it."""
    bucket = _bucket(settings)
    ModelStore(bucket, "staging").promote(options.model_id, "prod")
    log.info("%s is copied from staging to prod; %s", options.model_id, _newest(ModelStore(bucket, "prod")))
    return []


def _newest(store: ModelStore) -> str:
    newest = next(iter(store.published()), None)
    if not newest:
        return "it holds no version, so its APIs keep their current one"
    return f"its newest version is {newest} ('versions --api URL' shows which one an API serves)"


def make_bucket(settings: Settings, _options: argparse.Namespace) -> list[str]:
    """Create the bucket, unless it exists."""
    _bucket(settings).create()
    return []


def _bucket(settings: Settings) -> S3Storage:
    if not settings.bucket:
        raise SettingsError("BUCKET is missing: set it to the name of the bucket, with or without s3://")
    return S3Storage(settings.bucket)


def _store(settings: Settings) -> ModelStore:
    if settings.environment == "dev":
        raise SettingsError("ENVIRONMENT must be staging or prod: dev has no versions")
    return ModelStore(_bucket(settings), settings.environment)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pmip", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Command) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        return command

    add(train).add_argument("parameters", nargs="*", metavar="NAME=VALUE")
    checking = add(check)
    checking.add_argument("--only-read", action="store_true", help="do not run the notebook")
    checking.add_argument(
        "notebook", nargs="?", type=Path, help="check another notebook; the one that runs is always the project's"
    )
    add(get_training_data)
    seeding = add(seed_training_data)
    seeding.add_argument("files", nargs="+", metavar="FILE", help=KINDS)
    seeding.add_argument("--if-empty", action="store_true", help="do nothing if there already is training data")
    seeding.add_argument("--day", metavar="YYYYMMDD", help="default: today (UTC)")
    scoring = add(score)
    scoring.add_argument("files", nargs="+", type=Path, metavar="FILE", help=KINDS)
    scoring.add_argument("--column", default="CONTENT", help="the column of the comments; default: CONTENT")
    scoring.add_argument(
        "--model-id", help="a version of ENVIRONMENT; default: the newest one, or data/model.pkl in dev"
    )
    scoring.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")
    add(get_latest_model).add_argument("environment", nargs="?", default="staging", choices=("staging", "prod"))
    listing = add(versions)
    listing.add_argument("--ids", action="store_true", help="print only the ids of the versions that are not retired")
    listing.add_argument("--api", metavar="URL", help="ask this API which version it serves, with the key in API_KEYS")
    add(retire).add_argument("model_id")
    add(restore).add_argument("model_id")
    add(promote).add_argument("model_id")
    add(make_bucket)
    return parser


if __name__ == "__main__":
    sys.exit(main())
