//! When an unusual reading becomes an alarm: thresholds from the time that was learnt from, by the false alarms it would have
//! had.

use harbinger_core::{Duration, Timestamp};

use super::states::weight;

/// The score is smoothed with this half-life: what is wrong with a device lasts longer than a reading.
const SCORE_HALF_LIFE: Duration = Duration::from_secs(600);
/// What a short fault shows in.
const SHORT_HALF_LIFE: Duration = Duration::from_secs(60);
/// How much a drift counts in the score.
const DRIFT_SHARE: f64 = 0.25;
/// False alarm runs a day that the short, the smoothed and the drift statistic may have.
const RUNS_A_DAY: [f64; 3] = [0.4, 0.2, 0.1];
/// An alarm holds until its statistic is back by this share of the way from the threshold to its median.
const RELEASE: f64 = 0.5;
/// Alarms that so many readings lie between are two.
const RUN_GAP: usize = 30;
/// Shares of the readings, from one of them to [`MOST_ABOVE`], that are tried to lie above a threshold.
const LEVELS: u32 = 400;
const MOST_ABOVE: f64 = 0.2;

/// The short, the smoothed and the drift statistic of a reading.
pub(super) type Statistics = [f64; 3];

/// Makes statistics of a device's distances, in order of time.
#[derive(Debug, Clone, Default)]
pub(super) struct Smoothing {
    short: Option<f64>,
    smoothed: Option<f64>,
    last: Option<Timestamp>,
}

impl Smoothing {
    /// Takes in the distances of the next reading from what is usual: its departure, its jump, its drift.
    pub(super) fn step(&mut self, ts: Timestamp, [departure, jump, drift]: [f64; 3], cadence: Duration) -> Statistics {
        let gap = self.last.map_or(cadence, |last| Duration::from_millis(ts.millis() - last.millis()));
        self.last = Some(ts);
        let now = departure + jump;
        let toward = |mean: &mut Option<f64>, half_life| {
            let before = mean.unwrap_or(now);
            *mean.insert(before + weight(gap, half_life) * (now - before))
        };
        [toward(&mut self.short, SHORT_HALF_LIFE), toward(&mut self.smoothed, SCORE_HALF_LIFE), drift]
    }
}

/// How anomalous a reading is.
pub(super) fn score([_, smoothed, drift]: Statistics) -> f64 {
    smoothed + DRIFT_SHARE * drift
}

/// For each statistic above what it alarms, and until where an alarm holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Thresholds([(f64, f64); 3]);

impl Thresholds {
    /// The lowest that raise no more runs than allowed on `seen`, one reading each `cadence`; `None` where there is none.
    pub(super) fn choose(seen: &[Statistics], cadence: Duration) -> Option<Self> {
        let days = seen.len() as f64 * cadence.days();
        let of = |n: usize| {
            let statistic: Vec<f64> = seen.iter().map(|statistics| statistics[n]).collect();
            threshold(&statistic, RUNS_A_DAY[n] * days)
        };
        Some(Self([of(0)?, of(1)?, of(2)?]))
    }

    /// Whether a reading is in alarm; `on`: which statistics are, from the reading before. Updated.
    pub(super) fn alarm(&self, statistics: Statistics, on: &mut [bool; 3]) -> bool {
        for ((on, statistic), (threshold, release)) in on.iter_mut().zip(statistics).zip(self.0) {
            *on = statistic > threshold || *on && statistic > release;
        }
        on.contains(&true)
    }
}

/// The threshold, and where an alarm ends.
fn threshold(statistic: &[f64], runs_allowed: f64) -> Option<(f64, f64)> {
    let mut sorted = statistic.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut lowest = *sorted.last()?;
    let rarest = 1.0 / sorted.len() as f64;
    for level in 0..LEVELS {
        let share = rarest * (MOST_ABOVE / rarest).powf(f64::from(level) / f64::from(LEVELS - 1));
        let candidate = quantile(&sorted, 1.0 - share);
        if runs(statistic, candidate) as f64 > runs_allowed {
            break;
        }
        lowest = candidate;
    }
    Some((lowest, lowest + RELEASE * (quantile(&sorted, 0.5) - lowest)))
}

/// Linear between order statistics, as R's type 7.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Runs of readings above a threshold.
fn runs(statistic: &[f64], threshold: f64) -> usize {
    let (mut runs, mut last) = (0, None);
    for place in (0..statistic.len()).filter(|&place| statistic[place] > threshold) {
        runs += usize::from(last.is_none_or(|last| place - last > RUN_GAP));
        last = Some(place);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_threshold_allows_as_many_runs_as_it_may() {
        // Ten peaks of rising height, each a few readings wide.
        let statistic: Vec<f64> = (0..10_000)
            .map(|n| if n % 1_000 < 5 { 2.0 + f64::from(n / 1_000) } else { f64::from(n % 7) / 10.0 })
            .collect();
        for allowed in [0.0, 1.0, 3.0, 9.0] {
            let (chosen, release) = threshold(&statistic, allowed).unwrap();
            assert!(0.3 < release && release < chosen, "{release}");
            assert!(runs(&statistic, chosen) as f64 <= allowed, "{allowed}: {chosen}");
            assert!(runs(&statistic, chosen - 1.1) as f64 > allowed, "{allowed}: {chosen} could be lower");
        }
        assert_eq!(threshold(&[], 1.0), None);
    }

    #[test]
    fn an_alarm_holds_until_it_is_well_below_its_threshold() {
        let thresholds = Thresholds([(1.0, 0.6), (2.0, 1.2), (4.0, 2.4)]);
        let mut on = [false; 3];
        let marks: Vec<bool> =
            [0.9, 1.1, 0.7, 0.5, 0.7].map(|short| thresholds.alarm([short, 0.0, 0.0], &mut on)).to_vec();
        assert_eq!(marks, [false, true, true, false, false]);
    }

    #[test]
    fn quantiles_lie_between_order_statistics() {
        assert_eq!([0.0, 0.25, 0.5, 0.9, 1.0].map(|q| quantile(&[1.0, 2.0, 3.0, 4.0], q)), [1.0, 1.75, 2.5, 3.7, 4.0]);
    }

    #[test]
    fn smoothing_begins_where_the_device_is_and_follows() {
        let mut smoothing = Smoothing::default();
        let at = |n: i64| Timestamp::from_millis(n * 60_000);
        assert_eq!(smoothing.step(at(0), [1.0, 1.0, 0.5], MINUTE), [2.0, 2.0, 0.5]);
        assert_eq!(smoothing.step(at(1), [0.0, 0.0, 0.5], MINUTE)[0], 1.0, "half of it after its half-life");
        let later = smoothing.step(at(11), [0.0, 0.0, 0.0], MINUTE);
        assert!((later[1] - 2.0 * 0.5f64.powf(1.1)).abs() < 1e-12, "{later:?}");
    }
}
