#!/usr/bin/env bash
# Deploys an API image to Elastic Beanstalk, waits until it serves, and prints its address. If the new version fails, it
# prints the reasons and deploys the previous version again.
#
# usage: scripts/deploy_api.sh [--bundle-only | --version-only | --redeploy] IMAGE-URI
#
# --bundle-only   only write build/pmip_api.zip, which 'eb deploy' sends
# --version-only  only register the version with Beanstalk, and print its label for a new environment
# --redeploy      make another version of the same image, so that the API restarts and reads rotated keys
# IMAGE-URI       the output of scripts/push_api_image.sh: 123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip_api:COMMIT
# POLL_SECONDS    seconds between two checks of the environment; default: 5
# HEALTH_SECONDS  how many seconds it may take to become Green after the update, and then to load a model; default: 300
#
# The same image gives the same version. After a failure run it again; to roll back, run it with the previous image.
# Where a Docker engine has the image, the script first warns if the image can serve no version in the bucket.
# shellcheck source=scripts/aws.sh
. "$(dirname "$0")/aws.sh"
# shellcheck source=scripts/containers.sh
. scripts/containers.sh

application=pmip
environment=pmip-env
bundle=build/pmip_api.zip
health_seconds=${HEALTH_SECONDS:-300}

main() {
  local previous
  read_arguments "$@"
  label=$(write_bundle)
  if [ "$mode" = --bundle-only ]; then echo "$bundle"; return; fi
  require_aws
  if [ "$mode" = --version-only ]; then add_version; echo "$label"; return; fi
  if [ "$mode" = --redeploy ]; then label=$label-$(date -u +%Y%m%dT%H%M%S); fi
  look
  previous=$version
  [ "$status" = Ready ] || die "$environment is ${status}: try again when it is Ready"
  if serves "$label"; then
    say "$environment already has $label"
  else
    add_version
    warn_if_no_version_is_servable
    update "$label"
  fi
  if ! serves "$label"; then give_up "$previous"; fi
  url=$(scheme)://$address/
  if ! is_ready; then give_up "$previous"; fi
  echo "$url"
}

read_arguments() {
  mode=
  help_if_asked "$@"
  case ${1:-} in --bundle-only | --version-only | --redeploy) mode=$1; shift ;; esac
  case ${1:-} in -*) refuse "$1" ;; esac
  if [ $# -ne 1 ]; then usage >&2; exit 2; fi
  image=$1
  check_image
}

# Requires a fixed tag or a digest; with 'latest' a rollback would run the newest image again.
check_image() {
  local registry='[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]+)?' path='[a-z0-9]+([._/-]+[a-z0-9]+)*'
  local name="^$registry/$path(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})\$"
  [[ $image =~ $name ]] || die -2 "'$image' is not an image in a registry; give the one that push_api_image.sh printed"
  case $image in *:latest) die -2 "$image: 'latest' can become another image; name it by its commit" ;; esac
}

# --- the version ---

# Prints its label. The same input gives the same bytes, and the same bytes give the same label.
write_bundle() {
  "${PYTHON:-python3}" - "$image" "$bundle" <<'PYTHON'
import hashlib
import json
import sys
import zipfile
from pathlib import Path

image, bundle = sys.argv[1], Path(sys.argv[2])
dockerrun = json.loads(Path("Dockerrun.aws.json").read_text())
dockerrun["Image"]["Name"] = image
folder = Path("scripts/beanstalk")
paths = sorted([*folder.glob(".ebextensions/*.config"), *folder.glob(".platform/nginx/conf.d/*.conf")])
files = {path.relative_to(folder).as_posix(): path.read_text() for path in paths}
files["Dockerrun.aws.json"] = json.dumps(dockerrun, indent=2) + "\n"

bundle.parent.mkdir(exist_ok=True)
with zipfile.ZipFile(bundle, "w") as archive:
    for name, text in files.items():
        entry = zipfile.ZipInfo(name)  # always with the date 1980-01-01
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, text)
tag = image.rpartition(":")[2][:40]
print(f"{tag}-{hashlib.sha256(bundle.read_bytes()).hexdigest()[:8]}")
PYTHON
}

