//! The reference phone of Waypost: seals documents, hands them to kiosks, other phones or the destination itself, and
//! deletes its copies only on the destination's verified word.

mod attend;
mod bluetooth;
pub mod cli;
mod contact;
mod destination;
mod direct;
mod documents;
mod gateway;
mod home;
mod host;
mod keys;
mod listen;
mod lock;
mod media;
mod moving;
mod reach;
mod reader;
mod report;
mod seal;
mod settings;
mod subscribe;
mod wifi_direct;
pub mod words;

pub use attend::{Bell, Means};
pub use bluetooth::{Air, BluetoothError, LOOK, Nearby, OnAir, Who};
pub use contact::{MAX_CARRIED, SyncError, SyncOptions};
pub use destination::{DeleteOn, Destination, DestinationError, Reader, USUAL_COLLECTION};
pub use documents::{DocumentsError, Listed, ReceivedDocument, Standing, rejection_words};
pub use gateway::{Gateway, GatewayError, Role};
pub use home::{OpenError, Phone};
pub use keys::KeysError;
pub use listen::{CODE_VALID, addresses_of};
pub use lock::{LockError, Passphrase};
pub use moving::Wifi;
pub use reach::{BROWSE, Search};
pub use reader::{OpenedDocument, ReadError, ReaderError, WrittenBy};
pub use report::{Ending, Progress, Refusal, SyncReport, Unserved};
pub use seal::{AddError, Sealed, Sending, document_name};
pub use settings::SettingError;
pub use subscribe::{MAX_RECEIVED, SubscribeError, Subscription};
pub use wifi_direct::WIFI_LOOK;
