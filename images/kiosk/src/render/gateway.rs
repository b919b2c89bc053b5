//! What the gateway is told: a drop-in file of its configuration, with certificates and tokens beside it.

use toml::{Table, Value};
use waypost_config::boot::{
    BootCredentials, BootDestination, BootFile, Kind, Material, Network, Ports, Secret,
};
use waypost_config::{Cost, Name, Problem, Severity};

use super::File;
use crate::disk::Readers;

/// The drop-in file of a generation.
pub const DROP_IN: &str = "gateway.d/50-waypost-toml.toml";
/// Where the gateway finds what lies beside it: the present generation's folder.
const PLACE: &str = "/var/lib/waypost-kiosk/current/gateway";

/// Reads a file that lies beside the boot file.
pub type Beside<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;

/// The gateway's files. Destinations whose files are missing are left out and named.
pub fn files(file: &BootFile, name: &Name, beside: &Beside<'_>, problems: &mut Vec<Problem>) -> Vec<File> {
    let mut table = file.gateway.0.clone();
    table.insert("name".to_owned(), text(name));
    if let Some(mode) = file.access {
        let access = table.entry("access").or_insert_with(|| Value::Table(Table::new()));
        if let Some(access) = access.as_table_mut() {
            access.insert("mode".to_owned(), text(mode));
        }
    }
    let backhauls = backhauls(&file.network, problems);
    if !backhauls.is_empty() {
        table.insert("backhaul".to_owned(), Value::Array(backhauls));
    }
    let (mut files, mut destinations) = (Vec::new(), Vec::new());
    for (place, destination) in file.destination.iter().enumerate() {
        let mut own = Vec::new();
        match write_destination(place + 1, destination, beside, &mut own, problems) {
            Ok(table) => {
                destinations.push(Value::Table(table));
                files.append(&mut own);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !destinations.is_empty() {
        table.insert("destination".to_owned(), Value::Array(destinations));
    }
    let opening = "# Made from waypost.toml on the boot partition at each start: change it there.\n";
    // Tables of texts, numbers and tables can always be written.
    let text = toml::to_string(&table).unwrap_or_default();
    files.push(gateway_file(DROP_IN.to_owned(), format!("{opening}{text}").into_bytes()));
    files
}

fn gateway_file(path: String, content: Vec<u8>) -> File {
    File { path, content, readers: Readers::Gateway }
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

/// Backhauls in the order of the networks. Networks over the same interfaces are one: the gateway knows interfaces.
fn backhauls(networks: &[Network], problems: &mut Vec<Problem>) -> Vec<Value> {
    let mut merged: Vec<(Vec<String>, Vec<&Network>)> = Vec::new();
    for network in networks {
        let interfaces = interfaces(network);
        match merged.iter_mut().find(|(known, _)| *known == interfaces) {
            Some((_, members)) => members.push(network),
            None => merged.push((interfaces, vec![network])),
        }
    }
    let terms = |network: &Network| (network.cost, network.day, network.month, network.windows.clone());
    let mut backhauls = Vec::new();
    for (interfaces, members) in merged {
        let Some((first, others)) = members.split_first() else { continue };
        for other in others.iter().filter(|other| terms(other) != terms(first)) {
            let message = format!(
                "goes over the same interface as network \"{}\", whose cost, day, month and windows hold for both; write the same there",
                first.name
            );
            problems.push(other.problem(Severity::Warning, "cost", &message));
        }
        let names: Vec<&str> = members.iter().map(|network| network.name.as_str()).collect();
        // Too long for a name, they are called after the first.
        let name = Name::new(&names.join(", ")).unwrap_or_else(|| first.name.clone());
        let mut table = Table::new();
        table.insert("name".to_owned(), text(name));
        table.insert("interfaces".to_owned(), interfaces.into());
        if first.cost != Cost::Free {
            table.insert("cost".to_owned(), text(first.cost));
        }
        for (key, size) in [("day", first.day), ("month", first.month)] {
            if let Some(size) = size {
                table.insert(key.to_owned(), text(size));
            }
        }
        if !first.windows.is_empty() {
            table.insert("windows".to_owned(), first.windows.iter().map(text).collect::<Vec<_>>().into());
        }
        backhauls.push(Value::Table(table));
    }
    backhauls
}

fn interfaces(network: &Network) -> Vec<String> {
    match &network.kind {
        Kind::Wifi { .. } => vec!["wl*".to_owned()],
        Kind::Ethernet(Ports::Any) => vec!["eth*".to_owned(), "en*".to_owned()],
        Kind::Ethernet(Ports::Named(port)) => vec![port.clone()],
        // The last are sticks that are routers themselves (71-waypost-kiosk.rules).
        Kind::Mobile { .. } => ["wwan*", "ppp*", "modem*"].map(str::to_owned).to_vec(),
    }
}

/// One destination's table, and its files. `place` makes their names unique.
fn write_destination(
    place: usize,
    destination: &BootDestination,
    beside: &Beside<'_>,
    files: &mut Vec<File>,
    problems: &mut Vec<Problem>,
) -> Result<Table, Problem> {
    let mut table = Table::new();
    table.insert("name".to_owned(), text(&destination.name));
    table.insert("url".to_owned(), text(&destination.url));
    let mut write = |key: &str, theirs: &str, ending: &str, content: Vec<u8>| {
        let name = format!("{place}-{theirs}.{ending}");
        table.insert(key.to_owned(), Value::String(format!("{PLACE}/{name}")));
        files.push(gateway_file(format!("gateway/{name}"), content));
    };
    let fetch = |key: &str, name: &str| {
        beside(name).map_err(|why| {
            let message = format!(
                "the file {name} cannot be read: {why}; put it beside waypost.toml; destination \"{}\" is left out",
                destination.name
            );
            destination.problem(Severity::Error, key, &message)
        })
    };
    let content = |key: &str, material: &Material| match material {
        Material::Inline(Secret::Given(text)) => Ok(text.clone().into_bytes()),
        // Those that were kept have been put in their places; a public one never is.
        Material::Inline(Secret::Kept) => {
            let message =
                "expected the text or a file: \"(kept)\" stands for secrets only; destination is left out";
            Err(destination.problem(Severity::Error, key, message))
        }
        Material::File(name) => fetch(key, name.as_str()),
    };
    write("certificate", "certificate", "pgp", content("certificate", &destination.certificate)?);
    match &destination.credentials {
        BootCredentials::None | BootCredentials::Token(Secret::Kept) => {}
        BootCredentials::Token(Secret::Given(token)) => {
            write("token_file", "token", "txt", token.trim().as_bytes().to_vec());
        }
        BootCredentials::TokenFile(name) => {
            write("token_file", "token", "txt", fetch("token_file", name.as_str())?);
            problems.push(stays_readable(destination, "token_file", "write the token itself with `token`"));
        }
        BootCredentials::Certificate { certificate, key } => {
            write("client_certificate", "client", "pem", content("client_certificate", certificate)?);
            write("client_key", "client-key", "pem", content("client_key", key)?);
            if matches!(key, Material::File(_)) {
                problems.push(stays_readable(
                    destination,
                    "client_key",
                    "write the text of the key in its place",
                ));
            }
        }
    }
    if let Some(ca) = &destination.ca {
        write("ca_file", "ca", "pem", content("ca", ca)?);
    }
    if let Some(collections) = &destination.collections {
        let value = Value::try_from(collections).unwrap_or_else(|_| Value::Array(Vec::new()));
        table.insert("collections".to_owned(), value);
    }
    table.insert("keep".to_owned(), text(destination.keep));
    Ok(table)
}

fn stays_readable(destination: &BootDestination, key: &str, instead: &str) -> Problem {
    let message = format!(
        "that file stays on this card, readable to whoever takes it; {instead}, and it is moved away"
    );
    destination.problem(Severity::Warning, key, &message)
}
