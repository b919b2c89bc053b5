#!/usr/bin/env bash
# What mmdebstrap calls at its steps while base.sh runs (mmdebstrap(1), HOOKS).
#   base-hook.sh extract|essential|customize NATIVE ROOT
set -euo pipefail
step=$1
native=$2
root=$3
cd "$(dirname "$0")"

case $step in
extract)
    ./native.sh lend "$native" "$root"
    ;;
essential) # what these packages are set up with
    tar --create --directory=base --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --sort=name etc |
        tar --extract --directory="$root" --no-overwrite-dir --keep-directory-symlink
    ./native.sh show "$native" "$root"
    ;;
customize)
    ./native.sh hide "$root"
    sed -i /DPkg::Path/d "$root/etc/apt/apt.conf.d/99mmdebstrap"
    ;;
esac
