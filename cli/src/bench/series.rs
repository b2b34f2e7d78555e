//! Figures of several rounds: the median says what to expect, the ends say how far to trust it.

use serde_json::{Value, json};

/// One figure, once a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn add(&mut self, figure: f64) {
        self.0.push(figure);
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
    /// The middle one; of an even number the mean of both in the middle; 0 if there is none.
    pub(super) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let at = |place: usize| sorted.get(place).copied().unwrap_or(0.0);
        match sorted.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => at(odd / 2),
            even => f64::midpoint(at(even / 2 - 1), at(even / 2)),
        }
    }
    /// The least and the greatest; 0 if there is none.
    pub(super) fn ends(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0))
    }
    pub(super) fn json(&self) -> Value {
        let (min, max) = self.ends();
        json!({ "median": short(self.median()), "min": short(min), "max": short(max) })
    }
    /// `412.0 (390.1-420.5)`.
    pub(super) fn text(&self) -> String {
        let (min, max) = self.ends();
        if self.0.len() < 2 {
            return shown(self.median());
        }
        format!("{} ({}-{})", shown(self.median()), shown(min), shown(max))
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<T: IntoIterator<Item = f64>>(figures: T) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// Four digits that say something: a figure is never known better.
pub(super) fn short(figure: f64) -> f64 {
    if figure == 0.0 || !figure.is_finite() {
        return 0.0;
    }
    let digits = 3 - figure.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits.abs());
    if digits < 0 { (figure / scale).round() * scale } else { (figure * scale).round() / scale }
}

fn shown(figure: f64) -> String {
    match figure.abs() {
        large if large >= 1000.0 => format!("{figure:.0}"),
        middle if middle >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_ends_are_told() {
        let of = |figures: &[f64]| figures.iter().copied().collect::<Series>();
        assert_eq!(of(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(of(&[]).median(), 0.0);
        assert_eq!(of(&[3.0, 1.0, 2.0]).ends(), (1.0, 3.0));
        assert_eq!(of(&[1234.5, 10.0, 0.123]).text(), "10.0 (0.12-1234)");
        assert_eq!(of(&[7.0]).text(), "7.00");
    }

    #[test]
    fn four_digits_stay() {
        assert_eq!(
            [short(123_456.0), short(1.234_56), short(0.000_123_456), short(0.0)],
            [123_500.0, 1.235, 0.000_123_5, 0.0]
        );
    }
}
