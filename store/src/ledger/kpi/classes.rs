//! Classes of parts: ABC by the value of what is used, XYZ by how much use varies from month to month.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use harbinger_core::{PartId, TimeRange, Timestamp, fleet::Part};

use super::share_of;

/// Value: A is what makes up the first 80 % of the value of use, B what makes up the next 15 %, C the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abc {
    /// The first 80 %.
    A,
    /// From there to 95 %.
    B,
    /// The rest, and what was not used.
    C,
}

/// Variability: the coefficient of variation of monthly use, standard deviation over mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Xyz {
    /// At most 0.5.
    X,
    /// At most 1.
    Y,
    /// More, or not known.
    Z,
}

/// A part's class, written `AX` to `CZ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// By value.
    pub abc: Abc,
    /// By variability.
    pub xyz: Xyz,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}", self.abc, self.xyz)
    }
}

/// The class of each of `parts`, by `used`: part, when, pieces. `months` are whole months in which use is known.
///
/// Parts are taken by falling value of use, pieces times unit cost; a part belongs to the class in which its own share begins, so
/// that the first is always A. Variability is that of the months with the population's standard deviation, months without use
/// counted as zero; under two months, or without use in them, it is not known.
pub(super) fn classes<'a>(
    parts: &'a [Part],
    used: impl Iterator<Item = (&'a PartId, Timestamp, f64)>,
    months: &[TimeRange],
) -> HashMap<&'a PartId, Class> {
    let mut pieces: BTreeMap<&PartId, (f64, Vec<f64>)> =
        parts.iter().map(|part| (&part.part, (0.0, vec![0.0; months.len()]))).collect();
    for (part, ts, quantity) in used {
        let Some((total, monthly)) = pieces.get_mut(part) else { continue };
        *total += quantity;
        let place = months.partition_point(|month| month.to <= ts);
        if months.get(place).is_some_and(|month| month.contains(ts)) {
            monthly.get_mut(place).into_iter().for_each(|month| *month += quantity);
        }
    }
    let value = |part: &Part| part.unit_cost * pieces.get(&part.part).map_or(0.0, |(total, _)| *total);
    let mut by_value: Vec<(&PartId, f64)> = parts.iter().map(|part| (&part.part, value(part))).collect();
    by_value.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let all: f64 = by_value.iter().map(|(_, value)| value).sum();
    let mut before = 0.0;
    by_value
        .into_iter()
        .map(|(part, value)| {
            let abc = if value > 0.0 { by_share(before / all) } else { Abc::C };
            before += value;
            let xyz = pieces.get(part).map_or(Xyz::Z, |(_, monthly)| by_variation(variation(monthly)));
            (part, Class { abc, xyz })
        })
        .collect()
}

/// `before`: the share of the value that worthier parts make up.
fn by_share(before: f64) -> Abc {
    match before {
        share if share < 0.80 => Abc::A,
        share if share < 0.95 => Abc::B,
        _ => Abc::C,
    }
}

fn by_variation(variation: Option<f64>) -> Xyz {
    match variation {
        Some(variation) if variation <= 0.5 => Xyz::X,
        Some(variation) if variation <= 1.0 => Xyz::Y,
        _ => Xyz::Z,
    }
}

/// Coefficient of variation; `None` for fewer than two values, or a mean of zero.
fn variation(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = (values.len() > 1).then(|| values.iter().sum::<f64>() / count)?;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    share_of(variance.sqrt(), mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::kpi::fixture::{day, days, named_part};

    /// By hand: 2, 4 has mean 3 and deviation 1; 0, 4 has mean and deviation 2; 0, 0, 3 has mean 1 and deviation sqrt 2.
    #[test]
    fn variation_is_deviation_over_mean() {
        assert_eq!(variation(&[2.0, 4.0]), Some(1.0 / 3.0));
        assert_eq!(variation(&[0.0, 4.0]), Some(1.0));
        assert!((variation(&[0.0, 0.0, 3.0]).unwrap() - 2.0_f64.sqrt()).abs() < 1e-15);
        assert_eq!((variation(&[3.0]), variation(&[0.0, 0.0])), (None, None));
        assert_eq!([0.5, 0.51, 1.0, 1.01].map(|v| by_variation(Some(v))), [Xyz::X, Xyz::Y, Xyz::Y, Xyz::Z]);
    }

    /// Months of 30 days. Values 700, 200, 70, 20 and 0 of 990: they begin at 0, 70.7, 90.9, 98.0 %.
    #[test]
    fn a_part_is_of_the_class_in_which_its_share_begins() {
        let parts = [
            named_part("steady", 7.0),
            named_part("swings", 10.0),
            named_part("once", 70.0),
            named_part("cheap", 1.0),
            named_part("idle", 999.0),
        ];
        let months = [days(0, 30), days(30, 60), days(60, 90)];
        let rows = [
            ("steady", 1, 30.0),
            ("steady", 31, 40.0),
            ("steady", 61, 30.0),
            ("swings", 2, 10.0),
            ("swings", 59, 8.0),
            ("swings", 60, 2.0),
            ("once", 89, 1.0),
            ("cheap", 5, 10.0),
            ("cheap", 90, 10.0), // in a month that is not whole: it counts for the value only
        ];
        let used: Vec<(PartId, Timestamp, f64)> =
            rows.iter().map(|(part, at, pieces)| (part.parse().unwrap(), day(*at), *pieces)).collect();
        let found = classes(&parts, used.iter().map(|(part, ts, pieces)| (part, *ts, *pieces)), &months);
        let class = |name: &str| found[&name.parse::<PartId>().unwrap()].to_string();
        let expected = ["AX", "AY", "BZ", "CZ", "CZ"];
        assert_eq!(["steady", "swings", "once", "cheap", "idle"].map(class), expected);
    }
}
