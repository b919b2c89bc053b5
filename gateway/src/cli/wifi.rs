//! The gateway's own Wi-Fi network, for people.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use waypost_wifi_direct::{GroupStatus, channel};

use super::live::{ask_live, unexpected};
use super::output;
use crate::admin::{Answer, Request, WifiInvitation};
use waypost_config::printable;

/// How the group is, in a line.
pub(super) fn words(one: &GroupStatus) -> String {
    let why = if one.why.is_empty() { String::new() } else { format!(": {}", printable(&one.why)) };
    let radio = if one.radio.is_empty() { String::new() } else { format!("{} ", printable(&one.radio)) };
    let Some(up) = &one.group else { return format!("{radio}{}{why}", one.state) };
    let place = channel(up.frequency).map_or(String::new(), |number| format!(", channel {number}"));
    let stations = match one.stations {
        1 => "1 device".to_owned(),
        more => format!("{more} devices"),
    };
    format!("{radio}{} {}{place}, {stations} in it{why}", printable(&one.ssid), one.state)
}

/// Shows what it takes to join.
pub(super) fn show(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Answer::Wifi(invitation) = ask_live(path, &Request::Wifi)? else { return Err(unexpected()) };
    let text = code(&invitation);
    if json {
        let WifiInvitation { ssid, passphrase, pin, join } = &invitation;
        output::json(&serde_json::json!({
            "ssid": ssid, "passphrase": passphrase, "pin": pin, "join": join, "text": text,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let qr = QrCode::new(&text).context("the network's name and passphrase do not fit a QR code")?;
    output::line(&qr.render::<Dense1x2>().quiet_zone(true).build());
    output::line(&format!("network      {}", printable(&invitation.ssid)));
    output::line(&format!("passphrase   {}", invitation.passphrase));
    if let Some(pin) = &invitation.pin {
        output::line(&format!("PIN          {pin}  (for phones that join by Wi-Fi Direct)"));
    }
    output::line(
        "Whoever is in this network reaches the gateway and, with the firewall of docs/wifi.md, nothing else.",
    );
    Ok(ExitCode::SUCCESS)
}

/// What cameras of phones read: `WIFI:T:WPA;S:name;P:passphrase;;`, with a backslash before `\ ; , : "` (as in ZXing's
/// "Barcode Contents", which Android and iOS follow).
fn code(invitation: &WifiInvitation) -> String {
    let escaped = |text: &str| {
        let mut out = String::new();
        for character in text.chars() {
            if matches!(character, '\\' | ';' | ',' | ':' | '"') {
                out.push('\\');
            }
            out.push(character);
        }
        out
    };
    format!("WIFI:T:WPA;S:{};P:{};;", escaped(&invitation.ssid), escaped(&invitation.passphrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_one_that_cameras_read() {
        let of = |ssid: &str, passphrase: &str| {
            let (ssid, passphrase) = (ssid.to_owned(), passphrase.to_owned());
            code(&WifiInvitation { ssid, passphrase, pin: None, join: "button".to_owned() })
        };
        assert_eq!(of("DIRECT-ab-Clinic", "abcd2345efgh"), "WIFI:T:WPA;S:DIRECT-ab-Clinic;P:abcd2345efgh;;");
        assert_eq!(of("a;b\\c", "\"12:34,5\""), "WIFI:T:WPA;S:a\\;b\\\\c;P:\\\"12\\:34\\,5\\\";;");
    }
}
