#!/usr/bin/env bash
# Downloads the YouTube Spam Collection, 1,956 comments in five CSV files, and prints the path of the zip file.
#
# Usage: bash scripts/get_youtube_spam_collection.sh [FILE]
#
#   FILE   the path of the zip file (default DATA_DIR/YouTube-Spam-Collection-v1.zip); a complete one is kept
#
# Settings: DATA_DIR                     the data folder (default data)
#           YOUTUBE_SPAM_COLLECTION_URL  another address to download it from
#           PYTHON                       the Python that checks the file (default python3); it needs no packages
#
# The data set is by T. C. Alberto and J. V. Lochter, from the UCI Machine Learning Repository, under CC BY 4.0:
# https://archive.ics.uci.edu/dataset/380/youtube+spam+collection

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

page="https://archive.ics.uci.edu/dataset/380/youtube+spam+collection"
url=${YOUTUBE_SPAM_COLLECTION_URL:-"https://archive.ics.uci.edu/static/public/380/youtube+spam+collection.zip"}
python=${PYTHON:-python3}

main() {
  help_if_asked "$@"
  case ${1:-} in -*) refuse "$1" ;; esac
  if [ $# -gt 1 ]; then refuse "$2"; fi
  file=$(target "$@")
  if [ -e "$file" ] && check "$file"; then
    say "the collection is already there"
  else
    download
  fi
  echo "$file"
}

# FILE is relative to the caller's folder, DATA_DIR to the project's.
target() {
  if [ -n "${1:-}" ]; then absolute "$1"; return; fi
  caller_dir=$root
  absolute "${DATA_DIR:-data}/YouTube-Spam-Collection-v1.zip"
}

# The file gets its final name only when it is complete and checked.
download() {
  local new
  mkdir -p "$(dirname "$file")"
  unfinished=$(mktemp -d "$(dirname "$file")/.download.XXXXXX")
  trap 'rm -rf "$unfinished"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' HUP TERM
  new=$unfinished/collection.zip
  say "downloading $url"
  fetch "$new" || give_up "it could not be downloaded"
  check "$new" || give_up "the downloaded file is not the collection"
  mv -f "$new" "$file"
}

# The real file has 160 KB, so stop at a much larger one.
fetch() { # fetch FILE
  local show=--silent
  if [ -t 2 ]; then show=--progress-bar; fi
  curl "$show" --show-error --fail --location --proto '=http,https' \
    --connect-timeout 15 --max-time 120 --max-filesize 5000000 --output "$1" "$url"
}

give_up() {
  die "$1; download it with a browser from $page to $file, or train on notebooks/sample-training-data"
}

check() { # check FILE
  "$python" - "$1" <<'PYTHON'
import csv
import io
import sys
import zipfile

FILES = {
    "Youtube01-Psy.csv",
    "Youtube02-KatyPerry.csv",
    "Youtube03-LMFAO.csv",
    "Youtube04-Eminem.csv",
    "Youtube05-Shakira.csv",
}
COMMENTS = 1956
LARGEST_FILE = 5_000_000


def comments(archive, name):
    if archive.getinfo(name).file_size > LARGEST_FILE:
        raise ValueError(f"{name} is too large")
    with archive.open(name) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        if not {"CONTENT", "CLASS"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{name} has no columns CONTENT and CLASS")
        return sum(1 for _ in rows)


def check(path):
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.startswith("__MACOSX/")}
        if names != FILES:
            raise ValueError(f"it does not hold the five files {', '.join(sorted(FILES))}")
        found = sum(comments(archive, name) for name in FILES)
    if found != COMMENTS:
        raise ValueError(f"it holds {found} comments, not {COMMENTS}")


try:
    check(sys.argv[1])
except Exception as error:  # a wrong file may cause any exception
    sys.exit(f"{sys.argv[1]}: {error}")
PYTHON
}

main "$@"
