//! Why something could not be done, with what to do about it.

/// Why something could not be done over Wi-Fi.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WifiError {
    /// Nobody answers on the message bus.
    #[error(
        "wpa_supplicant does not run ({0}); install wpasupplicant, and start it: systemctl start wpa_supplicant"
    )]
    NoService(String),
    /// The message bus lets this user not speak to it.
    #[error(
        "the message bus does not let this user use wpa_supplicant; on Debian: adduser USER netdev, and log in again"
    )]
    Denied,
    /// No radio fits.
    #[error("no Wi-Fi radio {0} is there; plug one in, or name another")]
    NoRadio(String),
    /// Switched off by rfkill or a hardware switch.
    #[error("the Wi-Fi radio {0} is blocked; unblock it: rfkill unblock wifi")]
    Blocked(String),
    /// The driver, or wpa_supplicant as it was built, knows no Wi-Fi Direct.
    #[error("the Wi-Fi radio {0} cannot do Wi-Fi Direct; see docs/wifi.md for drivers that can")]
    Unsupported(String),
    /// The driver has no interface for a group beside the radio's own.
    #[error(
        "the driver of the Wi-Fi radio {0} has no interface for a group, which its firewall would know it by; see docs/wifi.md for \
         drivers that have one"
    )]
    NoGroupInterface(String),
    /// wpa_supplicant does not answer: what was to be done.
    #[error("wpa_supplicant does not answer (tried to {0})")]
    Hung(&'static str),
    /// A network could not be joined.
    #[error("the network {0} could not be joined: {1}")]
    NotJoined(String, &'static str),
    /// Nobody of that kind is near.
    #[error("nobody near answers over Wi-Fi Direct; go nearer, and try again")]
    Nobody,
    /// Anything else.
    #[error("Wi-Fi: {doing}: {why}")]
    Failed {
        /// What was to be done.
        doing: &'static str,
        /// wpa_supplicant's reason.
        why: String,
    },
}

/// The errors of wpa_supplicant's D-Bus API and of the bus that have a meaning of their own.
pub(crate) fn meaning(doing: &'static str, name: &str, text: &str, radio: &str) -> WifiError {
    match name {
        "org.freedesktop.DBus.Error.ServiceUnknown"
        | "org.freedesktop.DBus.Error.NameHasNoOwner"
        | "org.freedesktop.DBus.Error.NoReply"
        | "org.freedesktop.DBus.Error.Spawn.ChildExited"
        | "org.freedesktop.DBus.Error.Spawn.ServiceNotValid"
        | "org.freedesktop.systemd1.NoSuchUnit"
        | "org.freedesktop.systemd1.UnitMasked" => WifiError::NoService(text.to_owned()),
        "org.freedesktop.DBus.Error.AccessDenied" => WifiError::Denied,
        "fi.w1.wpa_supplicant1.InterfaceUnknown" if text.contains("P2P") => {
            WifiError::Unsupported(radio.to_owned())
        }
        "fi.w1.wpa_supplicant1.InterfaceUnknown" => WifiError::NoRadio(radio.to_owned()),
        // What a property answers where there is no Wi-Fi Direct, and what a method does.
        "org.freedesktop.DBus.Error.Failed" if text.contains("P2P is not available") => {
            WifiError::Unsupported(radio.to_owned())
        }
        "org.freedesktop.DBus.Error.UnknownMethod" | "org.freedesktop.DBus.Error.UnknownInterface"
            if text.contains("P2P") =>
        {
            WifiError::Unsupported(radio.to_owned())
        }
        _ => WifiError::Failed { doing, why: format!("{text} ({name})") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_admin_can_do_something_about_has_its_own_words() {
        let said = |name: &str, text: &str| meaning("start the group", name, text, "wlan0").to_string();
        let unknown = "org.freedesktop.DBus.Error.ServiceUnknown";
        assert!(said(unknown, "The name is not activatable").contains("install wpasupplicant"));
        assert!(said("org.freedesktop.DBus.Error.AccessDenied", "").contains("adduser USER netdev"));
        let error = "org.freedesktop.DBus.Error.Failed";
        assert!(said(error, "P2P is not available for this interface").contains("cannot do Wi-Fi Direct"));
        assert_eq!(
            said("fi.w1.wpa_supplicant1.UnknownError", "Failed to reinvoke a persistent group"),
            "Wi-Fi: start the group: Failed to reinvoke a persistent group (fi.w1.wpa_supplicant1.UnknownError)"
        );
    }
}
