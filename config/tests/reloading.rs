//! Which changes SIGHUP takes over.

use waypost_config::{Change, Config, Source, after_reload, parse, reload_diff};

fn read(text: &str) -> Config {
    parse(&[Source::new("/etc/waypost/gateway.toml", text)]).config
}

fn destination(name: &str, url: &str) -> String {
    format!(
        "[[destination]]\nname = \"{name}\"\nurl = \"https://{url}\"\ncertificate = \"c\"\ntoken_file = \"t\"\n"
    )
}

#[test]
fn nothing_changed_is_nothing() {
    let text = destination("clinic", "a");
    assert_eq!(reload_diff(&read(&text), &read(&format!("# moved down\n\n{text}"))), []);
}

#[test]
fn changes_are_named_and_say_whether_they_need_a_restart() {
    let old = read("");
    let new = read(
        "name = \"x\"\n[store]\npath = \"/mnt\"\nquota = \"1GB\"\n[lan]\nenabled = false\n[log]\nlevel = \"debug\"\n",
    );
    let expected = [
        ("name", false),
        ("store.path", true),
        ("store.quota", true),
        ("lan.enabled", true),
        ("log.level", false),
    ];
    let expected = expected.map(|(key, needs_restart)| Change { key: key.to_owned(), needs_restart });
    assert_eq!(reload_diff(&old, &new), expected);
    assert_eq!(reload_diff(&new, &old), expected);
}

#[test]
fn destinations_come_go_and_change_without_a_restart() {
    let old = read(&(destination("clinic", "a") + &destination("market", "b")));
    let new = read(&(destination("landing", "c") + &destination("clinic", "d")));
    let changes = reload_diff(&old, &new);
    let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["destination.clinic.url", "destination.market", "destination.landing"]);
    assert!(changes.iter().all(|change| !change.needs_restart));
}

#[test]
fn what_needs_a_restart_stays_as_it_was_until_then() {
    let running = read("name = \"x\"\n[lan]\nenabled = false\n");
    let text = "name = \"y\"\n[store]\nquota = \"1GB\"\n[lan]\nenabled = true\naddresses = [\"a:1\"]\n";
    let new = read(&(text.to_owned() + &destination("clinic", "a")));
    let after = after_reload(&running, &new);
    assert_eq!((after.name.as_str(), after.lan.addresses.len(), after.destination.len()), ("y", 1, 1));
    assert_eq!((after.lan.enabled, after.store.quota), (false, None));
    let left = reload_diff(&after, &new);
    let keys: Vec<_> = left.iter().map(|change| (change.key.as_str(), change.needs_restart)).collect();
    assert_eq!(keys, [("store.quota", true), ("lan.enabled", true)], "however often it is read again");
}
