#!/usr/bin/env bash
# Pushes the API image of the commit that is checked out, tagged by the commit and as latest, and prints its name there.
#
# usage: scripts/push_api_image.sh [--dry-run] REPOSITORY-URI
#
# --dry-run       prints the commands instead
# REPOSITORY-URI  e.g. 123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip_api; the aws command logs in there
# API_IMAGE       default: pmip_api
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
push_image "$api_image" "$@"
