//! A site whose gateway reaches its destination over an emulated network only.

use std::io;
use std::time::Duration;

use super::{Destination, Gateway, Phone, folder};
use crate::wan::{Conditions, Wan};

/// Runs `scene` inside the gateway's network; the destination is at the other end of the line. `plugged`: whether the
/// gateway's interface is there from the beginning. Only news from the kernel makes this gateway try again soon.
#[track_caller]
pub fn over_a_line(
    conditions: Conditions,
    plugged: bool,
    scene: impl FnOnce(&Wan, &mut Destination, &mut Gateway, Phone) + Send,
) {
    let folder = folder();
    let wan = Wan::new(conditions).unwrap();
    let far = wan.far();
    let destination = far.namespace().run(|| {
        let home = folder.path().join("destination");
        let mut destination = Destination::make_at(&home, far.address(), &far.address().to_string());
        destination.start();
        io::Result::Ok(destination)
    });
    let mut destination = destination.unwrap();
    wan.near().plug(plugged).unwrap();
    let near = wan.near().namespace().run(|| {
        let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
        gateway.configure("50-slow", "[upload]\nprobe_interval = \"10min\"\nmax_backoff = \"10min\"\n");
        gateway.start();
        let phone = Phone::make(&folder.path().join("anna"), "anna");
        phone.add_destination(&destination);
        phone.pair(&gateway);
        scene(&wan, &mut destination, &mut gateway, phone);
        Ok(())
    });
    near.unwrap();
}

/// What a network's DHCP gives with its address: without it only the other end of the line is reached.
#[track_caller]
pub fn default_route(wan: &Wan) {
    let (near, gateway) = (wan.near(), wan.far().address().to_string());
    // Of several lines the kernel prefers the one that was made last.
    let metric = (100 - u32::from(wan.near().address().octets()[2])).to_string();
    let route = ["route", "add", "default", "via", &gateway, "dev", near.interface(), "metric", &metric];
    assert!(near.command("ip").args(route).status().unwrap().success());
}

/// The stick is pulled out and put back in.
#[track_caller]
pub fn replug(wan: &Wan) {
    wan.near().plug(false).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    wan.near().plug(true).unwrap();
    default_route(wan);
}
