//! The annotated example of a boot file, `config/waypost.toml`, made from the types and what they say of themselves.

use super::BootFile;
use crate::annotated::{push_docs, push_key};
use crate::setting::Shape;

const OPENING: &str = "\
# One file for a Waypost kiosk: save it as waypost.toml at the top of the card's boot partition (the one that every laptop
# shows). Every key is here behind a # sign: remove that, and write what is yours. The kiosk reads the file each time it
# starts. What is wrong in it is then told by waypost-errors.txt beside it, and the rest of it holds.
#
# Passwords, tokens, PINs and keys are moved off this partition when they are read; the file then says \"(kept)\" in their
# place. Write a new one over that to change it. Keep a copy of the file elsewhere if it is for several kiosks: secrets of
# the others are taken out too, and kept nowhere.
#
# Sizes: \"64KiB\", \"50MB\", \"2GB\". Durations: \"90s\", \"15m\", \"6h\", \"30d\".
";

const CLOSING: &str = "
# Any further key of gateway.toml, but for those above, for example:
#[gateway.access]
#code_lifetime = \"30m\"

# One file may serve many kiosks. What stands in the section of a kiosk's own changes what stands above: single keys one by
# one, lists such as [[network]] as a whole. A kiosk is named by the serial number of its Raspberry Pi, which
# waypost-status.txt and waypost-errors.txt tell. Where there is none, by a MAC address: its interface may come late, or be
# pulled out.
#[kiosk.\"10000000abcdef01\"]
#name = \"Clinic Soroti\"
#[[kiosk.\"10000000abcdef01\".network]]
#wifi = \"SorotiNet\"
#password = \"the password\"
";

/// The text of the annotated example. Read as a boot file, it changes nothing.
pub fn boot_example() -> String {
    let mut text = OPENING.to_owned();
    let fields = BootFile::fields();
    for field in fields.iter().filter(|field| matches!(field.shape, Shape::Value) && field.name != "gateway")
    {
        push_key(field, None, &mut text);
    }
    for field in &fields {
        let Shape::Tables(table) = &field.shape else { continue };
        text.push('\n');
        push_docs(table.docs, &mut text);
        text.push_str(&format!("#[[{}]]\n", field.name));
        table.fields.iter().for_each(|field| push_key(field, None, &mut text));
    }
    text.push_str(CLOSING);
    text
}
