#!/usr/bin/env bash
# Builds the training image from the working directory, and the API image with the code of it. Tags them with the commit
# and latest, and prints the name of the API image.
#
# usage: scripts/build_api_image.sh
#
# API_IMAGE  the image's name; default: pmip_api. For other settings see scripts/build_training_image.sh --help
# EXTRAS     which libraries it has beside those of serving; default: lambda. With lambda,pickles it can run models that
#            cannot be read as data (TRUST_PICKLES=true)
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
if [ $# -gt 0 ]; then refuse "$1"; fi
base=$(bash scripts/build_training_image.sh)
build_image "$api_image" Dockerfile "TRAINING_IMAGE=$base" "GIT_REVISION=$(git_revision)" \
  ${PYTHON_IMAGE:+"PYTHON_IMAGE=$PYTHON_IMAGE"} ${EXTRAS:+"EXTRAS=$EXTRAS"}
