//! Bytes as text: hexadecimal, base64, or themselves.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How values of extended attributes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// "text", in quotes.
    Text,
    /// 0x0a0b.
    Hex,
    /// 0sCgs=.
    Base64,
}

/// Shows a value. Without a wish it is text if a person can read it, else hexadecimal.
pub(crate) fn shown(bytes: &[u8], wish: Option<Encoding>) -> String {
    let readable = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control));
    match (wish, readable) {
        (Some(Encoding::Base64), _) => format!("0s{}", base64(bytes)),
        (None | Some(Encoding::Text), Some(text)) => quoted(text),
        (Some(Encoding::Text), None) => quoted(&String::from_utf8_lossy(bytes).escape_debug().to_string()),
        (None, None) | (Some(Encoding::Hex), _) => format!("0x{}", hex(bytes)),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// Reads a value: `0x…`, `0s…`, `"…"`, or the text as it is.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return from_hex(digits).ok_or_else(|| "0x is followed by pairs of hexadecimal digits".to_owned());
    }
    if let Some(digits) = text.strip_prefix("0s").or_else(|| text.strip_prefix("0S")) {
        return from_base64(digits).ok_or_else(|| "0s is followed by base64".to_owned());
    }
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Ok(inner.map_or_else(|| text.as_bytes().to_vec(), unquoted))
}

fn unquoted(text: &str) -> Vec<u8> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().or(Some('\\'))),
            c => out.push(c),
        }
    }
    out.into_bytes()
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    let pairs = digits.chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some(high << 4 | low) } else { None }).collect()
}

/// RFC 4648, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if place <= group.len() { digit.into() } else { '=' });
        }
    }
    out
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let plain = text.trim_end_matches('=');
    if text.len() - plain.len() > 2 || plain.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(plain.len() / 4 * 3 + 2);
    let (mut bits, mut have) = (0_u32, 0);
    for byte in plain.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        bits = (bits << 6 | u32::try_from(digit).ok()?) & 0xffff;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_written_as_others_write_them() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        assert_eq!(shown(b"blue", None), "\"blue\"");
        assert_eq!(shown(b"a\"b\\", None), r#""a\"b\\""#);
        assert_eq!(shown(&[0, 255], None), "0x00ff");
        assert_eq!(shown(b"foo", Some(Encoding::Base64)), "0sZm9v");
        assert_eq!(shown(b"foo", Some(Encoding::Hex)), "0x666f6f");
        for bad in ["0x1", "0xg0", "0sZ", "0s===", "0s!!!!"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "[a-z\"\\\\ ä]{0,9}") {
            for wish in [None, Some(Encoding::Hex), Some(Encoding::Base64)] {
                prop_assert_eq!(parse(&shown(&bytes, wish)), Ok(bytes.clone()));
                prop_assert_eq!(parse(&shown(text.as_bytes(), wish)), Ok(text.clone().into_bytes()));
            }
        }
    }
}
