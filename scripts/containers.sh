# Scripts that build, run and push images source this file instead of common.sh, or after aws.sh.
# shellcheck shell=bash
# shellcheck source=scripts/common.sh
type help_if_asked >/dev/null 2>&1 || . "$(dirname "$0")/common.sh"

# shellcheck disable=SC2034  # used by the scripts
training_image=${TRAINING_IMAGE:-pmip}
api_image=${API_IMAGE:-pmip_api}

require_engine() {
  command -v docker >/dev/null || die "docker is not installed; see https://docs.docker.com/get-started/get-docker/"
  docker version >/dev/null 2>&1 || die "no Docker engine answers; start Docker, or set DOCKER_HOST to an engine"
}

# Otherwise docker would look on Docker Hub, where anybody could own this name.
require_image() { # require_image IMAGE
  local script=build_training_image.sh
  case $1 in "$api_image"*) script=build_api_image.sh ;; esac
  docker image inspect "$1" >/dev/null 2>&1 || die "there is no image $1; 'bash scripts/$script' builds it"
}

# Prints the commit, with -dirty if there are uncommitted changes, or nothing outside a checkout.
git_revision() { git describe --always --dirty --abbrev=40 '--exclude=*' 2>/dev/null || true; }

# --- build ---

# Newer builders add attestations, which turn an image into an index of several manifests, but Lambda accepts only a
# single manifest. Older builders ignore the variable.
export BUILDX_NO_DEFAULT_ATTESTATIONS=1

# Prints the image's name. A build argument without a value gets it from the environment.
build_image() { # build_image IMAGE DOCKERFILE BUILD-ARGUMENT...
  local image=$1 dockerfile=$2 revision argument options=()
  shift 2
  revision=$(git_revision)
  if [ -n "$revision" ]; then options=(--tag "$image:$revision"); fi
  for argument in "$@"; do options+=(--build-arg "$argument"); done
  say "building $image"
  docker build --file "$dockerfile" --tag "$image:latest" ${options[@]+"${options[@]}"} . >&2 ||
    die "$image could not be built; docker's message is above"
  echo "$image:${revision:-latest}"
}

# --- run ---

# Every container gets the caller's id, so that the caller owns its files; the project; settings; AWS credentials.
docker_arguments=()
prepare_container() { # prepare_container IMAGE ro|rw [ARGUMENT OF THE CONTAINER ...]
  require_engine
  require_image "$1"
  docker_arguments=(--rm --user "$(id -u):$(id -g)" --security-opt no-new-privileges)
  if [ -t 0 ] && [ -t 1 ]; then
    docker_arguments+=(--interactive --tty)
  elif [ "${3:-}" = - ]; then
    docker_arguments+=(--interactive)
  fi
  mount_project "$2"
  pass_settings
  pass_aws "$1"
}

# Prints the newest version of ENVIRONMENT in BUCKET that an image's own code can serve; fails if there is none.
servable_version() { # servable_version IMAGE
  docker_arguments=(--rm --user "$(id -u):$(id -g)" --env ENVIRONMENT --env BUCKET)
  pass_aws "$1"
  docker run "${docker_arguments[@]}" "$1" -c 'exec python -m pmip versions --servable'
}

mount_project() { # mount_project ro|rw
  docker_arguments+=(--volume "$root:/usr/src/app:$1")
  case ${DATA_DIR:-} in
    /*) mkdir -p "$DATA_DIR"; docker_arguments+=(--volume "$DATA_DIR:/data:$1" --env DATA_DIR=/data) ;;
    ?*) docker_arguments+=(--env DATA_DIR) ;;
  esac
}

# Passes settings by name, so that no value is on a command line, except for paths and addresses of this machine.
pass_settings() {
  local name
  while read -r name; do
    if [ -z "${!name:-}" ]; then continue; fi
    case $name in
      HOST | PORT | DATA_DIR | MODEL_CACHE_DIR | PROMETHEUS_* | GIT_REVISION | AWS_*) ;;
      API_KEYS_FILE) mount_folder_of "$name" ;;
      *) docker_arguments+=(--env "$name") ;;
    esac
  done < <(sed -n 's/.*read("\([A-Z_]*\)".*/\1/p' pmip/config.py)
}

pass_aws() { # pass_aws IMAGE
  local name url
  if [ -d ~/.aws ]; then docker_arguments+=(--volume ~/.aws:/tmp/.aws:ro); fi
  # Credentials of 'aws login' are valid for 15 minutes, those of 'aws sso login' for hours; boto3 renews them here.
  for name in login/cache sso/cache; do
    if [ -d ~/.aws/"$name" ]; then docker_arguments+=(--volume ~/.aws/"$name:/tmp/.aws/$name"); fi
  done
  export_credentials
  for name in $(compgen -e AWS_ || true); do
    case $name in
      AWS_ENDPOINT_URL*) url=$(reachable "${!name}" "$1"); docker_arguments+=(--env "$name=$url") ;;
      *_FILE | AWS_CA_BUNDLE) pass_file "$name" ;;
      *) docker_arguments+=(--env "$name") ;;
    esac
  done
}

