//! Any text is a configuration, or an error with its place; never a panic.

use proptest::prelude::*;
use waypost_config::{Config, MAX_PROBLEMS, Severity, Source, annotated, parse};

/// The annotated file with every key in use, to be damaged.
fn everything() -> String {
    let lines = annotated();
    let lines = lines.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Reads it as main file and as drop-in, and looks at what every report must be.
fn survives(text: &str) {
    let sources = [Source::new("/etc/gateway.toml", text), Source::new("/etc/gateway.d/a.toml", text)];
    let loaded = parse(&sources);
    assert!(loaded.problems.len() <= MAX_PROBLEMS + 1);
    for problem in loaded.problems.iter().filter(|problem| problem.severity > Severity::Warning) {
        let Some(origin) = &problem.origin else { continue };
        let lines: Vec<_> = text.split('\n').collect();
        assert!(origin.line >= 1 && origin.line <= lines.len(), "{problem}");
        let width = lines[origin.line - 1].chars().count();
        assert!(origin.column >= 1 && origin.column <= width + 1, "{problem}");
        assert!(!problem.message.is_empty() && !problem.to_string().contains(char::is_control));
    }
    if loaded.problems.iter().all(|problem| problem.origin.is_none()) {
        // Nothing was found wrong in the text, so that it must be readable once more with the same result.
        assert_eq!(parse(&sources[..1]).config.limits, loaded.config.limits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_characters_are_survived(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn toml_like_text_is_survived(text in "([a-z_]{1,8}( = |\\.|\n)|\\[{1,2}(destination|store|lan)\\]{1,2}\n|\"[^\"]{0,8}\"|[0-9.:T-]{1,9}|[{}\\[\\],'#\n]){0,60}") {
        survives(&text);
    }

    #[test]
    fn damaged_files_are_survived(at in 0.0..1.0f64, length in 0..12usize, with in ".{0,12}") {
        let mut characters: Vec<char> = everything().chars().collect();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the text")]
        let start = (at * characters.len() as f64) as usize;
        let end = (start + length).min(characters.len());
        characters.splice(start..end, with.chars());
        survives(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn any_value_behind_any_key_is_survived(key in 0..64usize, value in r#"("[^"\\]{0,20}"|-?[0-9]{1,25}|0x[0-9a-f]{1,20}|[0-9]\.[0-9]e[0-9]{1,4}|true|nan|\[\]|\[1, "x", \{\}\]|\{ a = 1 \}|1979-05-27)"#) {
        let text = everything();
        let keys: Vec<usize> = text.lines().enumerate().filter(|(_, line)| line.contains(" = ") && !line.starts_with('#')).map(|(at, _)| at).collect();
        let changed = keys[key % keys.len()];
        let lines: Vec<String> = text.lines().enumerate().map(|(at, line)| match line.split_once(" = ") {
            Some((name, _)) if at == changed => format!("{name} = {value}"),
            _ => line.to_owned(),
        }).collect();
        survives(&lines.join("\n"));
    }
}

#[test]
fn the_file_that_is_damaged_uses_every_key() {
    let loaded = parse(&[Source::new("gateway.toml", everything())]);
    assert_ne!(loaded.config, Config::default());
    assert!(loaded.problems.iter().any(|problem| problem.message.contains("token_file excludes")));
}
