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
from typing import TYPE_CHECKING

from pmip.config import Settings
from pmip.errors import PmipError, SettingsError, Stopped, TrainingDataError
from pmip.model import verification
from pmip.model.artifact import MAX_METADATA_BYTES
from pmip.store.objects import FolderStorage, S3Storage
from pmip.store.versions import LOCAL, LocalModel, ModelStore

if TYPE_CHECKING:
    from pmip.model.scorer import Scorer
    from pmip.training.scoring import Version

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
    """Check and upload training data; with --add, make a new day of the newest one and the files; print addresses."""
    from pmip.training.data import holds_data, seed
    from pmip.training.merging import add

    paths = [Path(file) for file in options.files]
    if options.add:
        storage = S3Storage(settings.bucket) if settings.bucket else FolderStorage(settings.data_dir)
        return add(storage, paths, options.day, newer_wins=options.newer_wins, dry_run=options.dry_run)
    if options.newer_wins or options.dry_run:
        raise SettingsError("--newer-wins and --dry-run require --add")
    if options.if_empty and holds_data(_bucket(settings)):
        return []
    return seed(_bucket(settings), paths, options.day or f"{datetime.now(UTC):%Y%m%d}")


def score(settings: Settings, options: argparse.Namespace) -> list[str]:
    """Score the comments in files; write their columns with predicted class and probability (of spam) as CSV."""
    from pmip.training.scoring import Version
    from pmip.training.transfer import files_below, is_folder

    version = Version(*_version(settings, options.model_id))
    if not is_folder(options.files[0]):
        _score_files(settings, options, version, options.files, options.output)
        return []
    if len(options.files) > 1 or not options.output or options.for_labelling:
        raise SettingsError("a folder is scored alone, into the folder --output, and without --for-labelling")
    for address in _of_this_job(settings, files_below(options.files[0])):
        name = address.removeprefix(options.files[0]).lstrip("/")
        output = f"{options.output.rstrip('/')}/{name.removesuffix('.csv')}.csv"
        _score_files(settings, options, version, [address], output)
    return []


def _score_files(
    settings: Settings, options: argparse.Namespace, version: "Version", addresses: list[str], output: str | None
) -> None:
    from pmip.training import labelling, scoring
    from pmip.training.transfer import fetched, written

    with fetched(addresses) as files, written(output) as text:
        contents = scoring.look_through(files, options.column)
        rows = scoring.scored(files, options.column, contents, version, settings.dask_scheduler)
        if options.for_labelling:
            chosen = labelling.least_certain(rows, contents.columns, options.for_labelling)
            labelling.write(chosen, contents, options.column, version.model_id, text)
        else:
            scoring.write(rows, contents, version.model_id, text)


def _of_this_job(settings: Settings, addresses: list[str]) -> list[str]:
    """Return the file of this child of an AWS Batch array job, or else all files."""
    index, size = settings.batch_array_index, settings.batch_array_size
    if index is None:
        return addresses
    if len(addresses) != size:
        told = f"the folder holds {len(addresses)} files now, but {size} when the job was submitted"
        raise TrainingDataError(f"{told}; submit it again")
    return [addresses[index]]


def _version(settings: Settings, model_id: str | None) -> tuple[str, str, Callable[[], "Scorer"]]:
    """Return id, SHA-256 and loader of a version of ENVIRONMENT: the given or the newest one, in dev data/model.pkl."""
    if settings.environment != "dev":
        store = _store(settings)
        model_id, artifact = (model_id, store.fetch(model_id)) if model_id else store.fetch_newest()
    elif model_id:
        raise SettingsError("--model-id requires ENVIRONMENT=staging or prod: dev has only data/model.pkl")
    else:
        artifact = LocalModel(settings.data_dir).fetch()
        model_id = artifact.metadata.model_id if artifact.metadata else LOCAL
    load = partial(verification.load, artifact, model_id, settings.environment, trust_pickles=settings.trust_pickles)
    return model_id, artifact.sha256, load


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
    if options.servable:
        return [_newest_servable(store, settings)]
    served = _model_id_of(options.api, settings) if options.api else None
    return table(store.recent(), store.recent(retired=True), served)


def _newest_servable(store: ModelStore, settings: Settings) -> str:
    """Return the version that an API with this code and these libraries would serve; raise if there is none."""
    from tempfile import TemporaryDirectory

    from pmip.serving.cache import HostCache
    from pmip.serving.updater import Updater

    with TemporaryDirectory(prefix="pmip-") as folder:
        cache = HostCache(Path(folder, "cache"))
        cache.acquire_lock()  # only the process that leads writes it
        trust_pickles = settings.trust_pickles
        verify = partial(verification.verify_in_child, environment=settings.environment, trust_pickles=trust_pickles)
        loaded = Updater(store, cache, verify).check()
        if not loaded:
            raise PmipError(f"this code can serve no version in {store}; the reason is above")
        return loaded[0].model_id


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


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise ValueError
    return count


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
    _seeding_options(add(seed_training_data))
    _scoring_options(add(score))
    add(get_latest_model).add_argument("environment", nargs="?", default="staging", choices=("staging", "prod"))
    listing = add(versions)
    listing.add_argument("--ids", action="store_true", help="print only the ids of the versions that are not retired")
    listing.add_argument("--servable", action="store_true", help="print only the newest one that this code can serve")
    listing.add_argument("--api", metavar="URL", help="ask this API which version it serves, with the key in API_KEYS")
    add(retire).add_argument("model_id")
    add(restore).add_argument("model_id")
    add(promote).add_argument("model_id")
    add(make_bucket)
    return parser


def _seeding_options(seeding: argparse.ArgumentParser) -> None:
    seeding.add_argument("files", nargs="+", metavar="FILE", help=KINDS)
    seeding.add_argument("--if-empty", action="store_true", help="do nothing if there already is training data")
    seeding.add_argument("--day", metavar="YYYYMMDD", help="default: today (UTC), or with --add the next free day")
    seeding.add_argument("--add", action="store_true", help="make a new day of the newest day and the files")
    seeding.add_argument("--newer-wins", action="store_true", help="with --add: new labels replace those of the day")
    seeding.add_argument("--dry-run", action="store_true", help="with --add: tell what would be done")


def _scoring_options(scoring: argparse.ArgumentParser) -> None:
    scoring.add_argument("files", nargs="+", metavar="FILE", help=f"{KINDS}, or a folder of these; also s3://...")
    scoring.add_argument("--column", default="CONTENT", help="the column of the comments; default: CONTENT")
    scoring.add_argument(
        "--model-id", help="a version of ENVIRONMENT; default: the newest one, or data/model.pkl in dev"
    )
    scoring.add_argument("--output", metavar="FILE", help="a file, or a folder for a folder; default: stdout")
    scoring.add_argument(
        "--for-labelling",
        type=_count,
        metavar="N",
        help="write the N comments nearest to the threshold, with an empty CLASS",
    )


if __name__ == "__main__":
    sys.exit(main())