# After a change of pmip/text.py, the model has to be trained with the new code before the API is deployed with it.
warn_if_no_version_is_servable() {
  docker image inspect "$image" >/dev/null 2>&1 || return 0
  ENVIRONMENT=$(describe_stack pmip-serving "Parameters[?ParameterKey=='Environment'].ParameterValue") || return 0
  BUCKET=$(foundation_output BucketName) || return 0
  export ENVIRONMENT BUCKET
  servable_version "$image" >/dev/null ||
    say "warning: $image serves no version of $ENVIRONMENT yet, as its message above says; train with its code first"
}

add_version() {
  local bucket key=deployments/api/$label.zip known
  known=$(aws elasticbeanstalk describe-application-versions --application-name "$application" --output text \
    --version-labels "$label" --query 'ApplicationVersions[].VersionLabel') || stop
  if [ "$known" = "$label" ]; then return; fi
  bucket=$(foundation_output BucketName) || exit
  say "uploading version $label"
  aws s3 cp --only-show-errors "$bundle" "s3://$bucket/$key" || stop
  aws elasticbeanstalk create-application-version --application-name "$application" --version-label "$label" \
    --description "$image" --source-bundle "S3Bucket=$bucket,S3Key=$key" >/dev/null || stop
}

stop() { die "$environment is unchanged${version:+, with $version ($health)}; the message of aws is above"; }

# --- the environment ---

look() {
  local seen
  seen=$(describe_environment "Status, Health, VersionLabel, CNAME") ||
    die "the state of $environment could not be read${begun:+; its update continues}; the message of aws is above"
  IFS=$'\t' read -r status health version address <<<"$seen"
  [ "$status" != None ] || die "there is no environment $environment; 'bash scripts/deploy_stack.sh serving' creates it"
}

# Waits for the end of the update, then for the health, which changes later.
update() { # update LABEL
  local deadline
  say "deploying $1"
  begun=$(aws elasticbeanstalk update-environment --environment-name "$environment" --version-label "$1" --output text \
    --query DateUpdated) || stop
  shown=nothing status=Updating
  until [ "$status" = Ready ]; do sleep "$poll_seconds"; look_and_tell; done
  deadline=$((SECONDS + health_seconds))
  until [ "$health" = Green ] || [ $SECONDS -ge $deadline ]; do sleep "$poll_seconds"; look_and_tell; done
}

# Continues if the events cannot be read.
look_and_tell() {
  local events lines
  look
  events=$(aws elasticbeanstalk describe-events --environment-name "$environment" --start-time "$begun" --output text \
    --query 'Events[].[EventDate, Severity, Message]' | sort) || return 0
  lines=$(new_lines "$events" "$shown")
  if [ -n "$lines" ]; then echo "$lines" >&2; fi
  shown=$events
}

serves() { # serves LABEL
  [ "$version" = "$1" ] && [ "$health" = Green ]
}

# Green only means that requests are answered; /readiness says whether a model is loaded. --insecure, because the
# certificate is for another name than the environment's own; the request contains nothing secret.
is_ready() {
  local answer code deadline=$((SECONDS + health_seconds))
  while true; do
    if ! answer=$(curl --silent --show-error --insecure --max-time 10 --write-out '\n%{http_code}' "${url}readiness"); then
      say "${url}readiness cannot be reached from here, so it is unknown whether the API has a model"
      return
    fi
    code=${answer##*$'\n'}
    if [ "$code" = 200 ]; then return; fi
    if [ $SECONDS -ge $deadline ]; then break; fi
    sleep "$poll_seconds"
  done
  say "${url}readiness answers $code: ${answer%$'\n'*}"
  return 1
}

# With a certificate, the environment only answers HTTPS.
scheme() {
  local certificate
  certificate=$(describe_stack pmip-serving "Parameters[?ParameterKey=='CertificateArn'].ParameterValue") || true
  case $certificate in '' | None) echo http ;; *) echo https ;; esac
}

# After a failed update the hosts may have different versions, so deploy the previous version to all of them.
give_up() { # give_up PREVIOUS
  say "$label is not serving: $environment has $version and is $health"
  aws elasticbeanstalk describe-environment-health --environment-name "$environment" --attribute-names Causes \
    --query 'Causes[].[@]' --output text >&2 || true
  case $1 in None | "$label") die "$label failed, and there is no previous version to return to" ;; esac
  if serves "$1"; then die "$label failed; $1 still serves"; fi
  say "returning to $1"
  update "$1"
  if serves "$1"; then die "$label failed; $1 serves again"; fi
  die "$label failed, and so did the return to $1: $environment has $version and is $health"
}

main "$@"
