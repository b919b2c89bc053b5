#!/usr/bin/env bash
# While an arm64 root is made on another machine, lets that machine's own builds of the same programs stand in for those that
# packages' scripts call most: started under emulation, perl alone takes seconds each time. What is installed in the root is
# installed by its own dpkg, and set up by its own systemd; and its own programs stay as they are.
#   native.sh make FOLDER         gets them, in some seconds
#   native.sh lend FOLDER ROOT    in a mount namespace of its own: what looks in /native first finds them
#   native.sh show FOLDER ROOT    and mounts them over the root's own, once those are installed, for scripts that name their interpreter
#   native.sh hide ROOT           before the root is taken for what it is
set -euo pipefail
# Elsewhere the root's own do: on arm64 they are the machine's.
[ "$(uname -m)" = x86_64 ] || exit 0
release=$(<"$(dirname "$0")/debian")

# None that says what machine this is, and none that is copied into an initramfs.
packages=bash,coreutils,cpio,dash,debianutils,diffutils,dpkg,findutils,grep,gzip,kmod,mawk,perl-base,sed,tar,xz-utils,zstd
programs=(bash cmp cpio dash diff dpkg-deb find grep gzip mawk perl run-parts sed tar update-alternatives xargs xz zstd
    basename cat chgrp chmod chown cp cut date dd dirname env expr head id install ln ls mkdir mktemp mv readlink realpath rm rmdir
    sha256sum sort stat tail tee test touch tr true false uniq wc)
places=(usr/lib64 usr/lib/x86_64-linux-gnu native)

make_them() { # FOLDER
    [ ! -d "$1" ] || return 0
    rm -rf "$1.new"
    local mirrors keys
    mirrors=$(python3 "$(dirname "$0")/../tests/radio-lab/guest/mirrors.py")
    keys=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)
    mmdebstrap --quiet --variant=extract --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --include=$packages $release "$1.new" "deb [signed-by=$keys] ${mirrors%%$'\n'*} $release main"
    mkdir "$1.new/native"
    cp --link "${programs[@]/#/$1.new/usr/bin/}" "$1.new/native/"
    # Its library is kept out of the way: an initramfs takes what has that name for any machine.
    mkdir "$1.new/native/lib"
    mv "$1.new"/usr/lib/x86_64-linux-gnu/libkmod.so.2* "$1.new/native/lib/"
    cp --link "$1.new/usr/bin/kmod" "$1.new/native/kmod"
    printf '#!/bin/sh\nexec /lib64/ld-linux-x86-64.so.2 --argv0 depmod --library-path /native/lib /native/kmod "$@"\n' >"$1.new/native/depmod"
    chmod 755 "$1.new/native/depmod"
    mv "$1.new" "$1"
}

lend() { # FOLDER ROOT
    local place
    for place in "${places[@]}"; do
        mkdir -p "$2/$place"
        mount --bind -o ro "$1/$place" "$2/$place"
    done
    ln -s usr/lib64 "$2/lib64"
}

show() { # FOLDER ROOT
    local program
    mountpoint --quiet "$2/native" || lend "$1" "$2"
    for program in "${programs[@]/#/usr/bin/}"; do
        [ ! -e "$2/$program" ] || mount --bind -o ro "$1/$program" "$2/$program"
    done
}

hide() { # ROOT
    local program place
    for program in "${programs[@]/#/usr/bin/}"; do
        ! mountpoint --quiet "$1/$program" || umount "$1/$program"
    done
    rm "$1/lib64"
    for place in "${places[@]}"; do
        umount "$1/$place"
        rmdir "$1/$place"
    done
}

case $1 in
make) make_them "$2" ;;
lend) lend "$2" "$3" ;;
show) show "$2" "$3" ;;
hide) hide "$2" ;;
esac
