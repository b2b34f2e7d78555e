//! Numbers of bytes.

/// `1.2 GiB`; bytes below 1 KiB as they are.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// A size for a column: with its unit if people read it, else in bytes.
pub(crate) fn shown(bytes: u64, human: bool) -> String {
    if human { size(bytes) } else { bytes.to_string() }
}

/// Reads `67108864`, `64M`, `64MiB`, `1G`, `2T`: powers of 1024.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match upper.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        "P" | "PB" | "PIB" => 50,
        _ => 64,
    };
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1_u64.checked_shl(shift)?));
    size.ok_or_else(|| "write a number of bytes, such as 67108864 or 64M".to_owned())
}

/// As [`parse`], but not 0.
pub(crate) fn parse_positive(text: &str) -> Result<u64, String> {
    match parse(text) {
        Ok(0) => Err("write more than 0, such as 64M".to_owned()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!([size(0), size(1023), size(1024), size(1 << 30)], ["0 B", "1023 B", "1.0 KiB", "1.0 GiB"]);
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!([shown(2048, true), shown(2048, false)], ["2.0 KiB", "2048"]);
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [("67108864", 64 << 20), ("64M", 64 << 20), ("1GiB", 1 << 30), ("1t", 1 << 40), ("0", 0)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "x", "M", "1X", "1.5G", "-1", "99999999999999999999", "20000000T"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse_positive("0").is_err());
    }
}
