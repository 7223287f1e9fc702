#!/usr/bin/env bash
# Pushes the training image of the commit that is checked out, tagged by the commit and as latest, and prints its name there.
#
# usage: scripts/push_training_image.sh [--dry-run] REPOSITORY-URI
#
# --dry-run       prints the commands instead
# REPOSITORY-URI  e.g. 123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip; the aws command logs in there
# TRAINING_IMAGE  default: pmip
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
push_image "$training_image" "$@"
