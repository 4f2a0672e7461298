//! Operating regimes: a device whose settings jump between a few levels is compared with itself in the same regime.
//!
//! An engine at cruise and at take-off shows other temperatures, healthy or not; how far a value lies from what is usual in
//! its regime says more than the value. A setting is a signal whose values lie in a few narrow groups with wide gaps between
//! them, and which devices change often: a flag that rises with a fault and stays is none. Signals that follow the settings
//! jump with them; so the one of the most groups comes first, of equals the narrowest, and another one counts only where it
//! parts most regimes further: one that does so in a single regime, such as a coarse reading that wear moves over its step, is
//! an effect and no setting.

use std::collections::BTreeMap;

use harbinger_core::{SignalId, history::Readings};
use serde::{Deserialize, Serialize};

/// Most groups of a setting's values.
const GROUPS_MAX: usize = 12;
/// Least gap between groups, as a share of the range of values.
const LEAST_GAP: f64 = 0.05;
/// Widest group, as a share of the least gap.
const WIDEST_GROUP: f64 = 0.25;
/// Least share of the readings in a group, and in a regime.
const LEAST_SHARE: f64 = 0.01;
/// How often, at least, one reading of a device lies in another group than the one before.
const LEAST_CHANGES: f64 = 0.05;
/// Least share of the regimes so far that a further setting parts.
const LEAST_PARTED: f64 = 0.5;
/// Readings that are looked at for groups.
const LOOKED_AT: usize = 50_000;

/// What regimes there are, and what is usual in each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regimes {
    settings: Vec<Setting>,
    /// Groups of the settings, joined, and the regime's place. A list, since JSON has no such keys.
    known: Vec<(Vec<usize>, usize)>,
    /// Mean and standard deviation of each other signal, a regime each.
    usual: Vec<(SignalId, Vec<(f64, f64)>)>,
}

/// A signal whose groups part regimes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    signal: SignalId,
    /// Between the groups, rising.
    borders: Vec<f64>,
}

impl Setting {
    fn group(&self, value: f64) -> Option<usize> {
        (!value.is_nan()).then(|| self.borders.partition_point(|&border| border < value))
    }
}

impl Regimes {
    /// What the readings of some devices show; `None` where they know but one regime.
    #[must_use]
    pub fn find(readings: &[&Readings]) -> Option<Self> {
        let mut names: Vec<&SignalId> = readings.iter().flat_map(|r| r.columns.iter().map(|(name, _)| name)).collect();
        names.sort();
        names.dedup();
        let mut candidates: Vec<(f64, Setting)> = names.iter().filter_map(|name| setting(name, readings)).collect();
        candidates.sort_by(|a, b| b.1.borders.len().cmp(&a.1.borders.len()).then(a.0.total_cmp(&b.0)));
        // Without a setting all readings are of one regime.
        let (mut settings, mut known) = (Vec::new(), vec![Vec::new()]);
        for (_, candidate) in candidates {
            settings.push(candidate);
            let finer = frequent(&settings, readings);
            if parted(&finer) as f64 >= LEAST_PARTED * known.len() as f64 {
                known = finer;
            } else {
                settings.pop();
            }
        }
        if known.len() < 2 {
            return None;
        }
        let known = known.into_iter().enumerate().map(|(n, groups)| (groups, n)).collect();
        let mut regimes = Self { settings, known, usual: Vec::new() };
        regimes.usual = names
            .into_iter()
            .filter(|name| !regimes.is_setting(name))
            .map(|name| (name.clone(), regimes.moments(name, readings)))
            .collect();
        Some(regimes)
    }

    /// Whether a signal is one of the settings that part regimes.
    pub(crate) fn is_setting(&self, signal: &SignalId) -> bool {
        self.settings.iter().any(|setting| setting.signal == *signal)
    }

    /// The regime at each reading; `None` where a setting is missing or the regime was not seen when they were found.
    fn along(&self, readings: &Readings) -> Vec<Option<usize>> {
        let at = |place: usize| {
            let groups = groups_at(&self.settings, readings, place)?;
            let place = self.known.binary_search_by(|(known, _)| known.cmp(&groups)).ok()?;
            Some(self.known[place].1)
        };
        (0..readings.len()).map(at).collect()
    }

