import os
open('/dev/ttyS1','w').write('hello from the guest, up %s\n' % open('/proc/uptime').read())
os.system('systemd-analyze blame > /results/blame.txt; systemd-analyze critical-chain radio-lab.service > /results/chain.txt; journalctl -b -o short-monotonic > /results/journal.txt; systemctl list-units --no-pager > /results/units.txt; cp /etc/bluetooth/main.conf /results/; /usr/libexec/bluetooth/bluetoothd --help > /results/bluetoothd-help.txt; cp /usr/lib/systemd/system/bluetooth.service /results')
open('/results/summary.txt','w').write('0 passed, 0 failed\n')
