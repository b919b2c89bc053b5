//! What wpa_supplicant keeps of a gateway's groups: described anew, forgotten, and ended where an earlier life left it.

use zbus::zvariant::{ObjectPath, OwnedObjectPath};

use crate::credentials::Ssid;
use crate::error::WifiError;
use crate::owner::Options;
use crate::radio;
use crate::said::{self, Told};
use crate::supplicant::{GROUP, P2P, PERSISTENT, Supplicant};

/// Has wpa_supplicant remember the group, and nothing else of it.
pub(crate) async fn describe(
    supplicant: &Supplicant,
    device: &ObjectPath<'_>,
    options: &Options,
) -> Result<OwnedObjectPath, WifiError> {
    forget_ours(supplicant, device, &options.credentials.ssid).await?;
    let told = said::persistent_group(&options.credentials.network());
    supplicant.call("describe the group", device, P2P, "AddPersistentGroup", &told).await
}

/// Has wpa_supplicant forget what it was told of the group before, or made of it; answers whether there was any. Others' groups
/// stay.
pub(crate) async fn forget_ours(
    supplicant: &Supplicant,
    device: &ObjectPath<'_>,
    ssid: &Ssid,
) -> Result<bool, WifiError> {
    let doing = "list groups";
    let mut any = false;
    let known: Vec<OwnedObjectPath> = supplicant.get(doing, device, P2P, "PersistentGroups").await?;
    for group in known {
        let Ok(said) = supplicant.get_all(doing, &group, PERSISTENT).await else { continue };
        if said::is_group_of(&said, ssid) {
            any = true;
            let () =
                supplicant.call("forget the group", device, P2P, "RemovePersistentGroup", &group).await?;
        }
    }
    Ok(any)
}

/// Ends groups that an earlier life of this program has left on this radio; answers their interfaces.
pub(crate) async fn clear(supplicant: &Supplicant, radio: &str) -> Result<Vec<OwnedObjectPath>, WifiError> {
    let mut ended = Vec::new();
    for interface in supplicant.interfaces().await? {
        let Ok(name) = supplicant.name(&interface).await else { continue };
        if radio::is_group_on(&name, radio) {
            log::info!(interface = name.as_str(); "a Wi-Fi Direct group that was left is ended");
            disconnect(supplicant, &interface).await?;
            ended.push(interface);
        }
    }
    Ok(ended)
}

/// Ends groups of this name that an earlier life of this program has left, on other radios than `except`, and has nobody hear of
/// them any more. Where wpa_supplicant does not run there are none.
pub async fn end_left(bus: Option<&str>, ssid: &Ssid, except: Option<&str>) -> Result<(), WifiError> {
    let supplicant = Supplicant::connect(bus, "").await?;
    if !supplicant.runs().await? {
        return Ok(());
    }
    for interface in supplicant.interfaces().await? {
        let Ok(name) = supplicant.name(&interface).await else { continue };
        let is_excepted = except.is_some_and(|radio| name == radio || radio::is_group_on(&name, radio));
        match name.starts_with(radio::GROUP_PREFIX) {
            _ if is_excepted => {}
            true => {
                let doing = "ask for the group";
                let Ok(group) = supplicant.get::<OwnedObjectPath>(doing, &interface, P2P, "Group").await
                else {
                    continue;
                };
                let its: Result<Vec<u8>, _> = supplicant.get(doing, &group, GROUP, "SSID").await;
                if its.as_deref().ok() == Some(ssid.as_bytes()) {
                    log::info!(interface = name.as_str(); "a Wi-Fi Direct group that was left is ended");
                    disconnect(&supplicant, &interface).await?;
                }
            }
            false if forget_ours(&supplicant, &interface, ssid).await.is_ok_and(|any| any) => {
                hush(&supplicant, &interface).await;
            }
            false => {}
        }
    }
    Ok(())
}

/// Nobody hears of a group on this radio any more.
pub(crate) async fn hush(supplicant: &Supplicant, device: &ObjectPath<'_>) {
    let never = Told::from([("period", 0i32.into()), ("interval", 0i32.into())]);
    let silent: Result<(), _> = supplicant.call("listen", device, P2P, "ExtendedListen", &never).await;
    let unsaid: Result<(), _> = supplicant.call("forget services", device, P2P, "FlushService", &()).await;
    for error in [silent, unsaid].into_iter().filter_map(Result::err) {
        log::debug!("{error}");
    }
}

pub(crate) async fn disconnect(supplicant: &Supplicant, interface: &ObjectPath<'_>) -> Result<(), WifiError> {
    supplicant.call("end the group", interface, P2P, "Disconnect", &()).await
}

/// Has wpa_supplicant forget a radio that is gone.
pub(crate) async fn forget_radio(bus: Option<&str>, radio: &str) {
    let Ok(supplicant) = Supplicant::connect(bus, radio).await else { return };
    let Ok(device) = supplicant.interface().await else { return };
    if let Err(error) = supplicant.remove(&device).await {
        log::debug!("{error}");
    }
}
