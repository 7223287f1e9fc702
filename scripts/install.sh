#!/usr/bin/env bash
# Installs pmip in editable mode with the pinned versions of requirements.txt. Edits of pmip/ need no new installation.
#
# usage: scripts/install.sh [--venv] [EXTRAS]      default EXTRAS: train
#
# --venv   install into .venv in the project's folder. It is created if it is missing, is incomplete, or was created
#          before the folder was moved. If it is up to date, nothing happens
# EXTRAS   comma-separated: train (papermill, Jupyter, scikit-learn), local (S3 server), lambda, dask (training on a
#          cluster), pickles (scikit-learn alone, for an API with TRUST_PICKLES=true), test (for scripts/test.sh), test-all
#          (only for its --all), fuzz (on Linux, with Python 3.11)
# PYTHON   the Python to install into, or to create .venv with; default: python3, or with --venv the first of python3,
#          python3.13, python3.12 and python3.11 that is Python 3.11 or later
#
# It takes one or two minutes and 0.8 GB with train and local, 1.1 GB with test, 1.8 GB with all extras.
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

main() {
  help_if_asked "$@"
  case ${1:-} in --venv) ;; -*) refuse "$1" ;; esac
  python=$(base_python)
  trap 'die -130 "stopped; the next call continues the installation"' INT
  if [ "${1:-}" = --venv ]; then
    one_installation_at_a_time
    install_into_venv "${2:-train}"
  else
    install_with "$python" "${1:-train}"
  fi
}

one_installation_at_a_time() {
  exec 8<setup.py
  if ! lock "$python" 8 LOCK_NB; then
    say "waiting for another installation into .venv"
    lock "$python" 8
  fi
}

# The stamp lists what is in .venv: a checksum of the pinned versions, then the extras.
install_into_venv() { # install_into_venv EXTRAS
  local stamp=$root/.venv/.pmip-installed pins installed="" extras extra
  require_whole_venv
  pins=$(cat setup.py requirements.txt | cksum)
  if [ "$(sed -n 1p "$stamp" 2>/dev/null)" = "$pins" ]; then installed=$(sed -n 2p "$stamp"); fi
  extras=$installed
  for extra in ${1//,/ }; do
    case ",$extras," in *",$extra,"*) ;; *) extras=${extras:+$extras,}$extra ;; esac
  done
  if [ "$extras" = "$installed" ]; then return; fi
  install_with .venv/bin/python "$extras"
  printf '%s\n%s\n' "$pins" "$extras" >"$stamp"
}

require_whole_venv() {
  if is_whole; then return; fi
  if [ -e .venv ]; then say ".venv is incomplete or was created in another folder; creating it again"; fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python cannot create a virtual environment;" \
    "on Debian and Ubuntu: apt-get install $(basename "$python")-venv"
  rm -rf .venv
  run_installing "creating .venv" "$python" -m venv .venv
}

# pip is installed last, and its first line names the folder in which .venv was created.
is_whole() {
  .venv/bin/python -Ic 'import pip' 2>/dev/null && grep -qF "$(cd .venv && pwd -P)/bin/" .venv/bin/pip 2>/dev/null
}

install_with() { # install_with PYTHON EXTRAS
  run_installing "installing pmip[$2] with the versions of requirements.txt (one or two minutes the first time)" \
    "$1" -m pip install --progress-bar off --use-pep517 --disable-pip-version-check -c requirements.txt -e ".[$2]"
}

run_installing() { # run_installing WHAT COMMAND [ARGUMENT ...]
  local log reason="the installation failed; the reason is above"
  log=$(mktemp "${TMPDIR:-/tmp}/pmip-install.XXXXXX") || die "cannot create a temporary file in ${TMPDIR:-/tmp}"
  # shellcheck disable=SC2064  # the current value
  trap "rm -f '$log'" EXIT
  if with_progress "$log" "$1" to_stderr "${@:2}"; then return; fi
  if disk_is_full "$log"; then
    reason="the disk is full: $(free_megabytes "$root") MB are free for .venv in $root,"
    reason="$reason $(free_megabytes "${TMPDIR:-/tmp}") MB for temporary files in ${TMPDIR:-/tmp}; see --help for the need"
  fi
  die "$reason"
}

# venv does not report why it could not install pip.
disk_is_full() { # disk_is_full LOG
  [ "$(free_megabytes "$root")" -lt 20 ] || grep -qE 'No space left on device|Disk quota exceeded|Errno 28' "$1"
}

to_stderr() { "$@" >&2; }

free_megabytes() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'; }

main "$@"