    /// Mean and standard deviation of a signal in each regime.
    fn moments(&self, name: &SignalId, readings: &[&Readings]) -> Vec<(f64, f64)> {
        let mut sums = vec![(0.0, 0.0, 0.0); self.known.len()];
        for readings in readings {
            let Some(column) = readings.column(name) else { continue };
            for (regime, value) in self.along(readings).into_iter().zip(column) {
                let (Some(regime), false) = (regime, value.is_nan()) else { continue };
                // Welford's update: values far from zero lose no digits.
                let (count, mean, squares) = &mut sums[regime];
                *count += 1.0;
                let off = value - *mean;
                *mean += off / *count;
                *squares += off * (value - *mean);
            }
        }
        sums.into_iter().map(|(count, mean, squares)| (mean, (squares / f64::max(count, 1.0)).sqrt())).collect()
    }

    /// The same readings, every signal but the settings told in standard deviations from what is usual in its regime;
    /// missing where the regime is not known.
    #[must_use]
    pub fn within(&self, readings: &Readings) -> Readings {
        let along = self.along(readings);
        let column = |(name, column): &(SignalId, Vec<f64>)| {
            let Ok(place) = self.usual.binary_search_by(|(known, _)| known.cmp(name)) else {
                return (name.clone(), column.clone());
            };
            let usual = &self.usual[place].1;
            let told = column.iter().zip(&along).map(|(value, regime)| match regime.map(|regime| usual[regime]) {
                Some((mean, spread)) if spread > 1e-9 * mean.abs() => (value - mean) / spread,
                Some((mean, _)) => value - mean,
                None => f64::NAN,
            });
            (name.clone(), told.collect())
        };
        Readings { times: readings.times.clone(), columns: readings.columns.iter().map(column).collect() }
    }
}

fn groups_at(settings: &[Setting], readings: &Readings, place: usize) -> Option<Vec<usize>> {
    settings.iter().map(|setting| setting.group(*readings.column(&setting.signal)?.get(place)?)).collect()
}

/// How many regimes, told by all groups but the last, the last one parts.
fn parted(finer: &[Vec<usize>]) -> usize {
    let same = |a: &Vec<usize>, b: &Vec<usize>| a[..a.len() - 1] == b[..b.len() - 1];
    finer.chunk_by(same).filter(|of_one| of_one.len() > 1).count()
}

/// The combinations of groups that enough readings show, in order.
fn frequent(settings: &[Setting], readings: &[&Readings]) -> Vec<Vec<usize>> {
    let mut counts: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    for readings in readings {
        for groups in (0..readings.len()).filter_map(|place| groups_at(settings, readings, place)) {
            *counts.entry(groups).or_default() += 1;
        }
    }
    let least = LEAST_SHARE * counts.values().sum::<usize>() as f64;
    counts.into_iter().filter(|(_, count)| *count as f64 >= least).map(|(groups, _)| groups).collect()
}

/// The signal as a setting, if it can be one, and how wide its groups are beside their gaps.
fn setting(name: &SignalId, readings: &[&Readings]) -> Option<(f64, Setting)> {
    let columns: Vec<&[f64]> = readings.iter().filter_map(|readings| readings.column(name)).collect();
    let count: usize = columns.iter().map(|column| column.len()).sum();
    let every = count.div_ceil(LOOKED_AT).max(1);
    let mut values: Vec<f64> =
        columns.iter().flat_map(|column| column.iter().copied()).step_by(every).filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (first, last) = (*values.first()?, *values.last()?);
    let least_gap = LEAST_GAP * (last - first);
    if least_gap <= 0.0 {
        return None;
    }
    // Where each group begins.
    let mut begins = vec![0];
    begins.extend((1..values.len()).filter(|&n| values[n] - values[n - 1] >= least_gap));
    if begins.len() < 2 || begins.len() > GROUPS_MAX {
        return None;
    }
    let ends = begins[1..].iter().copied().chain([values.len()]);
    let groups: Vec<(usize, usize)> = begins.iter().copied().zip(ends).collect();
    let gaps = groups.windows(2).map(|pair| values[pair[1].0] - values[pair[0].1 - 1]);
    let narrowest = gaps.fold(f64::INFINITY, f64::min);
    let widest = groups.iter().map(|&(begin, end)| values[end - 1] - values[begin]).fold(0.0, f64::max);
    let least = LEAST_SHARE * values.len() as f64;
    if widest > WIDEST_GROUP * narrowest || groups.iter().any(|(begin, end)| ((end - begin) as f64) < least) {
        return None;
    }
    let borders = groups.windows(2).map(|pair| f64::midpoint(values[pair[0].1 - 1], values[pair[1].0])).collect();
    let setting = Setting { signal: name.clone(), borders };
    (changes(&setting, &columns) >= LEAST_CHANGES).then_some((widest / narrowest, setting))
}

