//! The Noise handshakes, through `snow`, with randomness as an argument.

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::{Introduction, Opening, Pattern, SessionError};
use crate::advertising::AdvertisingKey;
use crate::ids::PeerKey;

const IK: &str = "Noise_IK_25519_ChaChaPoly_SHA256";
const IK_PSK2: &str = "Noise_IKpsk2_25519_ChaChaPoly_SHA256";
const XX: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// A node's static X25519 key pair. Cannot be printed.
#[derive(Clone)]
pub struct Identity {
    private: Zeroizing<[u8; 32]>,
    public: PeerKey,
}

/// A private key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("no usable key pair ({0})")]
pub struct IdentityError(String);

impl Identity {
    /// From 32 private bytes.
    pub fn from_private(private: [u8; 32]) -> Result<Self, IdentityError> {
        let private = Zeroizing::new(private);
        let unsupported = || IdentityError("X25519 is missing".into());
        let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519).ok_or_else(unsupported)?;
        dh.set(private.as_slice());
        let public = PeerKey::from_slice(dh.pubkey()).map_err(|error| IdentityError(error.to_string()))?;
        Ok(Identity { private, public })
    }

    /// A new one from `rng`, which must be fit for keys.
    pub fn generate(rng: &mut dyn RngCore) -> Result<Self, IdentityError> {
        let mut private = [0; 32];
        rng.fill_bytes(&mut private);
        Self::from_private(private)
    }

    /// The public half: this node's name to its peers.
    pub fn public(&self) -> PeerKey {
        self.public
    }

    /// With which this node's advertisements are recognised: told to peers that are known.
    pub fn advertising_key(&self) -> AdvertisingKey {
        AdvertisingKey::of_private(&self.private)
    }

    /// The private half, for storage.
    pub fn expose_private(&self) -> &[u8; 32] {
        &self.private
    }
}

pub(super) fn initiator(
    introduction: &Introduction,
    psk: Option<&[u8; 32]>,
    identity: &Identity,
    prologue: &[u8],
    primitives: BoxedCryptoResolver,
) -> Result<HandshakeState, snow::Error> {
    let builder = match introduction {
        Introduction::Known(peer) => {
            builder(IK, identity, prologue, primitives)?.remote_public_key(peer.as_bytes())?
        }
        Introduction::Code(peer, _) => {
            builder(IK_PSK2, identity, prologue, primitives)?.remote_public_key(peer.as_bytes())?
        }
        Introduction::Open => builder(XX, identity, prologue, primitives)?,
    };
    match psk {
        Some(psk) => builder.psk(2, psk)?.build_initiator(),
        None => builder.build_initiator(),
    }
}

pub(super) fn responder(
    opening: &Opening,
    psk: Option<&[u8; 32]>,
    identity: &Identity,
    prologue: &[u8],
    primitives: BoxedCryptoResolver,
) -> Result<HandshakeState, snow::Error> {
    let builder = match opening.pattern {
        Pattern::Known => builder(IK, identity, prologue, primitives)?,
        Pattern::Code(_) => builder(IK_PSK2, identity, prologue, primitives)?,
        Pattern::Open => builder(XX, identity, prologue, primitives)?,
    };
    match psk {
        Some(psk) => builder.psk(2, psk)?.build_responder(),
        None => builder.build_responder(),
    }
}

fn builder<'a>(
    name: &str,
    identity: &'a Identity,
    prologue: &'a [u8],
    primitives: BoxedCryptoResolver,
) -> Result<Builder<'a>, snow::Error> {
    let params: NoiseParams = name.parse()?;
    Builder::with_resolver(params, primitives)
        .local_private_key(identity.private.as_slice())?
        .prologue(prologue)
}

pub(super) fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, SessionError> {
    let mut message = vec![0; payload.len() + 256];
    let length = noise.write_message(payload, &mut message).map_err(SessionError::Handshake)?;
    message.truncate(length);
    Ok(message)
}

pub(super) fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Bytes, SessionError> {
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(message, &mut payload).map_err(SessionError::Handshake)?;
    payload.truncate(length);
    Ok(payload.into())
}

pub(super) fn remote(noise: &HandshakeState) -> Result<PeerKey, SessionError> {
    let key = noise.get_remote_static().ok_or(SessionError::NotEstablished)?;
    PeerKey::from_slice(key).map_err(|_| SessionError::NotEstablished)
}

/// `snow`'s own primitives with a generator that the caller seeded, so that a simulation repeats to the byte.
pub(super) fn seeded(seed: &[u8; 32]) -> BoxedCryptoResolver {
    Box::new(SeededResolver(Zeroizing::new(*seed)))
}

struct SeededResolver(Zeroizing<[u8; 32]>);

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(ChaCha20Rng::from_seed(*self.0))))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Seeded(ChaCha20Rng);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}
