#!/usr/bin/env bash
# Checks files of comments (.csv, .tsv, .csv.gz, .zip), uploads them as the training data of a day, and prints their
# addresses. It refuses a day that already holds data. The next training run uses the newest day.
#
# usage: BUCKET=NAME scripts/seed_training_data.sh [--if-empty] FILE... [YYYYMMDD]      default: today (UTC)
#
# --if-empty   do nothing if the bucket already holds training data
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
files=()
options=()
for argument in "$@"; do
  case $argument in
    --if-empty) options+=("$argument") ;;
    -*) refuse "$argument" ;;
    [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]) options+=(--day "$argument") ;;
    *) files+=("$(absolute "$argument")") ;;
  esac
done
exec "$python" -m pmip seed-training-data ${options[@]+"${options[@]}"} -- ${files[@]+"${files[@]}"}
