#!/usr/bin/env bash
# Measures how training scales: generates comments, runs scripts/train.sh on them, and prints the seconds and the peak
# memory of all processes for each number of comments. scripts/benchmark_training.py describes the generated comments.
# Needs psutil (scripts/install.sh train,test), 1 kB for each comment in the temporary folder, and 2.5 kB of memory for
# each comment. Nothing is published.
#
# usage: scripts/benchmark_training.sh [COMMENTS ...]      default: 10000 100000 1000000
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
for argument in "$@"; do
  case $argument in *[!0-9]* | '') refuse "$argument" ;; esac
done
python=$(find_python)
exec "$python" scripts/benchmark_training.py "$@"
