#!/usr/bin/env bash
# Downloads the newest training data and the newest model into data/, which dev uses, and prints the model id.
#
# usage: BUCKET=NAME scripts/get_latest_model.sh [staging|prod]      default: staging
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
model_id=$("$python" -m pmip get-latest-model "$@")
"$python" -m pmip get-training-data >&2
echo "$model_id"
