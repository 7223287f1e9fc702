#!/usr/bin/env bash
# Downloads the newest training data to data/training/<YYYYMMDD>/ and prints the paths of its files.
#
# usage: BUCKET=NAME scripts/get_training_data.sh
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
exec "$python" -m pmip get-training-data "$@"
