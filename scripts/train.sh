#!/usr/bin/env bash
# Trains a model: papermill runs notebooks/model-training.ipynb, and in staging and prod the model is published.
# Prints only the model id on stdout. Prints the steps, the day of the training data, the metrics and the outcome of the
# gate on stderr. Keeps the report (notebook and HTML) in data/, which holds the newest 20, and beside the model.
#
# usage: ENVIRONMENT=dev|staging|prod BUCKET=NAME scripts/train.sh [NAME=VALUE ...]
#
# NAME=VALUE   a parameter of the notebook's cell "parameters"; a blank VALUE means the default
# BUCKET       the bucket with the training data; optional in dev, which without it reads data/training/ or the sample
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"
python=$(find_python)
# Threads of numpy's BLAS do not help here; on a busy machine they wait for each other (70 s instead of 12 s).
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
exec "$python" -m pmip train "$@"
