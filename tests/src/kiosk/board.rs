//! The boards that QEMU emulates, as far as a card needs them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;

use super::Card;

/// The serial number of [`Board::Virt`], which the firmware of a real one would write into its device tree.
pub const SERIAL: &str = "10000000abcdef01";

/// What the console of [`Board::Virt`] says when all has started, after a line for each unit that failed.
pub const LOOKED_AT: &str = "units have been looked at";
/// What each of those lines begins with.
pub const FAILED: &str = "failed unit: ";
const LOOKS: &str = "[Unit]
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/console
ExecStart=/bin/sh -c \"systemctl --failed --no-legend --plain | sed 's/^/failed unit: /'; echo units have been looked at\"
";

/// The kernel's arguments for a unit that the system has besides (systemd.system-credentials(7)) and starts.
pub fn extra_unit(name: &str, text: &str) -> String {
    let text = BASE64.encode(text.as_bytes());
    format!(
        "systemd.set_credential_binary=systemd.extra-unit.{name}.service:{text} systemd.wants={name}.service"
    )
}

/// What a card is put into.
pub enum Board {
    /// QEMU's own: fast, with a network, a screen and a watchdog that are no Raspberry Pi's, and the memory that a Zero 2 W has
    /// beside its screen's. Its clock begins in 1970, as that of boards without one does. Its card is a disk with a cache, which
    /// keeps what was flushed.
    Virt {
        /// Whether it has a network port.
        has_network: bool,
    },
    /// A Raspberry Pi 3 B, with its card reader, its serial lines and USB. It has no watchdog: QEMU's resets the board as soon as
    /// it is set. Its card has no cache, as those of SD have none that a board could flush: what it said is written is there, and
    /// what it was in the middle of may be torn.
    Pi3 {
        /// Where whoever plays the Bluetooth controller listens; absent: there is none.
        controller: Option<PathBuf>,
        /// Further arguments of the kernel.
        arguments: String,
    },
}

impl Board {
    /// QEMU with this board and card, but for its network, whose end here is called `network`. What the board's firmware would
    /// load from the card goes to `folder`.
    pub(super) fn command(&self, card: &Card, folder: &Path, console: &Path) -> Command {
        let load = |name: &str| {
            card.copy_out(name, &folder.join(name));
            folder.join(name)
        };
        let line = card.read("cmdline.txt").expect("a card has a cmdline.txt");
        // Without what the kernel does against spies in the processor: emulated, it takes a third of the start.
        let line = format!("{} systemd.show_status=yes kpti=off mitigations=off", line.trim());
        // Once somebody could log in on the serial line, systemd says nothing more there.
        let line = format!(
            "{line} systemd.mask=serial-getty@ttyAMA0.service systemd.mask=serial-getty@ttyS1.service"
        );
        let mut command = Command::new(qemu());
        command.args(["-display", "none", "-monitor", "none", "-no-reboot"]);
        command.arg("-kernel").arg(load("vmlinuz")).arg("-initrd").arg(load("initrd.img"));
        let drive = format!("file={},format=raw", card.path().display());
        let console = format!("file:{}", console.display());
        match self {
            Board::Virt { has_network } => {
                let machine = ["-cpu", "cortex-a72", "-smp", "2", "-m", "480"];
                let tree = folder.join("virt.dtb");
                let mut dump = Command::new(qemu());
                dump.args(["-nodefaults", "-display", "none"]).args(machine);
                dump.arg("-M").arg(format!("virt,dumpdtb={}", tree.display()));
                let ran = dump.output().unwrap_or_else(|error| panic!("{}: {error}", qemu().display()));
                assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
                fdtput(&["-t", "s"], &tree, &["/", "serial-number", SERIAL]);
                let line = line.replace("console=ttyS1,115200", "console=ttyAMA0");
                let line = format!("{line} {}", extra_unit("looked-at", LOOKS));
                command.args(["-M", "virt", "-nodefaults"]).args(machine).arg("-dtb").arg(tree);
                command.args(["-rtc", "base=1970-01-01T00:00:10", "-serial", &console, "-append", &line]);
                command.args(["-drive", &format!("{drive},if=none,id=card,cache=writeback")]);
                // A screen, that only QEMU sees.
                for device in [
                    "virtio-blk-pci,drive=card",
                    "virtio-rng-pci",
                    "i6300esb",
                    "virtio-gpu-pci,xres=800,yres=600",
                ] {
                    command.args(["-device", device]);
                }
                if *has_network {
                    // Without the program to start from a network, which QEMU's packages have elsewhere.
                    command.args(["-device", "virtio-net-pci,netdev=network,romfile="]);
                }
            }
            Board::Pi3 { controller, arguments } => {
                let tree = load("bcm2837-rpi-3-b.dtb");
                // The board's own Bluetooth, which QEMU does not have: its serial line is free for another controller.
                fdtput(&["-r"], &tree, &["/soc/serial@7e201000/bluetooth"]);
                command.args(["-M", "raspi3b"]).arg("-dtb").arg(tree);
                command.arg("-serial").arg(match controller {
                    Some(socket) => format!("unix:{}", socket.display()),
                    None => "null".to_owned(),
                });
                // Without a serial number in its tree, with which some kernels stand still here at once.
                let line = format!("{line} systemd.machine_id=77617970{:024x}", 1);
                // QEMU's network device is one for two drivers, of which one, where it comes first, moves nothing.
                let line = format!("{line} module_blacklist=bcm2835_wdt,cdc_subset");
                let line = format!("{line} {arguments}");
                command.args(["-serial", &console, "-append", line.trim_end()]);
                command.args([
                    "-drive",
                    &format!("{drive},if=sd,cache=writethrough"),
                    "-usb",
                    "-device",
                    "usb-net,netdev=network",
                ]);
            }
        }
        command
    }
}

/// The emulator of arm64: this machine's, unless another one is to be used.
fn qemu() -> OsString {
    std::env::var_os("WAYPOST_QEMU").unwrap_or_else(|| "qemu-system-aarch64".into())
}

/// Changes a device tree.
fn fdtput(options: &[&str], tree: &Path, what: &[&str]) {
    let ran = Command::new("fdtput").args(options).arg(tree).args(what).status();
    let ran = ran.unwrap_or_else(|error| panic!("fdtput (Debian package device-tree-compiler): {error}"));
    assert!(ran.success(), "fdtput {what:?}: {ran}");
}
