//! wpa_supplicant on the message bus: calls with a time limit, and what it tells by itself.

use std::time::Duration;

use serde::Serialize;
use zbus::export::ordered_stream::{JoinMultiple, OrderedStreamExt, Peekable};
use zbus::message::Type;
use zbus::zvariant::{DynamicDeserialize, DynamicType, ObjectPath, OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream};

use crate::error::{WifiError, meaning};
use crate::said::{Said, Told};

const SERVICE: &str = "fi.w1.wpa_supplicant1";
pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const ROOT: &str = "/fi/w1/wpa_supplicant1";
pub(crate) const INTERFACE: &str = "fi.w1.wpa_supplicant1.Interface";
pub(crate) const P2P: &str = "fi.w1.wpa_supplicant1.Interface.P2PDevice";
pub(crate) const GROUP: &str = "fi.w1.wpa_supplicant1.Group";
pub(crate) const BSS: &str = "fi.w1.wpa_supplicant1.BSS";
pub(crate) const PEER: &str = "fi.w1.wpa_supplicant1.Peer";
pub(crate) const PERSISTENT: &str = "fi.w1.wpa_supplicant1.PersistentGroup";
pub(crate) const WPS: &str = "fi.w1.wpa_supplicant1.Interface.WPS";
const NETWORK: &str = "fi.w1.wpa_supplicant1.Network";
/// Longer than the driver takes for anything.
const CALL: Duration = Duration::from_secs(10);

/// A connection to the message bus that wpa_supplicant is on.
#[derive(Clone)]
pub(crate) struct Supplicant {
    bus: Connection,
    /// The bus' D-Bus address; `None` for the system's.
    address: Option<String>,
    /// The radio that this is about.
    radio: String,
}

impl Supplicant {
    /// Connects to a bus: the system's, or the one at a D-Bus address.
    pub(crate) async fn connect(address: Option<&str>, radio: &str) -> Result<Self, WifiError> {
        let connecting = async {
            match address {
                Some(address) => zbus::connection::Builder::address(address)?.build().await,
                None => Connection::system().await,
            }
        };
        let bus = tokio::time::timeout(CALL, connecting)
            .await
            .map_err(|_| WifiError::Hung("reach the message bus"))?
            .map_err(|error| WifiError::NoService(error.to_string()))?;
        Ok(Supplicant { bus, address: address.map(str::to_owned), radio: radio.to_owned() })
    }

    /// The D-Bus address of the bus that it is on; `None` for the system's.
    pub(crate) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The radio that this is about.
    pub(crate) fn radio(&self) -> &str {
        &self.radio
    }

    /// Its object of a network interface, made where it does not know that one yet. It is started where it does not run.
    pub(crate) async fn interface(&self) -> Result<OwnedObjectPath, WifiError> {
        let root = object(ROOT);
        let found =
            self.call("ask for the radio", &root, SERVICE, "GetInterface", &self.radio.as_str()).await;
        match found {
            Err(WifiError::NoRadio(_)) => {}
            other => return other,
        }
        let told = Told::from([("Ifname", self.radio.as_str().into()), ("Driver", "nl80211".into())]);
        self.call("take the radio", &root, SERVICE, "CreateInterface", &told).await
    }

    /// Whether it runs; asking does not start it.
    pub(crate) async fn runs(&self) -> Result<bool, WifiError> {
        let doing = "ask for wpa_supplicant";
        let bus = "org.freedesktop.DBus";
        let call = self.bus.call_method(
            Some(bus),
            object("/org/freedesktop/DBus"),
            Some(bus),
            "NameHasOwner",
            &SERVICE,
        );
        let answer = self.within(doing, call).await?;
        answer.body().deserialize().map_err(|error| self.error(doing, error))
    }

    /// Makes it forget an interface.
    pub(crate) async fn remove(&self, interface: &ObjectPath<'_>) -> Result<(), WifiError> {
        self.call("forget the radio", &object(ROOT), SERVICE, "RemoveInterface", interface).await
    }

    /// All interfaces that it has.
    pub(crate) async fn interfaces(&self) -> Result<Vec<OwnedObjectPath>, WifiError> {
        self.get("list interfaces", &object(ROOT), SERVICE, "Interfaces").await
    }

    /// The name of an interface, such as `p2p-wlan0-0`.
    pub(crate) async fn name(&self, interface: &ObjectPath<'_>) -> Result<String, WifiError> {
        self.get("ask for an interface's name", interface, INTERFACE, "Ifname").await
    }

