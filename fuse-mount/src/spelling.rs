//! Names of programs as the namespace spells them, and back. Pure.
//!
//! To a program a name is bytes; to the namespace, and to every other door of it, it is text. Bytes that are no UTF-8 are
//! spelled with one private character each, from U+10FF80 (byte 0x80) to U+10FFFF (byte 0xFF), the last ones that there are.
//! So that no two names are spelled alike, a name that has such characters itself is spelled by their bytes. What is given to
//! the mount comes back as it was; other doors show the private characters.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The character of the byte 0; bytes below 0x80 are never spelled.
const FIRST: u32 = 0x0010_FF00;

fn of_byte(byte: u8) -> Option<char> {
    char::from_u32(FIRST + u32::from(byte))
}

fn byte_of(character: char) -> Option<u8> {
    let byte = u32::from(character).checked_sub(FIRST)?;
    u8::try_from(byte).ok().filter(|byte| *byte >= 0x80)
}

/// The text of a name.
#[must_use]
pub(crate) fn spelled(name: &OsStr) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match byte_of(character) {
                None => text.push(character),
                Some(_) => text.extend(character.encode_utf8(&mut [0; 4]).bytes().filter_map(of_byte)),
            }
        }
        text.extend(chunk.invalid().iter().copied().filter_map(of_byte));
    }
    text
}

/// The name of a text.
#[must_use]
pub(crate) fn read(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_stays_what_it_is() {
        for name in ["a", "é", "名前", "\u{10FEFF}", "\u{10FF7F}", ""] {
            assert_eq!((spelled(OsStr::new(name)).as_str(), read(name).as_os_str()), (name, OsStr::new(name)));
        }
    }

    #[test]
    fn other_bytes_are_private_characters() {
        assert_eq!(spelled(OsStr::from_bytes(b"a\xff\x80z")), "a\u{10FFFF}\u{10FF80}z");
        // The bytes of the first private character.
        assert_eq!(spelled(OsStr::new("\u{10FF80}")), "\u{10FFF4}\u{10FF8F}\u{10FFBE}\u{10FF80}");
    }

    proptest! {
        #[test]
        fn every_name_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "\\PC{0,4}[\u{10FF70}-\u{10FFFF}]{0,4}") {
            for name in [OsStr::from_bytes(&bytes), OsStr::new(&text)] {
                prop_assert_eq!(&read(&spelled(name)), name);
            }
        }

        #[test]
        fn no_two_names_are_spelled_alike(one in proptest::collection::vec(0x7e_u8..=0xff, 0..5), other in proptest::collection::vec(0x7e_u8..=0xff, 0..5)) {
            let (one, other) = (OsStr::from_bytes(&one), OsStr::from_bytes(&other));
            prop_assert_eq!(one == other, spelled(one) == spelled(other));
        }
    }
}
