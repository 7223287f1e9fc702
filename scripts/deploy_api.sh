#!/usr/bin/env bash
# Deploys an API image to Elastic Beanstalk, waits until it serves, and prints its address. A version that fails is
# told with its reasons, and the one before it serves again.
#
# usage: scripts/deploy_api.sh [--bundle-only | --version-only | --redeploy] IMAGE-URI
#
# --bundle-only   only writes build/pmip_api.zip, which 'eb deploy' sends
# --version-only  only gives the version to Beanstalk, and prints its label, with which the environment can begin
# --redeploy      makes another version of the same image, so that the API starts anew and reads rotated keys
# IMAGE-URI       what scripts/push_api_image.sh printed: 123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip_api:COMMIT
# POLL_SECONDS    how often to look at the environment; default: 5
# HEALTH_SECONDS  how long it may take to become Green after the update, and then to have a model; default: 300
#
# The same image makes the same version: after a failure call it again, to roll back call it with the image before.
# shellcheck source=scripts/aws.sh
. "$(dirname "$0")/aws.sh"

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
    say "$environment has $label already"
  else
    add_version
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
  if [ $# -ne 1 ]; then usage >&2; exit 2; fi
  image=$1
  check_image
}

# By a tag that stays or a digest: else going back to a version would run what is newest.
check_image() {
  local registry='[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]+)?' path='[a-z0-9]+([._/-]+[a-z0-9]+)*'
  local name="^$registry/$path(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})\$"
  [[ $image =~ $name ]] || die -2 "'$image' is no image in a registry, such as the one that push_api_image.sh printed"
  case $image in *:latest) die -2 "$image: 'latest' will be another image; name it by its commit" ;; esac
}

# --- the version ---

# Prints its label. The same input makes the same bytes, and these the same label.
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
        entry = zipfile.ZipInfo(name)  # of 1980, whenever it is made
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, text)
tag = image.rpartition(":")[2][:40]
print(f"{tag}-{hashlib.sha256(bundle.read_bytes()).hexdigest()[:8]}")
PYTHON
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

stop() { die "$environment is as it was${version:+, with $version ($health)}; aws said why above"; }

# --- the environment ---

look() {
  local seen
  seen=$(aws elasticbeanstalk describe-environments --application-name "$application" --environment-names "$environment" \
    --output text --query "Environments[?Status!='Terminated'] | [0].[Status, Health, VersionLabel, CNAME]") ||
    die "$environment could not be looked at${begun:+; its update goes on}; aws said why above"
  IFS=$'\t' read -r status health version address <<<"$seen"
  [ "$status" != None ] || die "there is no environment $environment; 'bash scripts/deploy_stack.sh serving' makes it"
}

# Waits for the end of the update, then for the health, which lags behind.
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

# Events that could not be read are told, and spoil nothing.
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

# Beanstalk's Green says that requests are answered: whether there is a model to answer by, the API tells itself.
# The certificate is for another name than the environment's own; nothing secret is asked or sent.
is_ready() {
  local answer code deadline=$((SECONDS + health_seconds))
  while true; do
    if ! answer=$(curl --silent --show-error --insecure --max-time 10 --write-out '\n%{http_code}' "${url}readiness"); then
      say "${url}readiness could not be asked from here: whether the API has a model is not known"
      return
    fi
    code=${answer##*$'\n'}
    if [ "$code" = 200 ]; then return; fi
    if [ $SECONDS -ge $deadline ]; then break; fi
    sleep "$poll_seconds"
  done
  say "${url}readiness says $code: ${answer%$'\n'*}"
  return 1
}

# With a certificate the environment answers HTTPS alone, by the name that the certificate is for.
scheme() {
  local certificate
  certificate=$(aws cloudformation describe-stacks --stack-name pmip-serving --output text \
    --query "Stacks[0].Parameters[?ParameterKey=='CertificateArn'].ParameterValue") || true
  case $certificate in '' | None) echo http ;; *) echo https ;; esac
}

# After a failed update some hosts may have either version: deploying the old one once more makes them all alike.
give_up() { # give_up PREVIOUS
  say "$label is not serving: $environment has $version and is $health"
  aws elasticbeanstalk describe-environment-health --environment-name "$environment" --attribute-names Causes \
    --query 'Causes[].[@]' --output text >&2 || true
  case $1 in None | "$label") die "$label failed, and there is no version before it to go back to" ;; esac
  if serves "$1"; then die "$label failed; $1 still serves"; fi
  say "going back to $1"
  update "$1"
  if serves "$1"; then die "$label failed; $1 serves again"; fi
  die "$label failed, and so did going back to $1: $environment has $version and is $health"
}

main "$@"