# The image does not have the program that credential_process names, so pass its answer.
export_credentials() {
  local line
  if [ -n "${AWS_ACCESS_KEY_ID:-}" ] || ! aws configure get credential_process >/dev/null 2>&1; then return; fi
  while read -r line; do
    case $line in AWS_*=*) export "${line?}" ;; esac
  done < <(aws configure export-credentials --format env-no-export)
}

# Mounts the folder of a file, because a container does not see that a mounted file is replaced by another one.
mount_folder_of() { # mount_folder_of NAME
  local path
  path=$(absolute "${!1}")
  docker_arguments+=(--volume "$(dirname "$path"):/run/pmip/$1:ro" --env "$1=/run/pmip/$1/$(basename "$path")")
}

pass_file() { # pass_file NAME
  if [ -e "${!1}" ]; then docker_arguments+=(--volume "${!1}:/run/pmip/$1:ro" --env "$1=/run/pmip/$1"); fi
}

# Prints an address that containers can reach. A server on the loopback interface, such as the local S3 server, is
# forwarded to the engine's bridge while this process, which becomes docker, runs; the network cannot reach the bridge.
# An engine in a virtual machine, as on a Mac, can reach the loopback interface without this.
reachable() { # reachable URL IMAGE
  local port address forwarded
  if ! [[ $1 =~ ^http://(127\.0\.0\.1|localhost):([0-9]+)/?$ ]]; then echo "$1"; return; fi
  port=${BASH_REMATCH[2]}
  address=$(address_of_this_machine "$2")
  if forwarded=$("${PYTHON:-python3}" scripts/forward_port.py "$address" "$port" $$); then port=$forwarded; fi
  echo "http://$address:$port"
}

# Prints a number, because boto3 would put the name of the bucket in front of a host name.
address_of_this_machine() { # address_of_this_machine IMAGE
  docker run --rm --add-host host.docker.internal:host-gateway --entrypoint python "$1" \
    -c 'import socket; print(socket.gethostbyname("host.docker.internal"))'
}

# Publishes a port on the loopback interface. A container with arguments may run without it.
publish() { # publish SETTING PORT CONTAINER-PORT [ARGUMENT OF THE CONTAINER ...]
  if ! (: <>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then
    docker_arguments+=(--publish "127.0.0.1:$2:$3")
  elif [ $# -gt 3 ]; then
    say "port $2 is in use, so this container publishes none; choose another one with $1"
  else
    die "port $2 is in use; choose another one with $1"
  fi
}

# --- push ---

# Pushes the tags of the commit and latest, and prints the name with the commit. A commit that is already in the registry
# is not replaced: it may be in service, and this project's repositories on AWS do not allow it.
push_image() { # push_image IMAGE [--dry-run] REPOSITORY-URI
  local image=$1 revision tag
  shift
  dry_run=false
  if [ "${1:-}" = --dry-run ]; then dry_run=true; shift; fi
  check_repository "$@"
  require_engine
  revision=$(git_revision)
  case $revision in
    '') die "this is not a git checkout, but a pushed image is tagged with its commit" ;;
    *-dirty) die "there are uncommitted changes: commit them and build again, because a pushed image is tagged with its commit" ;;
  esac
  require_image "$image:$revision"
  log_in "$1"
  if ! $dry_run && docker manifest inspect "$1:$revision" >/dev/null 2>&1; then
    say "$1:$revision is already there"
    echo "$1:$revision"
    return
  fi
  for tag in "$revision" latest; do
    run docker tag "$image:$revision" "$1:$tag"
    run docker push "$1:$tag"
  done
  if ! $dry_run; then echo "$1:$revision"; fi
}

check_repository() { # check_repository REPOSITORY-URI
  if [ $# -ne 1 ]; then usage >&2; exit 2; fi
  case $1 in
    '' | -* | *://* | *[[:space:]]* | *@*) die -2 "'$1' is not a repository; give one such as registry.example.com/pmip" ;;
  esac
  case ${1##*/} in
    *:*) die -2 "$1: leave out the tag; the image is tagged with its commit and latest" ;;
  esac
}

run() { if $dry_run; then echo "$*"; else "$@" >&2; fi; }

# Logs in to AWS's registry with the caller's AWS credentials; to other registries the caller has logged in.
log_in() { # log_in REPOSITORY-URI
  local registry=${1%%/*} region
  case $registry in *.dkr.ecr.*.amazonaws.com*) ;; *) return ;; esac
  region=${registry#*.dkr.ecr.}
  region=${region%%.*}
  if $dry_run; then
    echo "aws ecr get-login-password --region $region | docker login --username AWS --password-stdin $registry"
    return
  fi
  command -v aws >/dev/null || die "the aws command is not installed; it gives the password of $registry"
  aws ecr get-login-password --region "$region" | docker login --username AWS --password-stdin "$registry" >&2 ||
    die "the login to $registry failed; the message of aws or docker is above"
}
