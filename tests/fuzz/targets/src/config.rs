//! What people write: the gateway's configuration, and the files on a kiosk's boot partition.

use waypost_config::boot::check_drop_in;
use waypost_config::{Config, MAX_PROBLEMS, Problem, Severity, Source, parse};
use waypost_kiosk::errors::{self, Holds};
use waypost_kiosk::machine::Machine;
use waypost_kiosk::plan::{Files, plan};
use waypost_kiosk::render::gateway::DROP_IN;
use waypost_kiosk::secrets::{Kept, find};

use crate::steps;

/// `gateway.toml`.
pub fn config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let loaded = parse(&[Source::new("gateway.toml", text)]);
    assert!(loaded.problems.len() <= MAX_PROBLEMS + 1);
    for problem in &loaded.problems {
        assert!(!problem.message.is_empty() && !problem.to_string().contains(char::is_control), "{problem}");
        place_is_in(text, problem);
    }
    loaded.config != Config::default()
}

fn place_is_in(text: &str, problem: &Problem) {
    let Some(origin) = &problem.origin else { return };
    let line = origin.line.checked_sub(1).and_then(|before| text.split('\n').nth(before));
    let width = line.expect("a line of the file").chars().count();
    assert!((1..=width + 1).contains(&origin.column), "{problem}");
}

/// `waypost.toml`, cloud-init's `user-data` and its `network-config`: a step each, by the step's first byte.
pub fn boot(data: &[u8]) -> bool {
    let mut files = Files::default();
    for (what, bytes) in steps(data) {
        let file = match what % 3 {
            0 => &mut files.boot_file,
            1 => &mut files.user_data,
            _ => &mut files.network_config,
        };
        *file = Some(bytes.to_vec());
    }
    let machine = Machine { serial: Some("10000000abcdef01".into()), ..Machine::default() };
    let plan = plan(&files, &|name| Ok(name.as_bytes().to_vec()), &Kept::new(), &machine);
    assert!(plan.problems.len() <= 4 * MAX_PROBLEMS);
    let said = errors::text(&plan.problems, Holds::TheRest, &machine).unwrap_or_default();
    assert!(said.len() < 1 << 20 && !said.replace("\r\n", "").contains(char::is_control), "{said}");
    let Some(wanted) = &plan.wanted else { return false };
    for file in &wanted.files {
        assert!(!["..", "//", "\n"].iter().any(|part| file.path.contains(part)), "{}", file.path);
        if file.path.starts_with("networks/") {
            let text = std::str::from_utf8(&file.content).expect("a key file is text");
            let is_whole = |line: &str| line.is_empty() || line.starts_with('[') || line.contains('=');
            assert!(text.lines().all(is_whole), "{text}");
        }
    }
    let drop_in = wanted.files.iter().find(|file| file.path == DROP_IN).expect("the gateway's file");
    let drop_in = std::str::from_utf8(&drop_in.content).expect("TOML is text");
    let fatal = check_drop_in(drop_in).into_iter().find(|problem| problem.severity == Severity::Fatal);
    assert!(fatal.is_none(), "{fatal:?} in {drop_in}");
    if let Some(without) = &wanted.without_secrets {
        let left = find(&Source::new("waypost.toml", without.as_str()), &machine);
        assert!(left.without.is_none() && left.given.is_empty(), "a secret stays in {without}");
    }
    !files.boot_file.unwrap_or_default().is_empty()
        || wanted.files.iter().any(|file| file.path.starts_with("networks/"))
}
