//! What a configuration of several files means, and what is said of mistakes in it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};

use waypost_config::{
    AccessMode, Config, Credentials, Keep, Loaded, MAX_DESTINATIONS, MAX_PROBLEMS, Period, Severity, Size,
    Source, load, parse,
};

const DESTINATION: &str = r#"
[[destination]]
name = "clinic"
url = "https://example.org/"
certificate = "clinic.pgp"
token_file = "clinic.token"
"#;

fn read(text: &str) -> Loaded {
    parse(&[Source::new("/etc/waypost/gateway.toml", text)])
}

/// Errors and worse, as they are printed, without the file's folder.
fn errors(loaded: &Loaded) -> Vec<String> {
    let worse = loaded.problems.iter().filter(|problem| problem.severity > Severity::Warning);
    worse.map(|problem| problem.to_string().replace("/etc/waypost/", "")).collect()
}

fn warnings(loaded: &Loaded) -> Vec<&str> {
    let mild = loaded.problems.iter().filter(|problem| problem.severity == Severity::Warning);
    mild.filter_map(|problem| problem.key.as_deref()).collect()
}

/// A folder with `gateway.toml` and files in `gateway.d`.
fn folder(main: &str, drop_ins: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.toml"), main).unwrap();
    std::fs::create_dir(folder.path().join("gateway.d")).unwrap();
    for (name, text) in drop_ins {
        std::fs::write(folder.path().join("gateway.d").join(name), text).unwrap();
    }
    folder
}

#[test]
fn an_empty_file_is_the_default() {
    let loaded = read("");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(warnings(&loaded), ["store.key_file", "destination"]);
}

