# A new installation: programs, pages, completions, users, files, and a gateway that runs as it is.
. /scenarios/lib.bash

install_packages /trial/now/*.deb

step "the programs"
for program in waypost waypost-phone waypost-destination; do
    is "the name of $program" "$($program --version | cut -d' ' -f1)" "$program"
    dpkg --verify "$program"
done

step "their manual pages"
pages=(/usr/share/man/man1/waypost*.1.gz)
[ ${#pages[@]} -gt 60 ] || fail "there are only ${#pages[@]} pages"
there /usr/share/man/man1/waypost{-pair,-documents-list,-phone-sync,-destination-gateways-add}.1.gz
for page in "${pages[@]}"; do
    mandoc -T lint -W warning "$page"
done
mandoc -T ascii /usr/share/man/man1/waypost-export.1.gz | grep -q identity || fail "waypost-export(1) does not name --identity"

step "their completions"
for program in waypost waypost-phone waypost-destination; do
    bash -c ". /usr/share/bash-completion/completions/$program && complete -p $program" >/dev/null
    there /usr/share/zsh/vendor-completions/_$program /usr/share/fish/vendor_completions.d/$program.fish
    ! command -v zsh >/dev/null || zsh -n /usr/share/zsh/vendor-completions/_$program
    ! command -v fish >/dev/null || fish --no-execute /usr/share/fish/vendor_completions.d/$program.fish
done

step "what belongs to it"
for package in waypost waypost-phone waypost-destination; do
    there /usr/share/doc/$package/{copyright,changelog.gz,changelog.Debian.gz,THIRD-PARTY.md}
done
there /usr/share/doc/waypost/examples/bluetooth/main.conf /usr/share/dbus-1/system.d/waypost.conf

step "users and groups, files and who may read them"
for user in waypost waypost-destination; do
    is "the shell of $user" "$(getent passwd $user | cut -d: -f7)" /usr/sbin/nologin
    [ "$(id -u $user)" -lt 1000 ] || fail "$user is no system user"
done
getent group netdev >/dev/null || fail "there is no group netdev, without which the unit does not start"
owner_and_mode /usr/bin/waypost "root:root 755"
owner_and_mode /etc/waypost "root:waypost 750"
owner_and_mode /etc/waypost/gateway.d "root:waypost 750"
owner_and_mode /var/lib/waypost-destination "waypost-destination:waypost-destination 700"
dpkg-query -W -f '${Conffiles}\n' waypost | grep -q '^ /etc/waypost/gateway.toml ' || fail "gateway.toml is no conffile"

step "the gateway is started with the machine, the destination where its admin says so"
is "waypost.service" "$(systemctl is-enabled waypost.service)" enabled
is "waypost-destination.service" "$(systemctl is-enabled waypost-destination.service || true)" disabled
# Debian 12's systemd is too old for how tries to start again are spread, and says that it ignores that.
systemd-analyze verify --man=no --recursive-errors=no waypost.service waypost-destination.service >/tmp/verified 2>&1 || true
if grep -vE 'Unknown key .(RestartSteps|RestartMaxDelaySec).* ignoring' /tmp/verified; then
    fail "systemd finds something wrong in the units"
fi

step "a gateway as it is installed runs, and says that it has no destination"
as waypost waypost check
install -d -o waypost -g waypost -m 700 /var/lib/waypost
install -d -o waypost -g waypost -m 750 /run/waypost
start waypost waypost run
await 20 as waypost waypost status
as waypost waypost status | tee /tmp/status
grep -qi 'destination' /tmp/status || fail "status does not tell of the missing destination"
stop
