#!/usr/bin/env bash
# Installs pmip editable, with the pinned versions of requirements.txt: an edit of pmip/ needs no new installation.
#
# usage: scripts/install.sh [--venv] [EXTRAS]      default EXTRAS: train
#
# --venv   into .venv in the project's folder, which is made when it is missing; nothing is done when it is up to date
# EXTRAS   comma-separated: train (papermill, Jupyter), local (S3 server), lambda, dask (a cluster to train on), test,
#          fuzz (on Linux, with Python 3.11)
# PYTHON   the Python to install into, or to make .venv from; default: python3
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

main() {
  help_if_asked "$@"
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    die "$python is not Python 3.11 or later; PYTHON=/path/to/python3 chooses another one"
  if [ "${1:-}" = --venv ]; then
    install_into_venv "${2:-train}"
  else
    install_with "$python" "${1:-train}"
  fi
}

# The stamp tells what .venv holds: the pins it was made by, then the extras.
install_into_venv() { # install_into_venv EXTRAS
  local stamp=$root/.venv/.pmip-installed pins extras=$1 installed=
  pins=$(cat setup.py requirements.txt | cksum)
  if [ "$(sed -n 1p "$stamp" 2>/dev/null)" = "$pins" ]; then
    installed=$(sed -n 2p "$stamp")
    if has_all "$installed" "$extras"; then return; fi
    extras=$installed,$extras
  fi
  make_venv
  install_with .venv/bin/python "$extras"
  printf '%s\n%s\n' "$pins" "$extras" >"$stamp"
}

has_all() { # has_all INSTALLED WANTED
  local extra
  for extra in ${2//,/ }; do
    case ",$1," in *",$extra,"*) ;; *) return 1 ;; esac
  done
}

make_venv() {
  if [ -x .venv/bin/python ]; then return; fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
  say "making .venv"
  "$python" -m venv .venv >&2 || die "$python could not make .venv"
}

install_with() { # install_with PYTHON EXTRAS
  say "installing pmip[$2] with the versions of requirements.txt (a minute or two the first time)"
  "$1" -m pip install --quiet --use-pep517 --disable-pip-version-check -c requirements.txt -e ".[$2]" >&2 ||
    die "the installation failed; pip said why above"
}

main "$@"
