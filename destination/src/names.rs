//! File names from strangers, made into paths that stay in their folder.

/// The longest component, in bytes, on Linux's file systems.
const MAX_COMPONENT: usize = 255;
/// The longest path below the collection's folder, in bytes: programs that read it use paths of at most 4,096.
const MAX_PATH: usize = 3_000;

/// The components of the path under which a document's content is kept, or none where the name has nothing usable.
///
/// Bytes stay as they are wherever that is a legal path. `/` separates folders; empty, `.` and `..` components are
/// dropped, so that absolute paths become relative; NUL becomes `_`; components over 255 bytes lose the end of their
/// stem; of paths over 3,000 bytes the last components stay.
pub fn components(name: &[u8]) -> Vec<Vec<u8>> {
    let parts = name.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"." | b".."));
    let legal = parts.map(|part| {
        let clean: Vec<u8> = part.iter().map(|&byte| if byte == 0 { b'_' } else { byte }).collect();
        shortened(&clean, b"")
    });
    let mut length = 0;
    let mut kept: Vec<_> = legal.collect::<Vec<_>>();
    let fits = kept.iter().rev().take_while(|part| {
        length += part.len() + 1;
        length <= MAX_PATH
    });
    let fits = fits.count();
    kept.split_off(kept.len() - fits)
}

/// The name with `~` and `mark` before its extension: `form~2.xml`.
pub fn marked(component: &[u8], mark: &str) -> Vec<u8> {
    shortened(component, format!("~{mark}").as_bytes())
}

/// `stem` + `insert` + extension, the stem cut so that all has at most 255 bytes.
fn shortened(component: &[u8], insert: &[u8]) -> Vec<u8> {
    let dot = component.iter().rposition(|&byte| byte == b'.').filter(|&at| at > 0);
    // An extension so long that it leaves no stem is none.
    let dot = dot.filter(|&at| component.len() - at + insert.len() < MAX_COMPONENT / 2);
    let (stem, extension) = component.split_at(dot.unwrap_or(component.len()));
    let room = MAX_COMPONENT - insert.len() - extension.len();
    let mut end = stem.len().min(room);
    // Where it is UTF-8, whole characters.
    while end < stem.len() && end > 0 && stem[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    [&stem[..end], insert, extension].concat()
}

/// Whether a collection's name can be a folder.
pub fn is_folder_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_COMPONENT && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(name: &[u8]) -> String {
        let parts: Vec<_> =
            components(name).iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        parts.join("|")
    }

    #[test]
    fn legal_names_stay_byte_for_byte() {
        for name in ["a.xml", "-rf", "'\"\n$(x)", "été 写真.jpg", " ", "...", ".hidden", "a\\b", "~", "CON"]
        {
            assert_eq!(components(name.as_bytes()), [name.as_bytes()]);
        }
        assert_eq!(components(b"a\xff\xfe.bin"), [b"a\xff\xfe.bin"]);
        assert_eq!(path(b"2026/11/form.xml"), "2026|11|form.xml");
    }

    #[test]
    fn what_leaves_its_folder_is_kept_inside() {
        assert_eq!(path(b"../../x"), "x");
        assert_eq!(path(b"/etc/passwd"), "etc|passwd");
        assert_eq!(path(b"a/./../b//c/"), "a|b|c");
        assert_eq!(path(b"a\0b"), "a_b");
        for nothing in [&b""[..], b"/", b"..", b"./..//"] {
            assert!(components(nothing).is_empty());
        }
    }

    #[test]
    fn long_names_keep_their_extension() {
        let long = [vec![b'x'; 300], b".jpeg".to_vec()].concat();
        let kept = components(&long).remove(0);
        assert_eq!((kept.len(), kept.ends_with(b"x.jpeg")), (255, true));
        let accents = "é".repeat(200);
        let kept = components(accents.as_bytes()).remove(0);
        assert_eq!(String::from_utf8(kept).unwrap(), "é".repeat(127));
        let deep = b"folder/".repeat(1_000);
        let kept = components(&deep);
        assert!(kept.len() > 400 && kept.iter().map(|part| part.len() + 1).sum::<usize>() <= MAX_PATH);
    }

    #[test]
    fn a_second_name_differs_before_its_extension() {
        assert_eq!(marked(b"form.xml", "2"), b"form~2.xml");
        assert_eq!(marked(b"form", "2"), b"form~2");
        assert_eq!(marked(b".profile", "3"), b".profile~3");
        assert_eq!(marked(b"a.tar.gz", "2"), b"a.tar~2.gz");
    }

    proptest! {
        #[test]
        fn any_name_gives_legal_components(name: Vec<u8>, long in 0usize..600) {
            let name = [name, vec![b'n'; long]].concat();
            for part in components(&name) {
                for part in [marked(&part, "12345"), part] {
                    prop_assert!(!part.is_empty() && part.len() <= MAX_COMPONENT);
                    prop_assert!(part != b"." && part != b".." && !part.contains(&0) && !part.contains(&b'/'));
                }
            }
        }
    }
}
