#!/usr/bin/env bash
# Trains a model: papermill runs notebooks/model-training.ipynb, and in staging and prod the model is published.
# Prints the model id alone on stdout; on stderr the steps, then the day of the training data, how good the model is and
# what the gate said. The report (notebook and HTML) is kept in data/, where the newest 20 stay, and beside the model.
#
# usage: ENVIRONMENT=dev|staging|prod BUCKET=NAME scripts/train.sh [NAME=VALUE ...]
#
# NAME=VALUE   a parameter of the notebook's cell "parameters"; a blank VALUE is the default
# BUCKET       where the training data is; may be left out in dev, which then reads data/training/ or the sample
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
# The threads of numpy's BLAS gain nothing here, and on a busy machine wait for each other: 70 s instead of 12.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
exec "$python" -m pmip train "$@"