    /// Calls a method.
    pub(crate) async fn call<R>(
        &self,
        doing: &'static str,
        path: &ObjectPath<'_>,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<R, WifiError>
    where
        R: for<'d> DynamicDeserialize<'d>,
    {
        let call = self.bus.call_method(Some(SERVICE), path, Some(interface), method, body);
        let answer = self.within(doing, call).await?;
        answer.body().deserialize().map_err(|error| self.error(doing, error))
    }

    /// Reads a property.
    pub(crate) async fn get<T>(
        &self,
        doing: &'static str,
        path: &ObjectPath<'_>,
        interface: &str,
        property: &str,
    ) -> Result<T, WifiError>
    where
        T: TryFrom<OwnedValue>,
        T::Error: Into<zbus::Error>,
    {
        let value: OwnedValue = self.call(doing, path, PROPERTIES, "Get", &(interface, property)).await?;
        value.try_into().map_err(|error: T::Error| self.error(doing, error.into()))
    }

    /// Reads all properties of an interface of an object.
    pub(crate) async fn get_all(
        &self,
        doing: &'static str,
        path: &ObjectPath<'_>,
        interface: &str,
    ) -> Result<Said, WifiError> {
        self.call(doing, path, PROPERTIES, "GetAll", &interface).await
    }

    /// Writes a property.
    pub(crate) async fn set(
        &self,
        doing: &'static str,
        path: &ObjectPath<'_>,
        interface: &str,
        property: &str,
        value: zbus::zvariant::Value<'_>,
    ) -> Result<(), WifiError> {
        self.call(doing, path, PROPERTIES, "Set", &(interface, property, value)).await
    }

    /// Networks that an interface is configured to join.
    pub(crate) async fn networks(&self, device: &ObjectPath<'_>) -> Result<Vec<OwnedObjectPath>, WifiError> {
        self.get("list networks", device, INTERFACE, "Networks").await
    }

    /// How a network is configured.
    pub(crate) async fn network(&self, network: &ObjectPath<'_>) -> Result<Said, WifiError> {
        self.get("ask for a network", network, NETWORK, "Properties").await
    }

    /// Whether a configured network of an interface may be joined.
    pub(crate) async fn is_enabled(&self, network: &ObjectPath<'_>) -> Result<bool, WifiError> {
        self.get("ask for a network", network, NETWORK, "Enabled").await
    }

    /// Lets a configured network be joined.
    pub(crate) async fn enable(&self, network: &ObjectPath<'_>) -> Result<(), WifiError> {
        self.set("allow a network", network, NETWORK, "Enabled", true.into()).await
    }

    /// What happens, from now on: only the signals that somebody here listens to, since a scan alone brings hundreds.
    pub(crate) async fn news(&self) -> Result<News, WifiError> {
        let doing = "listen to wpa_supplicant";
        let mut signals = Vec::new();
        let of = |interface: &'static str| {
            MatchRule::builder().msg_type(Type::Signal).sender(SERVICE)?.interface(interface)
        };
        let rules = [
            of(P2P),
            of(GROUP),
            of(SERVICE),
            of(INTERFACE).and_then(|rule| rule.member("StaAuthorized")),
            of(INTERFACE).and_then(|rule| rule.member("StaDeauthorized")),
            of(INTERFACE).and_then(|rule| rule.member("ScanDone")),
            of(INTERFACE).and_then(|rule| rule.member("NetworkSelected")),
            of(INTERFACE).and_then(|rule| rule.member("NetworkRemoved")),
            of(PROPERTIES)
                .and_then(|rule| rule.member("PropertiesChanged"))
                .and_then(|rule| rule.arg(0, NETWORK)),
            of(WPS).and_then(|rule| rule.member("Event")),
        ];
        for rule in rules {
            let rule = rule.map_err(|error| self.error(doing, error))?.build();
            let stream = MessageStream::for_match_rule(rule, &self.bus, Some(256));
            signals.push(self.within(doing, stream).await?.peekable());
        }
        let owners = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .and_then(|rule| rule.member("NameOwnerChanged"))
            .and_then(|rule| rule.arg(0, SERVICE))
            .map_err(|error| self.error(doing, error))?
            .build();
        let owners = self.within(doing, MessageStream::for_match_rule(owners, &self.bus, None)).await?;
        Ok(News { signals: JoinMultiple(signals), owners })
    }

    async fn within<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = zbus::Result<T>>,
    ) -> Result<T, WifiError> {
        match tokio::time::timeout(CALL, call).await {
            Ok(done) => done.map_err(|error| self.error(doing, error)),
            Err(_) => Err(WifiError::Hung(doing)),
        }
    }

    fn error(&self, doing: &'static str, error: zbus::Error) -> WifiError {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                meaning(doing, name.as_str(), text.as_deref().unwrap_or_default(), &self.radio)
            }
            zbus::Error::InputOutput(error) => WifiError::NoService(error.to_string()),
            other => WifiError::Failed { doing, why: other.to_string() },
        }
    }
}

fn object(path: &'static str) -> ObjectPath<'static> {
    ObjectPath::from_static_str_unchecked(path)
}

/// What wpa_supplicant tells by itself.
pub(crate) struct News {
    /// Of all rules, in the order in which they came: who has joined and left is in it.
    signals: JoinMultiple<Vec<Peekable<MessageStream>>>,
    /// Who has its name on the bus: whoever it is now is not who said all that.
    owners: MessageStream,
}

pub(crate) enum Heard {
    /// A signal.
    Said(Message),
    /// It has ended, or another one has begun.
    Ended,
}

impl News {
    /// The next thing; [`Heard::Ended`] for ever where the bus is gone.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            tokio::select! {
                said = self.signals.next() => match said {
                    Some(Ok(message)) => return Heard::Said(message),
                    Some(Err(error)) => log::debug!("wpa_supplicant: {error}"),
                    None => return Heard::Ended,
                },
                _ = OrderedStreamExt::next(&mut self.owners) => return Heard::Ended,
            }
        }
    }
}

/// A signal's name and what it says.
pub(crate) fn member(message: &Message) -> String {
    message.header().member().map(|member| member.to_string()).unwrap_or_default()
}
