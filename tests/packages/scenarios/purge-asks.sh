# Somebody at a terminal is asked whether a purge deletes documents, and what is answered counts.
. /scenarios/lib.bash

purge() { # answer
    install_packages /trial/now/waypost_*.deb >/dev/null
    install -d -o waypost -g waypost -m 700 /var/lib/waypost
    touch /var/lib/waypost/identity.key
    # A terminal, and debconf's plainest way to ask.
    (sleep 2 && echo "$1" && sleep 1) |
        script --quiet --return --command "DEBIAN_FRONTEND=teletype TERM=dumb dpkg --purge waypost" /dev/null | tee /tmp/asked
    grep -q 'Delete documents and keys of this gateway?' /tmp/asked || fail "nobody was asked"
}

step "no"
purge no
there /var/lib/waypost/identity.key
step "yes"
purge yes
gone /var/lib/waypost