/// Median over devices of how often one reading lies in another group than the one before.
fn changes(setting: &Setting, columns: &[&[f64]]) -> f64 {
    let share = |column: &&[f64]| {
        let groups: Vec<usize> = column.iter().filter_map(|&value| setting.group(value)).collect();
        let changed = groups.windows(2).filter(|pair| pair[0] != pair[1]).count();
        (groups.len() > 1).then(|| changed as f64 / (groups.len() - 1) as f64)
    };
    let mut shares: Vec<f64> = columns.iter().filter_map(share).collect();
    shares.sort_by(f64::total_cmp);
    shares.get(shares.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use harbinger_core::{Duration, Timestamp};

    fn id(name: &str) -> SignalId {
        name.parse().unwrap()
    }

    /// Speed jumps between two levels, heat follows it and a slow drift; a flag rises once and stays.
    fn engine(drift: f64, offset: usize) -> Readings {
        let mut readings = Readings::default();
        for n in 0..400_usize {
            let fast = (n + offset) * 7 % 5 < 2;
            let speed = if fast { 100.0 } else { 20.0 } + (n % 3) as f64 * 0.1;
            let heat = if fast { 900.0 } else { 400.0 } + drift * n as f64 + (n % 11) as f64;
            let flag = if n > 300 { 1.0 } else { 0.0 };
            let ts = Timestamp::from_millis(0) + Duration::from_hours(n as i64);
            readings.push(ts, &[(id("flag"), flag), (id("heat"), heat), (id("speed"), speed)]);
        }
        readings
    }

    #[test]
    fn what_jumps_is_a_setting_and_what_drifts_is_told_within_its_regime() {
        let fleet = [engine(0.0, 0), engine(0.0, 3), engine(0.05, 1)];
        let regimes = Regimes::find(&fleet.iter().collect::<Vec<_>>()).unwrap();
        let settings: Vec<&str> = regimes.settings.iter().map(|setting| setting.signal.as_str()).collect();
        assert_eq!(settings, ["speed"], "a flag that stays and what follows a setting are none");
        let told = regimes.within(&fleet[2]);
        let heat = told.column(&id("heat")).unwrap();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        assert!(mean(&heat[350..]) - mean(&heat[..50]) > 1.5, "the drift stands out");
        assert!(heat.iter().all(|value| value.abs() < 5.0), "no jump is left");
        assert_eq!(told.column(&id("speed")), fleet[2].column(&id("speed")));
    }

    #[test]
    fn a_coarse_reading_that_wear_moves_over_its_step_in_one_regime_parts_none() {
        let mut readings = Readings::default();
        for n in 0..600_usize {
            let gear = n * 7 % 3;
            let wear = n as f64 / 600.0 + (n % 5) as f64 * 0.1;
            let ratio = [0.02, if wear > 0.5 { 0.03 } else { 0.02 }, 0.03][gear];
            let ts = Timestamp::from_millis(0) + Duration::from_hours(n as i64);
            let load = [10.0, 50.0][n / 3 % 2];
            readings.push(ts, &[(id("gear"), gear as f64 * 10.0), (id("load"), load), (id("ratio"), ratio)]);
        }
        let regimes = Regimes::find(&[&readings]).unwrap();
        let settings: Vec<&str> = regimes.settings.iter().map(|setting| setting.signal.as_str()).collect();
        assert_eq!((settings.as_slice(), regimes.known.len()), (["gear", "load"].as_slice(), 6));
    }

    #[test]
    fn one_regime_is_none() {
        let mut readings = Readings::default();
        for n in 0..100 {
            let ts = Timestamp::from_millis(0) + Duration::from_hours(n);
            readings.push(ts, &[(id("heat"), (n as f64).sin())]);
        }
        assert_eq!(Regimes::find(&[&readings]), None);
        assert_eq!(Regimes::find(&[]), None);
    }

    #[test]
    fn a_regime_that_was_never_seen_is_missing() {
        let fleet = engine(0.0, 0);
        let regimes = Regimes::find(&[&fleet]).unwrap();
        let mut silent = Readings::default();
        silent.push(Timestamp::from_millis(0), &[(id("heat"), 400.0)]);
        assert!(regimes.within(&silent).column(&id("heat")).unwrap()[0].is_nan());
    }
}
