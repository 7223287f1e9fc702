#!/usr/bin/env bash
# Builds the training image, then the API image on it, from the working directory. Tags them by the commit and as latest,
# and prints the API image's name.
#
# usage: scripts/build_api_image.sh
#
# API_IMAGE  the image's name; default: pmip_api. For the others see scripts/build_training_image.sh --help
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
base=$(bash scripts/build_training_image.sh)
build_image "$api_image" Dockerfile "TRAINING_IMAGE=$base"
