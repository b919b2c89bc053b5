//! TUN devices: interfaces whose packets come out of, and go into, a descriptor of this process.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Largest packet on the emulated network in bytes, as on most real ones.
pub(crate) const MTU: u16 = 1500;

#[expect(clippy::cast_possible_truncation, reason = "AF_INET is 2")]
const FAMILY: libc::sa_family_t = libc::AF_INET.unsigned_abs() as libc::sa_family_t;

/// Makes a TUN interface with an address in the network namespace of the calling thread and turns it on. Reading and
/// writing its descriptor never blocks; each read and write is one IP packet.
pub(crate) fn tun(name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<File> {
    let device =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = interface(name)?;
    request.ifr_ifru.ifru_flags = short(libc::IFF_TUN | libc::IFF_NO_PI);
    control(&device, libc::TUNSETIFF, &mut request)?;
    let socket = control_socket()?;
    request.ifr_ifru.ifru_addr = internet(address);
    control(&socket, libc::SIOCSIFADDR, &mut request)?;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    request.ifr_ifru.ifru_netmask = internet(Ipv4Addr::from(mask));
    control(&socket, libc::SIOCSIFNETMASK, &mut request)?;
    request.ifr_ifru.ifru_mtu = i32::from(MTU);
    control(&socket, libc::SIOCSIFMTU, &mut request)?;
    set_up(name, true)?;
    Ok(device)
}

/// Turns an interface of the calling thread's network namespace on or off; off takes its routes away.
pub(crate) fn set_up(name: &str, up: bool) -> io::Result<()> {
    let mut request = interface(name)?;
    request.ifr_ifru.ifru_flags = if up { short(libc::IFF_UP) } else { 0 };
    control(&control_socket()?, libc::SIOCSIFFLAGS, &mut request)
}

fn control_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

fn interface(name: &str) -> io::Result<libc::ifreq> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_map: libc::__c_anonymous_ifru_map {
                mem_start: 0,
                mem_end: 0,
                base_addr: 0,
                irq: 0,
                dma: 0,
                port: 0,
            },
        },
    };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "interface names have at most 15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn internet(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: FAMILY, sa_data: data }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the kernel's field has 16 bits, and so have these flags"
)]
const fn short(flags: libc::c_int) -> libc::c_short {
    flags as libc::c_short
}

fn control(descriptor: &impl AsRawFd, request: libc::Ioctl, argument: &mut libc::ifreq) -> io::Result<()> {
    #[expect(unsafe_code, reason = "interfaces are configured by ioctl")]
    // SAFETY: all requests in this file take an ifreq, which outlives the call.
    let answer = unsafe { libc::ioctl(descriptor.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    nix::errno::Errno::result(answer)?;
    Ok(())
}
