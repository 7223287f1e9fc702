#!/usr/bin/env bash
# Measures how training grows: generates comments, runs the whole of scripts/train.sh on them, and prints for each number
# of comments the seconds and the peak memory over all processes. scripts/benchmark_training.py tells the rule by which
# comments are generated. Needs psutil (scripts/install.sh train,test), a temporary folder with 1 kB a comment, and for
# a million comments about 8 GB of memory. Nothing is published.
#
# usage: scripts/benchmark_training.sh [COMMENTS ...]      default: 10000 100000 1000000
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
exec "$python" scripts/benchmark_training.py "$@"
