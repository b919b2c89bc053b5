//! Whatever lies on the boot partition: no panic, bounded answers, and nothing that the gateway would refuse.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use waypost_config::boot::{boot_example, check_drop_in};
use waypost_config::{MAX_PROBLEMS, Severity, Source};
use waypost_kiosk::errors::{self, Holds};
use waypost_kiosk::machine::Machine;
use waypost_kiosk::plan::{Files, Plan, plan};
use waypost_kiosk::render::gateway::DROP_IN;
use waypost_kiosk::secrets::{Kept, find};

fn survives(files: &Files) -> Plan {
    let machine = Machine { serial: Some("10000000abcdef01".into()), ..Machine::default() };
    let plan = plan(files, &|name| Ok(name.as_bytes().to_vec()), &Kept::new(), &machine);
    assert!(plan.problems.len() <= 4 * MAX_PROBLEMS);
    let said = errors::text(&plan.problems, Holds::TheRest, &Machine::default()).unwrap_or_default();
    assert!(said.len() < 1 << 20 && !said.replace("\r\n", "").contains(char::is_control), "{said}");
    if let Some(wanted) = &plan.wanted {
        for file in &wanted.files {
            assert!(
                !file.path.contains("..") && !file.path.contains("//") && !file.path.contains('\n'),
                "{}",
                file.path
            );
        }
        let drop_in = wanted.files.iter().find(|file| file.path == DROP_IN).unwrap();
        let problems = check_drop_in(std::str::from_utf8(&drop_in.content).unwrap());
        // Of lists the gateway takes what is right, and names the rest as well.
        let worse: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Fatal).collect();
        assert!(worse.is_empty(), "{worse:?}");
        if let Some(without) = &wanted.without_secrets {
            let again = find(&Source::new("waypost.toml", without.as_str()), &machine);
            assert!(again.without.is_none() && again.given.is_empty());
        }
    }
    plan
}

fn boot_file(text: &str) -> Files {
    Files { boot_file: Some(text.as_bytes().to_vec()), ..Files::default() }
}

fn everything() -> String {
    let lines = boot_example();
    let lines = lines.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

const CLOUD: &str = "network:\n  version: 2\n  ethernets:\n    eth0: {dhcp4: true, addresses: [192.168.1.2/24]}\n  wifis:\n    wlan0:\n      access-points:\n        x: {password: abcdefgh, hidden: yes}\nhostname: a\nusers:\n- name: b\n  groups: [c]\n  ssh_authorized_keys: [d]\nruncmd: [[a, b]]\ntimezone: UTC\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_survived(a in any::<Option<Vec<u8>>>(), b in any::<Option<Vec<u8>>>(), c in any::<Option<Vec<u8>>>()) {
        survives(&Files { boot_file: a, user_data: b, network_config: c });
    }

    #[test]
    fn any_text_is_survived(a in ".{0,200}", b in "[a-z:\n\\[\\]{}&*!|>'\" -]{0,200}") {
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        survives(&Files { boot_file: bytes(&a), user_data: bytes(&b), network_config: bytes(&b) });
    }

    #[test]
    fn damaged_boot_files_are_survived(at in 0.0..1.0f64, length in 0..40usize, with in ".{0,12}") {
        survives(&boot_file(&damaged(&everything(), at, length, &with)));
    }

    #[test]
    fn damaged_cloud_files_are_survived(at in 0.0..1.0f64, length in 0..20usize, with in "[a-z:\n\\[\\]{}&*!|>'\" -]{0,12}") {
        let bytes = Some(damaged(CLOUD, at, length, &with).into_bytes());
        survives(&Files { boot_file: None, user_data: bytes.clone(), network_config: bytes });
    }

    #[test]
    fn any_names_are_survived(name in ".{0,40}", wifi in ".{0,20}", password in ".{0,70}", user in "[^\u{0}]{0,20}") {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let text = format!(
            "name = {}\n[[network]]\nwifi = {}\npassword = {}\n[[network]]\nmobile = \"x\"\nuser = {}\n",
            quoted(&name).replace('\u{7f}', ""), quoted(&wifi).replace('\u{7f}', ""), quoted(&password).replace('\u{7f}', ""), quoted(&user).replace('\u{7f}', ""),
        );
        let plan = survives(&boot_file(&text));
        // Nothing breaks out of its line in a key file.
        for file in plan.wanted.into_iter().flat_map(|wanted| wanted.files).filter(|file| file.path.starts_with("networks/")) {
            let text = String::from_utf8(file.content).unwrap();
            prop_assert!(text.lines().all(|line| line.is_empty() || line.starts_with('[') || line.contains('=')), "{text}");
        }
    }
}

fn damaged(text: &str, at: f64, length: usize, with: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the text")]
    let start = (at * characters.len() as f64) as usize;
    let end = (start + length).min(characters.len());
    characters.splice(start..end, with.chars());
    characters.into_iter().collect()
}

#[test]
fn large_files_are_refused_or_read_in_bounded_time() {
    let start = std::time::Instant::now();
    for unit in [
        "[",
        "{",
        "[[network]]\n",
        "[[network]]\nwifi=\"a\"\npassword=\"12345678\"\n",
        "- ",
        "? ",
        "a: {",
        "x = [[",
        "\"",
        "[kiosk.\"x\"]\n",
        "&a *a ",
    ] {
        let text = unit.repeat((1 << 20) / unit.len());
        let bytes = Some(text.into_bytes());
        survives(&Files { boot_file: bytes.clone(), user_data: bytes.clone(), network_config: bytes });
    }
    let too_large = Some(vec![b'#'; (1 << 20) + 1]);
    assert!(survives(&Files { boot_file: too_large, ..Files::default() }).wanted.is_none());
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}
