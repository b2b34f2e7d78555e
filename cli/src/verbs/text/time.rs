//! Times in UTC, written and read; durations.

use std::fmt::Write;

const SECOND_NS: i64 = 1_000_000_000;

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(ns: i64) -> String {
    let millis = ns.rem_euclid(SECOND_NS) / 1_000_000;
    let mut text = String::with_capacity(24);
    push_seconds(&mut text, ns, 'T');
    push_formatted(&mut text, format_args!(".{millis:03}Z"));
    text
}

/// `2026-11-22 09:28:39`, in UTC.
pub(crate) fn plain_time(ns: i64) -> String {
    let mut text = String::with_capacity(19);
    push_seconds(&mut text, ns, ' ');
    text
}

/// For tables: UTC, to the minute.
pub(crate) fn short_time(ns: i64) -> String {
    let mut text = plain_time(ns);
    text.truncate(text.len().saturating_sub(3));
    text
}

fn push_seconds(out: &mut String, ns: i64, between: char) {
    let seconds = ns.div_euclid(SECOND_NS);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    push_formatted(out, format_args!("{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}"));
}

fn push_formatted(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    if out.write_fmt(text).is_err() {
        out.push('?');
    }
}

/// Times of a listing to the minute: neighbours often have the same.
#[derive(Debug, Default)]
pub(crate) struct ShortTimes {
    minute: Option<i64>,
    text: String,
}

impl ShortTimes {
    pub(crate) fn of(&mut self, ns: i64) -> &str {
        let minute = Some(ns.div_euclid(60 * SECOND_NS));
        if self.minute != minute {
            self.minute = minute;
            self.text = short_time(ns);
        }
        &self.text
    }
}

/// Date of a day counted from 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the
/// leap day is the last day of a year.
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The day of a date, counted from 1970-01-01; the inverse of [`civil`].
const fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Reads `2026-11-22`, `2026-11-22 09:28[:39[.5]]`, with `T` or a space between, `Z` or `+02:00` behind (UTC if
/// nothing is), or `@SECONDS`. Gives ns since the epoch.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    read_time(text.trim()).ok_or_else(|| {
        "write a time such as 2026-11-22, \"2026-11-22 09:28:39\", 2026-11-22T09:28:39+02:00 or @1795339719 (UTC if no \
         zone is named)"
            .to_owned()
    })
}

fn read_time(text: &str) -> Option<i64> {
    if let Some(seconds) = text.strip_prefix('@') {
        let (sign, seconds) = seconds.strip_prefix('-').map_or((1, seconds), |rest| (-1, rest));
        return read_seconds(seconds)?.checked_mul(sign);
    }
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let days = day_of(year, month, day);
    if parts.next().is_some() || civil(days) != (year, month, day) {
        return None;
    }
    let midnight = days.checked_mul(86_400 * SECOND_NS)?;
    if rest.is_empty() {
        return Some(midnight);
    }
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    midnight.checked_add(read_clock(clock)?)?.checked_sub(read_zone(zone)?)
}

/// `09:28`, `09:28:39`, `09:28:39.515`.
fn read_clock(text: &str) -> Option<i64> {
    let mut parts = text.trim_end().splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let seconds = parts.next().map_or(Some(0), read_seconds)?;
    let fits = hour < 24 && minute < 60 && seconds < 60 * SECOND_NS;
    fits.then_some((hour * 3600 + minute * 60) * SECOND_NS + seconds)
}

fn read_zone(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = if let Some(rest) = text.strip_prefix('+') { (1, rest) } else { (-1, text.strip_prefix('-')?) };
    let (hour, minute) = rest.split_once(':').or_else(|| rest.split_at_checked(2))?;
    let (hour, minute) = (digits(hour)?, if minute.is_empty() { 0 } else { digits(minute)? });
    (hour < 24 && minute < 60).then_some(sign * (hour * 3600 + minute * 60) * SECOND_NS)
}

/// Seconds with up to nine decimals, in ns.
fn read_seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_i64.checked_pow(u32::try_from(9 - fraction.len()).ok()?)?;
    digits(whole)?.checked_mul(SECOND_NS)?.checked_add(digits(fraction)? * scale)
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// `3h12m`, `4m10s`, `12s`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(1_795_339_719_515_000_000), "2026-11-22T09:28:39.515Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!([short_time(0), plain_time(0)], ["1970-01-01 00:00", "1970-01-01 00:00:00"]);
        let mut times = ShortTimes::default();
        assert_eq!(times.of(0).to_owned() + times.of(59 * SECOND_NS), "1970-01-01 00:001970-01-01 00:00");
        assert_eq!(times.of(60 * SECOND_NS), "1970-01-01 00:01");
    }

    #[test]
    fn times_as_people_write_them() {
        let exact = 1_795_339_719_515_000_000;
        for text in
            ["2026-11-22T09:28:39.515Z", "2026-11-22 09:28:39.515", "2026-11-22T11:28:39.515+02:00", "@1795339719.515"]
        {
            assert_eq!(parse_time(text), Ok(exact), "{text}");
        }
        assert_eq!(parse_time("2026-11-22 09:28").map(time), Ok("2026-11-22T09:28:00.000Z".into()));
        assert_eq!(parse_time("2026-11-22").map(time), Ok("2026-11-22T00:00:00.000Z".into()));
        assert_eq!(parse_time("1969-12-31T20:00-04"), Ok(0));
        assert_eq!(parse_time("@-1"), Ok(-SECOND_NS));
        for bad in [
            "",
            "yesterday",
            "2026-02-30",
            "2026-13-01",
            "2026-11-22T",
            "2026-11-22 25:00",
            "2026-11-22T09:28:60",
            "2026-11-22x",
            "@",
            "@1.0000000001",
            "2026-11-22 09:28+25:00",
            "26-11-2200",
            "9999999999-11",
        ] {
            assert!(parse_time(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!([duration(999), duration(250_000), duration(11_520_000)], ["0s", "4m10s", "3h12m"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0_i64..4_000_000_000_000, junk in any::<String>()) {
            prop_assert_eq!(parse_time(&time(ms * 1_000_000)), Ok(ms * 1_000_000));
            drop(parse_time(&junk));
        }
    }
}
