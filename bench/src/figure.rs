//! One measured number: beside what, against which goal, and how it is printed.

use serde_json::{Value, json};

use crate::sample::Sample;

/// What a figure should reach.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// The value itself: at least this.
    AtLeast(f64),
    /// The value itself: at most this.
    AtMost(f64),
    /// Value over reference: at least this.
    RatioAtLeast(f64),
    /// Value over reference: at most this.
    RatioAtMost(f64),
}

/// One measured number.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    range: Option<(f64, f64)>,
    reference: Option<(&'static str, f64)>,
    /// Median of the ratios of the rounds, where rounds were run in pairs.
    paired: Option<f64>,
    goal: Option<Goal>,
}

impl Figure {
    /// `name` begins with its area, `store/…`.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, range: None, reference: None, paired: None, goal: None }
    }

    /// The lowest and the highest round.
    pub fn range(mut self, range: (f64, f64)) -> Self {
        self.range = Some(range);
        self
    }

    /// The same thing done in another way, measured in the same run.
    pub fn beside(mut self, what: &'static str, value: f64) -> Self {
        self.reference = Some((what, value));
        self.paired = None;
        self
    }

    /// As [`Self::beside`], both measured in rounds: the ratio is the median of those of the rounds.
    pub fn beside_rounds(mut self, what: &'static str, own: &Sample, other: &Sample) -> Self {
        self.reference = Some((what, other.median()));
        self.paired = Some(own.over(other).median());
        self
    }

    /// What it should reach.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    fn ratio(&self) -> Option<f64> {
        let of_medians = || self.reference.filter(|(_, of)| *of > 0.0).map(|(_, of)| self.value / of);
        self.paired.or_else(of_medians)
    }

    fn met(&self) -> Option<bool> {
        match self.goal? {
            Goal::AtLeast(least) => Some(self.value >= least),
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::RatioAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
            Goal::RatioAtMost(most) => self.ratio().map(|ratio| ratio <= most),
        }
    }

    fn goal_text(&self) -> Option<String> {
        Some(match self.goal? {
            Goal::AtLeast(least) => format!("≥ {}", number(least)),
            Goal::AtMost(most) => format!("≤ {}", number(most)),
            Goal::RatioAtLeast(least) => format!("ratio ≥ {least:.2}"),
            Goal::RatioAtMost(most) => format!("ratio ≤ {most:.2}"),
        })
    }

    /// One line of JSON.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "lowest": self.range.map(|(lowest, _)| lowest),
            "highest": self.range.map(|(_, highest)| highest),
            "reference": self.reference.map(|(_, value)| value),
            "reference_name": self.reference.map(|(name, _)| name),
            "ratio": self.ratio(),
            "goal": self.goal_text(),
            "met": self.met(),
        })
    }

    /// The cells of its row.
    pub fn row(&self) -> Vec<String> {
        let value = match self.range {
            Some((lowest, highest)) => {
                format!("{} ({}–{})", number(self.value), number(lowest), number(highest))
            }
            None => number(self.value),
        };
        vec![
            self.name.clone(),
            value,
            self.unit.to_owned(),
            self.reference.map(|(name, value)| format!("{name} {}", number(value))).unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.goal_text().unwrap_or_default(),
            match self.met() {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => String::new(),
            },
        ]
    }
}

/// Headings of [`Figure::row`].
pub const HEADINGS: [&str; 7] = ["name", "value (range)", "unit", "reference", "ratio", "goal", "met"];

/// Three significant digits or more, thousands apart.
pub fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_not_and_says_so() {
        let figure = Figure::new("a/b", 90.0, "MiB/s").beside("direct", 120.0).goal(Goal::RatioAtLeast(0.7));
        assert_eq!(figure.json()["met"], true);
        assert_eq!(figure.json()["ratio"], 0.75);
        assert_eq!(figure.goal(Goal::AtMost(80.0)).json()["met"], false);
        assert_eq!(Figure::new("a/b", 1.0, "s").json()["met"], Value::Null);
        assert_eq!(number(1_234_567.0), "1,234,567");
    }
}
