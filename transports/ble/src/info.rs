//! What the characteristic `info` says: how a link can be made.

use bluer::Uuid;

/// The UUID of the service, which is advertised.
pub(crate) const SERVICE: Uuid = Uuid::from_u128(0x78df_0001_ceee_4977_900e_04ce_3063_8004);
/// Read: [`Info`].
pub(crate) const INFO: Uuid = Uuid::from_u128(0x78df_0002_ceee_4977_900e_04ce_3063_8004);
/// Written without response: fragments from who connected.
pub(crate) const RX: Uuid = Uuid::from_u128(0x78df_0003_ceee_4977_900e_04ce_3063_8004);
/// Notified: fragments to who connected.
pub(crate) const TX: Uuid = Uuid::from_u128(0x78df_0004_ceee_4977_900e_04ce_3063_8004);

/// The version of the service that this is.
pub(crate) const VERSION: u8 = 1;
const GATT_TAKEN: u8 = 1;

/// Why a value of `info` is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InfoError {
    /// Fewer than 4 bytes.
    #[error("its info has {0} bytes, 4 are needed")]
    Short(usize),
    /// A service that this program does not know.
    #[error("it has version {0} of the Bluetooth service, this program knows 1; update the older one")]
    Version(u8),
}

/// How a link can be made. Bytes: version, flags (bit 0: [`Info::gatt_taken`]), PSM as u16 little-endian; more may follow
/// and is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Info {
    /// PSM of the L2CAP listener, 0x80 to 0xff; `None`: GATT only.
    pub(crate) psm: Option<u16>,
    /// Another phone has the GATT link: there is one at a time.
    pub(crate) gatt_taken: bool,
}

impl Info {
    /// The characteristic's value.
    pub(crate) fn encode(self) -> Vec<u8> {
        let flags = if self.gatt_taken { GATT_TAKEN } else { 0 };
        let [low, high] = self.psm.unwrap_or(0).to_le_bytes();
        vec![VERSION, flags, low, high]
    }

    /// From the characteristic's value.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, InfoError> {
        let &[version, flags, low, high, ..] = value else { return Err(InfoError::Short(value.len())) };
        if version != VERSION {
            return Err(InfoError::Version(version));
        }
        let psm = Some(u16::from_le_bytes([low, high])).filter(|psm| *psm != 0);
        Ok(Info { psm, gatt_taken: flags & GATT_TAKEN != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_four_bytes_and_may_grow() {
        let info = Info { psm: Some(0x85), gatt_taken: true };
        assert_eq!(info.encode(), [1, 1, 0x85, 0]);
        assert_eq!(Info::decode(&[1, 1, 0x85, 0, 9, 9]), Ok(info));
        assert_eq!(Info::decode(&[1, 0, 0, 0]), Ok(Info { psm: None, gatt_taken: false }));
        assert_eq!(Info::decode(&[1, 0, 0]), Err(InfoError::Short(3)));
        assert_eq!(Info::decode(&[2, 0, 0, 0]), Err(InfoError::Version(2)));
    }
}
