//! What a device's signals did until now, and three views of each reading against it.

use harbinger_core::{Duration, Timestamp};

/// The level follows a lasting shift, but no faster than this many spreads a half-life (a day).
const LEVEL_HALF_LIFE: Duration = Duration::from_days(1);
const LEVEL_STEP: f64 = 1.0;
/// What a reading is a jump from.
const FAST_HALF_LIFE: Duration = Duration::from_secs(120);
/// What a slow drift shows in.
const SLOW_HALF_LIFE: Duration = Duration::from_hours(2);

/// Views of a reading.
pub(super) const VIEWS: usize = 3;

/// Three views of a reading, one number a signal each: how far it is from the signal's level, how far it jumped, how far the
/// last hours were from the level.
#[derive(Debug, Clone, Default)]
pub(super) struct Views(pub [Vec<f64>; VIEWS]);

/// Share of the way to a new value that an exponentially weighted mean goes in `gap`.
pub(super) fn weight(gap: Duration, half_life: Duration) -> f64 {
    1.0 - (-gap.hours() / half_life.hours()).exp2()
}

/// Exponentially weighted means of the scaled signals of one device.
#[derive(Debug, Clone, Default)]
pub(super) struct States {
    level: Vec<f64>,
    /// NaN until the signal has a value.
    fast: Vec<f64>,
    slow: Vec<f64>,
    gap: Option<(Duration, [f64; 3])>,
    last: Option<Timestamp>,
}

impl States {
    /// Nothing seen yet.
    pub(super) fn new(width: usize) -> Self {
        Self { level: vec![0.0; width], fast: vec![f64::NAN; width], slow: vec![0.0; width], gap: None, last: None }
    }

    /// Takes in the next reading of the device, scaled, and writes its views; a missing value is where the signal was.
    ///
    /// * `cadence`: the time that the first reading stands for.
    pub(super) fn step(&mut self, ts: Timestamp, scaled: &[f64], cadence: Duration, views: &mut Views) {
        let gap = self.last.map_or(cadence, |last| Duration::from_millis(ts.millis() - last.millis()));
        self.last = Some(ts);
        let weights = match self.gap {
            Some((same, weights)) if same == gap => weights,
            _ => [LEVEL_HALF_LIFE, FAST_HALF_LIFE, SLOW_HALF_LIFE].map(|half_life| weight(gap, half_life)),
        };
        self.gap = Some((gap, weights));
        let [to_level, to_fast, to_slow] = weights;
        let Views([departure, jump, drift]) = views;
        for view in [&mut *departure, &mut *jump, &mut *drift] {
            view.resize(scaled.len(), 0.0);
        }
        let states = self.level.iter_mut().zip(&mut self.fast).zip(&mut self.slow);
        let views = departure.iter_mut().zip(jump).zip(drift);
        for ((&value, ((level, fast), slow)), ((departure, jump), drift)) in scaled.iter().zip(states).zip(views) {
            if value.is_nan() {
                *departure = if fast.is_nan() { 0.0 } else { *fast };
                *jump = 0.0;
            } else {
                let away = value - *level;
                let before = if fast.is_nan() { away } else { *fast };
                *departure = away;
                *jump = away - before;
                *level += to_level * away.clamp(-LEVEL_STEP, LEVEL_STEP);
                *fast = before + to_fast * (away - before);
                *slow += to_slow * (away - *slow);
            }
            *drift = *slow;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_millis(n * 60_000)
    }

    #[test]
    fn a_step_is_first_a_jump_then_a_departure_then_a_drift_and_at_last_the_level() {
        let (mut states, mut views) = (States::new(1), Views::default());
        let mut at = |n: i64| {
            states.step(minute(n), &[if n < 60 { 0.0 } else { 4.0 }], MINUTE, &mut views);
            views.0.clone().map(|view| view[0])
        };
        (0..60).for_each(|n| assert_eq!(at(n), [0.0; 3]));
        let [departure, jump, drift] = at(60);
        assert!(departure == 4.0 && jump == 4.0 && drift < 0.1);
        let later: Vec<[f64; 3]> = (61..60 + 24 * 60 * 14).map(&mut at).collect();
        let [departure, jump, drift] = later[6 * 60];
        assert!(departure > 3.0 && jump.abs() < 0.01 && drift > 2.5, "{departure} {jump} {drift}");
        assert!(later.last().unwrap().iter().all(|view| view.abs() < 0.2), "two weeks later it is the level");
    }

    #[test]
    fn a_missing_value_changes_nothing_and_a_gap_counts_by_its_length() {
        let (mut states, mut views) = (States::new(2), Views::default());
        states.step(minute(0), &[1.0, f64::NAN], MINUTE, &mut views);
        states.step(minute(1), &[f64::NAN, f64::NAN], MINUTE, &mut views);
        assert_eq!(views.0.clone().map(|view| view[1]), [0.0; 3]);
        assert_eq!((views.0[0][0], views.0[1][0]), (1.0, 0.0));
        let mut often = States::new(1);
        let mut seldom = often.clone();
        (0..120).for_each(|n| often.step(minute(n), &[0.5], MINUTE, &mut views));
        let drift = views.0[2][0];
        seldom.step(minute(0), &[0.5], Duration::from_hours(2), &mut views);
        assert!((views.0[2][0] - drift).abs() < 0.01, "{} {drift}", views.0[2][0]);
    }
}