#[test]
fn every_kind_of_value_is_taken_over() {
    let loaded = read(
        r#"
        name = "Landing 3"
        [store]
        path = "data"
        quota = 1_000_000
        key_file = "/run/key"
        [access]
        mode = "open"
        [limits]
        sessions = 0x20
        idle_timeout = "1h 30m"
        [lan]
        advertise = false
        listen = ["127.0.0.1:0"]
        addresses = ["kiosk.local:4180"]
        [[destination]]
        name = "clinic"
        url = "https://example.org/way/"
        certificate = "clinic.pgp"
        client_certificate = "gateway.pem"
        client_key = "gateway.key"
        keep = "30d"
        collections = [{ label = "forms", group = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" }]
        "#,
    );
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(warnings(&loaded), [""; 0]);
    let config = loaded.config;
    assert_eq!(config.name.as_str(), "Landing 3");
    assert_eq!(config.store.path, Path::new("/etc/waypost/data"));
    assert_eq!(config.store.quota.map(Size::bytes), Some(1_000_000));
    assert_eq!(config.access.mode, AccessMode::Open);
    assert_eq!((config.limits.sessions, config.limits.idle_timeout), (32, Period::minutes(90)));
    assert_eq!(config.lan.listen[0].to_string(), "127.0.0.1:0");
    let clinic = config.destination("clinic").unwrap();
    assert_eq!(clinic.url.as_str(), "https://example.org/way");
    assert_eq!(clinic.certificate, Path::new("/etc/waypost/clinic.pgp"));
    assert!(
        matches!(&clinic.credentials, Credentials::Certificate { client_key, .. } if client_key.ends_with("gateway.key"))
    );
    assert_eq!(clinic.keep, Keep::For(Period::days(30)));
    assert_eq!(clinic.collections.as_ref().unwrap()[0].label.as_str(), "forms");
    assert_eq!(clinic.origin.as_ref().map(|origin| origin.line), Some(16));
}

#[test]
fn drop_ins_change_keys_in_the_order_of_their_names_and_add_destinations() {
    let folder = folder(
        &format!(
            "name = \"main\"\n[limits]\nsessions = 5\nhalf_open = 6\n[lan]\nlisten = [\"[::]:1\", \"[::]:2\"]\n{DESTINATION}"
        ),
        &[
            ("20-late.toml", "name = \"late\"\n[lan]\nlisten = [\"[::]:3\"]\n"),
            (
                "10-early.toml",
                "name = \"early\"\n[limits]\nsessions = 7\n[[destination]]\nname = \"second\"\nurl = \"https://b\"\ncertificate = \"b.pgp\"\ntoken_file = \"b\"\n",
            ),
            ("30-off.toml.disabled", "name = \"disabled\""),
            (".#40-editor.toml", "name = \"editor\""),
        ],
    );
    let loaded = load(&folder.path().join("gateway.toml"));
    assert_eq!(errors(&loaded), [""; 0]);
    let names: Vec<_> = loaded.files.iter().map(|file| file.file_name().unwrap()).collect();
    assert_eq!(names, ["gateway.toml", "10-early.toml", "20-late.toml"]);
    let config = loaded.config;
    assert_eq!(config.name.as_str(), "late");
    assert_eq!((config.limits.sessions, config.limits.half_open), (7, 6));
    assert_eq!(config.lan.listen.len(), 1);
    let destinations: Vec<_> =
        config.destination.iter().map(|destination| destination.name.as_str()).collect();
    assert_eq!(destinations, ["clinic", "second"]);
    assert_eq!(config.destination[0].certificate, folder.path().join("clinic.pgp"));
    assert_eq!(config.destination[1].certificate, folder.path().join("gateway.d/b.pgp"));
}

#[test]
fn a_mistake_in_a_drop_in_is_named_with_that_file_and_leaves_what_held() {
    let folder =
        folder("[limits]\nsessions = 5\n", &[("a.toml", "# one\n[limits]\n  sessions = \"many\"\n")]);
    let loaded = load(&folder.path().join("gateway.toml"));
    assert_eq!(loaded.config.limits.sessions, 5);
    let [error] = errors(&loaded).try_into().unwrap();
    let expected = "gateway.d/a.toml:3:14: error: limits.sessions: expected a whole number such as 100, \
                    found the text \"many\"; write it without quotes";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn typing_mistakes_are_named_with_the_key_that_was_meant() {
    let loaded = read("[acess]\nmode = \"open\"\n[limits]\nsesions = 5\nlisten = []\nflux = 1\n");
    assert_eq!(
        errors(&loaded),
        [
            "gateway.toml:1:2: fatal: unknown key `acess`, did you mean `access`?",
            "gateway.toml:4:1: error: limits: unknown key `sesions`, did you mean `sessions`?",
            "gateway.toml:5:1: error: limits: unknown key `listen` here, it belongs to [lan]",
            "gateway.toml:6:1: error: limits: unknown key `flux`; known here: max_document, open_max_document, max_priority, sessions, \
             sessions_per_address, half_open, idle_timeout, handshake_timeout",
        ]
    );
}

#[test]
fn all_mistakes_are_named_in_the_order_of_their_lines() {
    let loaded = read(
        "name = 5\n[upload]\nprobe_interval = 60\nbatch_bytes = \"4 parsecs\"\nbatch_documents = 5000\n\
         [lan]\nlisten = [\"[::]:4180\", \"4180\", 7]\nenabled = \"true\"\n[log]\nlevel = \"warning\"\n[control]\nsocket = []\n",
    );
    assert_eq!(
        errors(&loaded),
        [
            "gateway.toml:1:8: error: name: expected a name of 1 to 64 bytes of printable text, found the number 5",
            "gateway.toml:3:18: error: upload.probe_interval: expected a duration such as \"90s\", \"15m\", \"6h\" or \"30d\", \
             found the number 60; add the unit, for example \"60s\" for seconds",
            "gateway.toml:4:15: error: upload.batch_bytes: expected a size such as \"64KiB\", \"16 MiB\" or \"2GB\", \
             found the text \"4 parsecs\"",
            "gateway.toml:5:19: error: upload.batch_documents: expected 1 to 1024, found 5000",
            "gateway.toml:7:24: error: lan.listen: expected an address and port to listen on such as \"[::]:4180\" or \
             \"192.168.4.1:4180\", found the text \"4180\"",
            "gateway.toml:7:32: error: lan.listen: expected an address and port to listen on such as \"[::]:4180\" or \
             \"192.168.4.1:4180\", found the number 7",
            "gateway.toml:8:11: error: lan.enabled: expected true or false, found the text \"true\"; write it without quotes",
            "gateway.toml:10:9: error: log.level: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", \
             found the text \"warning\"; did you mean \"warn\"?",
            "gateway.toml:12:10: error: control.socket: expected a path, found a list",
        ]
    );
    assert!(!loaded.is_fatal());
    let expected = Config::default();
    assert_eq!(loaded.config, expected, "the good address is the default one, nothing else was taken over");
}

#[test]
fn a_bad_destination_is_left_out_and_named_and_the_others_stay() {
    let bad = "[[destination]]\nname = \"market\"\nurl = \"http://example.org\"\ntoken_fil = \"x\"\n";
    let nameless =
        "[[destination]]\nurl = \"https://c\"\ncertificate = \"c\"\ntoken_file = \"t\"\nclient_key = \"k\"\n";
    let loaded = read(&format!("{bad}{nameless}{DESTINATION}{DESTINATION}"));
    assert_eq!(
        errors(&loaded),
        [
            "gateway.toml:1:1: error: destination: `certificate` is missing; add a line such as certificate = \"clinic.pgp\"",
            "gateway.toml:1:1: error: destination: destination \"market\" is left out until its errors are mended",
            "gateway.toml:3:7: error: destination.url: expected an address such as \"https://example.org/waypost\", found the \
             text \"http://example.org\"; write https: over plain http anyone on the way could read the credentials",
            "gateway.toml:4:1: error: destination: unknown key `token_fil`, did you mean `token_file`?",
            "gateway.toml:5:1: error: destination: `name` is missing; add a line such as name = \"clinic\"",
            "gateway.toml:5:1: error: destination: this destination is left out until its errors are mended",
            "gateway.toml:8:1: error: destination: token_file excludes client_certificate and client_key; \
             remove one or the others",
            "gateway.toml:17:1: error: destination: destination \"clinic\" is left out until its errors are mended",
            "gateway.toml:18:1: error: destination: another destination has this name, at gateway.toml:11:1; \
             choose another one",
        ]
    );
    assert!(!loaded.is_fatal());
    assert_eq!(loaded.config.destination.len(), 1);
    assert_eq!(loaded.config.destination[0].name.as_str(), "clinic");
}

#[test]
fn a_bad_collection_is_left_out_and_its_destination_stays() {
    let group = "ab".repeat(32);
    let collections = format!(
        "collections = [{{ label = \"a\", group = \"12\" }}, {{ label = \"b\", group = \"{group}\" }}, {{ lable = \"c\" }}, 5]"
    );
    let loaded = read(&format!("{DESTINATION}{collections}"));
    let labels: Vec<_> =
        loaded.config.destination[0].collections.iter().flatten().map(|one| one.label.as_str()).collect();
    assert_eq!(labels, ["b"]);
    assert_eq!(errors(&loaded).len(), 5, "{:#?}", errors(&loaded));
    assert!(errors(&loaded).iter().all(|error| error.contains("gateway.toml:7:")));
}

#[test]
fn a_collection_is_open_to_subscribers_where_it_is_retained_or_the_admin_says_so() {
    let one = |n: u8, more: &str| {
        format!("{{ label = \"c{n}\", group = \"{}\"{more} }}", format!("{n:02}").repeat(32))
    };
    let all = [
        one(1, ""),
        one(2, ", retain = \"30d\""),
        one(3, ", retain = \"30d\", subscribe = false"),
        one(4, ", subscribe = true"),
        one(5, ", retain = \"a while\""),
    ];
    let loaded = read(&format!("{DESTINATION}collections = [{}]", all.join(", ")));
    let collections = loaded.config.destination[0].collections.as_ref().unwrap();
    let open: Vec<_> = collections.iter().map(|one| (one.label.as_str(), one.may_be_subscribed())).collect();
    assert_eq!(open, [("c1", false), ("c2", true), ("c3", false), ("c4", true)]);
    assert_eq!(collections[2].retain, Some(Period::days(30)));
    assert_eq!(errors(&loaded).len(), 1, "{:#?}", errors(&loaded));
    assert!(errors(&loaded)[0].contains("a duration such as"), "{:#?}", errors(&loaded));
}

#[test]
fn one_bracket_too_few_says_so() {
    let loaded = read(&DESTINATION.replace("[[destination]]", "[destination]"));
    assert_eq!(
        errors(&loaded),
        ["gateway.toml:2:1: error: destination: expected a list of tables, found a table; \
          write [[destination]] with two brackets on each side"]
    );
}

#[test]
fn what_no_default_can_stand_in_for_is_fatal() {
    for text in [
        "[store]\npath = 5",
        "[store]\npth = \"/mnt\"",
        "[store]\nkey_file = \"\"",
        "[identity]\nkey_file = []",
        "[access]\nmode = \"pared\"",
        "store = 5\n[sotre]",
        "store = 5",
        "path = \"/mnt\"",
        "[log]\nmode = \"listed\"",
        "[acces]\nmode = \"listed\"",
    ] {
        let loaded = read(text);
        assert!(loaded.is_fatal(), "{text}: {:?}", loaded.problems);
        assert!(loaded.into_result().is_err());
    }
    for text in [
        "",
        "[store]\nreserve = 5",
        "[limits]\nsession = 5",
        "[access]\nlisted = [\"x\"]",
        "whatever = 1",
        "[[destination]]\nmode = 1",
    ] {
        assert!(!read(text).is_fatal(), "{text}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_fatal_and_the_others_are_still_looked_at() {
    let folder = folder(
        "name = \"good\"\nnam = 1\n",
        &[("a.toml", "[log]\nlevel = \"info\nname = \"x\"\n"), ("b.toml", "[x\n")],
    );
    let loaded = load(&folder.path().join("gateway.toml"));
    assert!(loaded.is_fatal());
    let fatal: Vec<_> =
        loaded.problems.iter().filter(|problem| problem.severity == Severity::Fatal).collect();
    assert!(fatal.iter().any(|problem| problem.to_string().contains("gateway.d/a.toml:2:")), "{fatal:#?}");
    assert!(fatal.iter().any(|problem| problem.to_string().contains("gateway.d/b.toml:1:")), "{fatal:#?}");
    assert!(fatal.iter().all(|problem| problem.message.starts_with("not TOML: ")), "{fatal:#?}");
    assert_eq!(loaded.config.name.as_str(), "good");
    assert!(errors(&loaded).iter().any(|error| error.contains("did you mean `name`?")));
}

#[test]
fn the_same_key_twice_in_a_file_is_refused() {
    let loaded = read("name = \"a\"\nname = \"b\"\n");
    assert_eq!(
        errors(&loaded),
        ["gateway.toml:2:1: fatal: not TOML: duplicate key; found `name`; the file is not used"]
    );
}

#[test]
fn a_file_that_is_missing_is_fatal_and_a_missing_drop_in_directory_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    assert!(load(&path).is_fatal());
    std::fs::write(&path, DESTINATION).unwrap();
    assert!(!load(&path).is_fatal());
    std::fs::create_dir_all(folder.path().join("gateway.d/folder.toml")).unwrap();
    assert!(load(&path).is_fatal(), "what cannot be read might have said anything");
}

#[test]
fn what_fits_badly_together_is_warned_of_at_its_place() {
    let loaded = read(&format!(
        "[store]\nkey_file = \"k\"\nquota = \"1TB\"\n[access]\nmode = \"listed\"\n[limits]\nmax_document = \"1MiB\"\n\
         open_max_document = \"2MiB\"\n[upload]\nprobe_interval = \"30m\"\n{}",
        DESTINATION.replace("token_file", "#"),
    ));
    assert_eq!(errors(&loaded), [""; 0]);
    let expected =
        ["destination", "access.mode", "limits.open_max_document", "upload.max_backoff", "store.quota"];
    assert_eq!(warnings(&loaded), expected);
    let lines: Vec<_> =
        loaded.problems.iter().map(|problem| problem.origin.as_ref().map(|origin| origin.line)).collect();
    assert_eq!(lines, [Some(12), Some(5), Some(8), None, Some(3)]);
}

#[test]
fn a_log_whose_documents_go_with_the_verdict_is_warned_of_where_nothing_keeps_them() {
    let (one, other) = ("1".repeat(64), "2".repeat(64));
    let said = |log: &str, more: &str| {
        let loaded = read(&format!(
            "[store]\nkey_file = \"/k\"\n[remote_log]\npublish = true\n{log}{DESTINATION}{more}"
        ));
        assert_eq!(errors(&loaded), [""; 0]);
        warnings(&loaded) == ["remote_log.publish"]
    };
    let retained = format!("collections = [{{ label = \"forms\", group = \"{one}\", retain = \"30d\" }}]\n");
    let carried = retained.replace(", retain = \"30d\"", "");
    assert!(said("", "") && said("", &carried) && said("to = \"folder:/media/stick\"\n", ""));
    assert!(!said("", "keep = \"1h\"\n") && !said("", "keep = \"always\"\n") && !said("", &retained));
    // Only what is published counts; any destination will do.
    assert!(said(&format!("collections = [\"{other}\"]\n"), &retained));
    let second = DESTINATION.replace("clinic", "ministry");
    assert!(!said("", &format!("{second}keep = \"1h\"\n")));
    let quiet = read(&format!("[store]\nkey_file = \"/k\"\n{DESTINATION}"));
    assert!(warnings(&quiet).is_empty());
}

#[test]
fn a_lan_without_any_good_address_is_off_and_named() {
    let loaded = read("[lan]\nlisten = [\"everywhere\"]\n");
    assert!(!loaded.config.lan.enabled);
    assert!(errors(&loaded).iter().any(|error| error.contains("lan.listen: no address to listen on")));
}

#[test]
fn errors_obey_no_terminal_escape_from_the_files() {
    let escape = "\\u001b[2J\\u202e";
    let text = format!("name = \"{escape}\"\n\"{escape}\" = 1\n[[destination]]\nname = \"{escape}\"\n");
    let raw = "name = \u{1b}[31m\n";
    let file = PathBuf::from("/etc/\u{1b}[7m.toml");
    for text in [text.as_str(), raw] {
        let loaded = parse(&[Source::new(&file, text)]);
        assert!(loaded.problems.len() > 1);
        for problem in &loaded.problems {
            let json = serde_json::to_value(problem).unwrap();
            let origin = &json["origin"]["file"];
            for text in
                [&problem.to_string(), &problem.message, &origin.as_str().unwrap_or_default().to_owned()]
            {
                assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
            }
        }
    }
}

#[test]
fn files_full_of_mistakes_cost_bounded_reports() {
    let many: String = (0..5_000).map(|number| format!("key{number} = {number}\n")).collect();
    let loaded = read(&format!("{many}[store]\npath = 1\n"));
    assert!(loaded.problems.len() <= 2 * MAX_PROBLEMS, "{}", loaded.problems.len());
    assert!(loaded.is_fatal(), "the worst is not lost among the many");
    let many: String =
        (0..5_000).map(|number| DESTINATION.replace("clinic\"", &format!("{number}\""))).collect();
    assert_eq!(read(&many).config.destination.len(), MAX_DESTINATIONS);
}

#[test]
fn endless_values_make_short_messages() {
    let long = "9".repeat(100_000);
    let values = [
        long.clone(),
        format!("\"{long}\""),
        format!("0.{long}"),
        format!("[\"{long}\"]"),
        format!("{{ {long} = 1 }}"),
    ];
    for key in [
        "name",
        "limits.idle_timeout",
        "limits.sessions",
        "store.quota",
        "lan.addresses",
        "access.mode",
        long.as_str(),
    ] {
        for value in &values {
            for problem in read(&format!("{key} = {value}")).problems {
                assert!(problem.to_string().len() < 400, "{problem}");
            }
        }
    }
}

#[test]
fn deep_nesting_is_an_error() {
    for text in
        ["a = ".to_owned() + &"[".repeat(100_000), "a.".repeat(100_000) + "a = 1", "[".repeat(100_000)]
    {
        assert!(!errors(&read(&text)).is_empty());
    }
}

#[test]
fn a_byte_order_mark_is_not_content() {
    let loaded = read("\u{feff}name = \"x\"\n");
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(loaded.config.name.as_str(), "x");
}
