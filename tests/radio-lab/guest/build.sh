#!/usr/bin/env bash
# Builds the guest of the radio lab into a folder: a kernel, an initial RAM disk, a Debian root with systemd and BlueZ.
#   build.sh FOLDER     needs mmdebstrap, cpio, kmod, e2fsprogs; root, or user namespaces
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
release=trixie

lines() { grep -v '^#' "$1"; }

# The machine's own mirrors.
mirrors=$(python3 mirrors.py)
{ read -r main && read -r security; } <<<"$mirrors" || true
signed="[signed-by=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)]"
sources=("deb $signed $main $release main")
[ -z "$security" ] || sources+=("deb $signed $security $release-security main")

# In a user namespace, mmdebstrap's hooks are somebody else, who may not look into anybody's home.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 777 "$work"
cp -r . "$work/guest"
chmod -R a+rX "$work/guest"

python=$(../../tools/python.sh)
"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
    --python-version 3.13 --requirement requirements.txt --dest "$work/wheels"

# No cleanup of what is thrown away.
mmdebstrap --quiet --skip=cleanup --variant=minbase --architectures=amd64 --format=null \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
    --include="$(lines packages.txt | paste -sd,)" \
    --customize-hook="'$work/guest/customize.sh' \"\$1\" '$work'" \
    "$release" "$work/nothing" "${sources[@]}"

mkdir -p "$out"
for part in kernel initrd root.img; do
    mv "$work/$part" "$out/$part"
done
