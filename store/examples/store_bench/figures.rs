//! What was measured: a list of figures with what is to be reached, as a table for people and as JSON for programs.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What a figure is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) measure: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) goal: Option<Goal>,
}

impl Figure {
    pub(crate) fn new(case: &str, measure: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { case: case.to_owned(), measure: measure.into(), value, unit: unit.to_owned(), goal: None }
    }

    pub(crate) fn at_least(self, goal: f64) -> Self {
        Self { goal: Some(Goal::AtLeast(goal)), ..self }
    }

    pub(crate) fn at_most(self, goal: f64) -> Self {
        Self { goal: Some(Goal::AtMost(goal)), ..self }
    }

    /// The goal, and whether it is reached: `>= 3000000 yes`.
    fn judged(&self) -> String {
        let (sign, goal, reached) = match self.goal {
            None => return String::new(),
            Some(Goal::AtLeast(goal)) => (">=", goal, self.value >= goal),
            Some(Goal::AtMost(goal)) => ("<=", goal, self.value <= goal),
        };
        format!("{sign} {} {}", shown(goal), if reached { "yes" } else { "NO" })
    }
}

/// A number as a person reads it: three digits or more, and no more than needed.
fn shown(value: f64) -> String {
    match value.abs() {
        1e5.. => format!("{:.2} M", value / 1e6),
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// All figures, as an aligned table.
pub(crate) struct Table<'a>(pub(crate) &'a [Figure]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Figure) -> &str| self.0.iter().map(|figure| of(figure).chars().count()).max().unwrap_or(0);
        let (case, measure) = (width(|figure| &figure.case), width(|figure| &figure.measure));
        for figure in self.0 {
            let value = format!("{} {}", shown(figure.value), figure.unit);
            let row = format!("{:case$}  {:measure$}  {value:>24}  {}", figure.case, figure.measure, figure.judged());
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }
}

/// How long each of many calls took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// In milliseconds; NaN where there was no call.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let place = (self.0.len().saturating_sub(1) as f64 * share).round() as usize;
        self.0.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}
