"""Makes a new day of training data from the newest day and files of new comments, so that nobody merges by hand."""

import csv
import logging
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from pmip.errors import TrainingDataError
from pmip.store.objects import Storage
from pmip.training.comments import contradictory, labelled_comments
from pmip.training.data import PREFIX, TrainingData, local_files, pull, seed
from pmip.training.files import named
from pmip.training.tables import PREDICTED

MERGED = "comments.csv.gz"

log = logging.getLogger(__name__)


def add(
    storage: Storage, paths: Sequence[Path], training_data_id: str | None, *, newer_wins: bool, dry_run: bool
) -> list[str]:
    """Store the newest day's comments and those of some files as a new day, and return its address.

    A text that repeats with the same label is added once. Raise `TrainingDataError` for a text with another label than
    before, with its places, unless `newer_wins`. The earlier days are not changed.
    """
    added, unlabelled = labelled_comments(local_files(paths), to_merge=True)
    if added.empty:
        raise TrainingDataError(f"{named([str(path) for path in paths])}: no comment has a label in the column CLASS")
    with tempfile.TemporaryDirectory(prefix="pmip-") as folder:
        newest = pull(storage, Path(folder))
        day = labelled_comments(newest.files, to_merge=True)[0]
        training_data_id = training_data_id or _next_day(newest)
        merged = _merged(day, _apart(added, day, training_data_id), newer_wins=newer_wins)
        relabelled = int((merged["CLASS"][: len(day)].to_numpy() != day["CLASS"].to_numpy()).sum())
        repeated = len(day) + len(added) - len(merged)
        log.info("%s/: %s comments", storage.url(PREFIX + newest.training_data_id), len(day))
        log.info("with a label: %s, of which %s repeat a text; without: %s, left out", len(added), repeated, unlabelled)
        log.info(
            "%s/: %s comments, %s with a changed label", storage.url(PREFIX + training_data_id), len(merged), relabelled
        )
        if dry_run or (len(merged) == len(day) and not relabelled):
            log.info("nothing is stored: %s", "this is a dry run" if dry_run else "the files hold nothing new")
            return []
        path = Path(folder, MERGED)
        merged.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC, compression={"method": "gzip", "mtime": 0})
        return seed(storage, [path], training_data_id)


def _next_day(newest: TrainingData) -> str:
    """Return today, or the day after the newest one if that is not in the past, so that the next run uses it."""
    after = datetime.strptime(newest.training_data_id, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
    return f"{max(after, datetime.now(UTC)):%Y%m%d}"


def _apart(added: pd.DataFrame, day: pd.DataFrame, training_data_id: str) -> pd.DataFrame:
    """Rename sources that only a file names and that the day holds already: another file had the same name."""
    if added.empty:
        return added
    is_same = added["source_is_file"] & added["source"].isin(day["source"])
    return added.assign(source=added["source"].where(~is_same, added["source"] + f" ({training_data_id})"))


def _merged(day: pd.DataFrame, added: pd.DataFrame, *, newer_wins: bool) -> pd.DataFrame:
    """Return the comments of the day and those of `added` whose text is new; newer labels replace those of the day."""
    texts, new_texts = day["CONTENT"].str.strip(), added["CONTENT"].str.strip()
    newest = added["CLASS"].groupby(new_texts).last()
    newer_label = texts.map(newest)
    outdated = newer_label.notna() & (newer_label != day["CLASS"])
    if not newer_wins:
        outdated &= ~contradictory(day)  # the day holds both labels already
        others = pd.concat([day[outdated], added[added["CLASS"] != new_texts.map(newest)]])
        _require_no_contradictions(others, added.assign(text=new_texts).drop_duplicates("text", keep="last"))
    relabelled = day.assign(CLASS=day["CLASS"].where(~outdated, newer_label).astype("int64"))
    is_new = ~new_texts.isin(texts) & ~new_texts.duplicated(keep="last")
    merged = pd.concat([relabelled, added[is_new]], ignore_index=True)
    return merged.drop(columns=["source_file", "source_row", "source_is_file", *PREDICTED], errors="ignore")


def _require_no_contradictions(others: pd.DataFrame, newest: pd.DataFrame) -> None:
    """Raise an error with the places of each text that has another label in `newest`."""
    now = newest.set_index("text")
    places = [
        f"{now.at[text, 'source_file']}, comment {now.at[text, 'source_row']}: {now.at[text, 'CLASS']}, "
        f"but {other.source_file}, comment {other.source_row}: {other.CLASS}"
        for other, text in zip(others.itertuples(), others["CONTENT"].str.strip(), strict=True)
    ]
    if places:
        mend = "correct the labels, or use --newer-wins to replace the older ones"
        raise TrainingDataError(f"the same text has two labels: {named(places, '; ')}; {mend}")
