//! Frame 0: the only clear bytes of a session, and the only clear answer to them.

use crate::ids::CodeId;

/// Lowest protocol version that this crate speaks.
pub const LOWEST_VERSION: u8 = 1;
/// Highest protocol version that this crate speaks.
pub const HIGHEST_VERSION: u8 = 1;

const MAGIC: &[u8; 4] = b"WPST";
/// In the place of the pattern: "no common version, mine are …".
const NO_COMMON_VERSION: u8 = 0xff;

/// A range of protocol versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub lowest: u8,
    /// The highest.
    pub highest: u8,
}

impl Versions {
    /// What this crate speaks.
    pub const OURS: Versions = Versions { lowest: LOWEST_VERSION, highest: HIGHEST_VERSION };

    /// Whether a version is among them.
    pub fn has(self, version: u8) -> bool {
        (self.lowest..=self.highest).contains(&version)
    }

    /// The highest that both speak.
    pub fn common(self, other: Versions) -> Option<u8> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.lowest == self.highest {
            true => write!(f, "{}", self.lowest),
            false => write!(f, "{} to {}", self.lowest, self.highest),
        }
    }
}

/// Which Noise handshake follows (Noise Protocol Framework, revision 34, §7.5 and §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `IK`: both know each other.
    Known,
    /// `IKpsk2`: the initiator was shown a pairing code.
    Code(CodeId),
    /// `XX`: first contact without a code, where the responder's access is open.
    Open,
}

/// The initiator's frame 0. Its bytes are the prologue of the handshake, so that nobody on the way can change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// What the initiator speaks.
    pub versions: Versions,
    /// The handshake that it begins.
    pub pattern: Pattern,
}

/// Why a first frame opens no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// Something else than Waypost speaks.
    #[error("the other side does not speak Waypost")]
    NotWaypost,
    /// A pattern of a newer version.
    #[error("the other side asks for handshake {0}, which this program does not know; update it")]
    UnknownPattern(u8),
}

impl Opening {
    /// The bytes: magic, lowest version, highest version, pattern, for a code its id.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([self.versions.lowest, self.versions.highest]);
        match self.pattern {
            Pattern::Known => out.push(1),
            Pattern::Code(id) => {
                out.push(2);
                out.extend(id.as_bytes());
            }
            Pattern::Open => out.push(3),
        }
        out
    }

    /// Reads a frame 0. Versions are read before the pattern is looked at, so that they can be compared first.
    pub fn parse(frame: &[u8]) -> Result<(Versions, Result<Opening, OpeningError>), OpeningError> {
        let rest = frame.strip_prefix(MAGIC).ok_or(OpeningError::NotWaypost)?;
        let [lowest, highest, pattern, rest @ ..] = rest else { return Err(OpeningError::NotWaypost) };
        let versions = Versions { lowest: *lowest, highest: *highest };
        let pattern = match (pattern, rest) {
            (1, []) => Ok(Pattern::Known),
            (2, id) => CodeId::from_slice(id).map(Pattern::Code).map_err(|_| OpeningError::NotWaypost),
            (3, []) => Ok(Pattern::Open),
            (1 | 3, _) => Err(OpeningError::NotWaypost),
            (other, _) => Err(OpeningError::UnknownPattern(*other)),
        };
        Ok((versions, pattern.map(|pattern| Opening { versions, pattern })))
    }
}

/// The responder's only clear answer: "no common version, mine are …".
pub fn encode_no_common_version(ours: Versions) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend([ours.lowest, ours.highest, NO_COMMON_VERSION]);
    out
}

/// Reads the clear answer; `None` where the frame is something else, such as a handshake message.
pub fn parse_no_common_version(frame: &[u8]) -> Option<Versions> {
    match frame.strip_prefix(MAGIC)? {
        [lowest, highest, NO_COMMON_VERSION] => Some(Versions { lowest: *lowest, highest: *highest }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_frame_is_an_opening_or_an_error(frame: Vec<u8>, tail: Vec<u8>) {
            let _ = Opening::parse(&frame);
            let _ = Opening::parse(&[MAGIC.as_slice(), &tail].concat());
            let _ = parse_no_common_version(&[MAGIC.as_slice(), &tail].concat());
        }

        #[test]
        fn an_opening_comes_back(lowest: u8, highest: u8, id: [u8; 8], which in 0..3) {
            let pattern = [Pattern::Known, Pattern::Code(CodeId(id)), Pattern::Open][which as usize];
            let versions = Versions { lowest, highest };
            let opening = Opening { versions, pattern };
            prop_assert_eq!(Opening::parse(&opening.encode()), Ok((versions, Ok(opening))));
        }
    }

    #[test]
    fn the_highest_common_version_is_taken() {
        let versions = |lowest, highest| Versions { lowest, highest };
        assert_eq!(versions(1, 3).common(versions(2, 5)), Some(3));
        assert_eq!(versions(1, 1).common(versions(2, 5)), None);
        assert_eq!(versions(4, 6).common(versions(1, 4)), Some(4));
    }
}
