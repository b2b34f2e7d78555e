//! Dates of moments, in UTC. Nothing here asks what time it is.

/// A moment in the Gregorian calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DateTime {
    /// Year.
    pub year: i64,
    /// Month, from 1.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Hour.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second.
    pub second: i64,
    /// ms of the second.
    pub millisecond: i64,
}

impl DateTime {
    /// Of ns since the Unix epoch.
    #[must_use]
    pub const fn of_unix_ns(ns: i64) -> Self {
        let (seconds, below) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        Self { year, month, day, hour, minute, second: second % 60, millisecond: below / 1_000_000 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let text = |ns| {
            let t = DateTime::of_unix_ns(ns);
            let date = format!("{:04}-{:02}-{:02}", t.year, t.month, t.day);
            format!("{date}T{:02}:{:02}:{:02}.{:03}", t.hour, t.minute, t.second, t.millisecond)
        };
        assert_eq!(text(0), "1970-01-01T00:00:00.000");
        assert_eq!(text(951_782_400_000_000_000), "2000-02-29T00:00:00.000");
        assert_eq!(text(1_795_339_719_515_000_000), "2026-11-22T09:28:39.515");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999");
    }
}
