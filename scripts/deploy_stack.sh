#!/usr/bin/env bash
# Creates one of pmip's stacks on AWS, or updates it to its template, and prints its outputs as NAME=VALUE.
#
# usage: scripts/deploy_stack.sh foundation|budget|training|serving|lambda [PARAMETER=VALUE ...]
#
# PARAMETER=VALUE  a parameter of scripts/cloudformation/STAGE.yml; others keep their value, at first the default
#
# An existing environment of serving keeps its version and its platform, unless others are given.
# shellcheck source=scripts/aws.sh
. "$(dirname "$0")/aws.sh"

main() {
  local begun
  parameters=("${@:2}")
  help_if_asked "$@"
  read_stage "$@"
  check_parameters "${@:2}"
  require_aws
  case $1 in
    training) make_role_of_ecs ;;
    serving) keep_what_serves ;;
  esac
  if [ ${#parameters[@]} -gt 0 ]; then parameters=(--parameter-overrides "${parameters[@]}"); fi
  begun=$(now)
  say "deploying $stack: a few minutes"
  aws cloudformation deploy --stack-name "$stack" --template-file "$template" --capabilities CAPABILITY_NAMED_IAM \
    --no-fail-on-empty-changeset ${parameters[@]+"${parameters[@]}"} >&2 || explain "$begun" "$1"
  describe_stack "$stack" "Outputs[].[join('=', [OutputKey, OutputValue])] || \`[]\`"
}

# aws silently ignores parameters that the template does not have. A value may be a secret, so it is not printed.
check_parameters() { # check_parameters [PARAMETER=VALUE ...]
  local parameter known newline=$'\n'
  known=$(sed -n '/^Parameters:/,/^[A-Z]/s/^  \([A-Za-z0-9]*\):.*/\1/p' "$template")
  for parameter in "$@"; do
    case $parameter in
      *=*) grep -Fqx -e "${parameter%%=*}" <<<"$known" && continue ;;
    esac
    die -2 "'${parameter%%=*}' is not a PARAMETER=VALUE of $template; the parameters are: ${known//$newline/, }"
  done
}

# Batch runs its jobs on ECS, and a new account lacks the role for it.
make_role_of_ecs() {
  if aws iam get-role --role-name AWSServiceRoleForECS >/dev/null 2>&1; then return; fi
  say "creating the role AWSServiceRoleForECS"
  aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com >/dev/null || say "continuing without it"
}

# New versions and platform updates reach the environment without the stack, so the stack must not undo them.
keep_what_serves() {
  local seen version platform
  seen=$(describe_environment "VersionLabel, PlatformArn") ||
    die "the state of pmip-env could not be read; the message of aws is above"
  IFS=$'\t' read -r version platform <<<"$seen"
  if [ "$version" = None ]; then return; fi
  give_unless_given "VersionLabel=$version"
  give_unless_given "PlatformArn=$platform"
}

give_unless_given() { # give_unless_given PARAMETER=VALUE
  local given
  for given in ${parameters[@]+"${parameters[@]}"}; do
    if [ "${given%%=*}" = "${1%%=*}" ]; then return; fi
  done
  parameters+=("$1")
}

explain() { # explain BEGUN STAGE
  tell_failures "$stack" "$1" || true
  tell_conflicts "$stack" "$1" || true
  die "$stack was not deployed. If this was its first deployment, delete the rest of it first: bash scripts/delete_stack.sh $2"
}

main "$@"
