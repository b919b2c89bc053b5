#!/usr/bin/env bash
# Looks whether a program runs on the oldest Debian that packages are for (12), with the libraries that they depend on.
#   oldest.sh PROGRAM     says what it asks for besides, and fails
#   oldest.sh --here      succeeds where what is linked on this machine does
set -euo pipefail
glibc=2.36
# Of libraries with versions of their symbols: Debian 12's. OpenSSL 3.0 names all of its own 3.0.0.
libraries="libc.so.6 libm.so.6 libgcc_s.so.1 libcrypto.so.3 libssl.so.3 libdbus-1.so.3 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1"

newer() { # version, than
    [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]
}

if [ "$1" = --here ]; then
    ! newer "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" "$glibc"
    exit
fi

asks=()
while read -r library; do
    [[ " $libraries " = *" $library "* ]] || asks+=("$library")
done < <(readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
while read -r name version; do
    case $name in
    GLIBC) ! newer "$version" "$glibc" || asks+=("glibc $version") ;;
    OPENSSL) ! newer "$version" 3.0.0 || asks+=("OpenSSL $version") ;;
    LIBDBUS) ;;
    esac
done < <(readelf -VW "$1" | grep -oE 'Name: (GLIBC|OPENSSL|LIBDBUS)_[0-9.]+' | sed -e 's/Name: //' -e 's/_/ /' | sort -u)
[ ${#asks[@]} -eq 0 ] && exit
printf '%s asks for what Debian 12 does not have, or its package does not depend on:' "${1##*/}" >&2
printf ' %s;' "${asks[@]}" >&2
echo " images/packages.sh without --built links it with Debian 12's libraries" >&2
exit 1
