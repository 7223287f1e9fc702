#!/usr/bin/env bash
# Checks .csv and .zip files of comments, uploads them as the training data of a day, and prints their addresses.
# A day that holds data already is refused: a new day becomes the newest and is what the next run trains on.
#
# usage: BUCKET=NAME scripts/seed_training_data.sh FILE... [YYYYMMDD]      default: today (UTC)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
files=()
day=()
for argument in "$@"; do
  case $argument in
    [0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]) day=(--day "$argument") ;;
    *) files+=("$(absolute "$argument")") ;;
  esac
done
exec "$python" -m pmip seed-training-data ${day[@]+"${day[@]}"} -- ${files[@]+"${files[@]}"}
