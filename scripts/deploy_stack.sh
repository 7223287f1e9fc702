#!/usr/bin/env bash
# Makes one of the stacks that pmip is on AWS, or brings it up to its template, and prints its outputs as NAME=VALUE.
#
# usage: scripts/deploy_stack.sh foundation|training|serving|lambda [PARAMETER=VALUE ...]
#
# PARAMETER=VALUE  a parameter of scripts/cloudformation/STAGE.yml; what is left out stays as it is, at first the default
# shellcheck source=scripts/aws.sh
. "$(dirname "$0")/aws.sh"

main() {
  local begun parameters=()
  help_if_asked "$@"
  read_stage "$@"
  check_parameters "${@:2}"
  require_aws
  if [ $# -gt 1 ]; then parameters=(--parameter-overrides "${@:2}"); fi
  begun=$(now)
  say "deploying $stack: a few minutes"
  aws cloudformation deploy --stack-name "$stack" --template-file "$template" --capabilities CAPABILITY_NAMED_IAM \
    --no-fail-on-empty-changeset ${parameters[@]+"${parameters[@]}"} >&2 || explain "$begun" "$1"
  aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query "Stacks[0].Outputs[].[join('=', [OutputKey, OutputValue])] || \`[]\`"
}

# aws itself leaves out what the template does not have, without a word. A value may be a secret: it is not repeated.
check_parameters() { # check_parameters [PARAMETER=VALUE ...]
  local parameter known newline=$'\n'
  known=$(sed -n '/^Parameters:/,/^[A-Z]/s/^  \([A-Za-z0-9]*\):.*/\1/p' "$template")
  for parameter in "$@"; do
    case $parameter in
      *=*) grep -Fqx -e "${parameter%%=*}" <<<"$known" && continue ;;
    esac
    die -2 "'${parameter%%=*}' is no PARAMETER=VALUE of $template; there are: ${known//$newline/, }"
  done
}

explain() { # explain BEGUN STAGE
  tell_failures "$stack" "$1" || true
  die "$stack was not deployed. If it never was, delete what is left of it first: bash scripts/delete_stack.sh $2"
}

main "$@"
