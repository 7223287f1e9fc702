#!/usr/bin/env bash
# Checks files of comments (.csv, .tsv, .csv.gz, .zip), uploads them as the training data of a day, and prints their
# addresses. It refuses a day that already holds data. The next training run uses the newest day.
#
# usage: BUCKET=NAME scripts/seed_training_data.sh [--if-empty] FILE... [YYYYMMDD]      default: today (UTC)
#        scripts/seed_training_data.sh --add [--newer-wins] [--dry-run] FILE... [YYYYMMDD]
#
# --if-empty     do nothing if the bucket already holds training data
# --add          make a new day of the newest day and the files; without BUCKET in the local data folder
# --newer-wins   where a text has another label than before, the label of the files replaces it
# --dry-run      say what --add would do
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
files=()
options=()
for argument in "$@"; do
  case $argument in
    --if-empty | --add | --newer-wins | --dry-run) options+=("$argument") ;;
    -*) refuse "$argument" ;;
    [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]) options+=(--day "$argument") ;;
    *) files+=("$(absolute "$argument")") ;;
  esac
done
exec "$python" -m pmip seed-training-data ${options[@]+"${options[@]}"} -- ${files[@]+"${files[@]}"}
