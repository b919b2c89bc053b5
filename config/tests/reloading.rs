//! Which changes SIGHUP takes over.

use waypost_config::{Change, Config, Source, parse, reload_diff};

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
