//! Readings in units of what is usual for their signal, less what the time of day explains.

use harbinger_core::{Duration, Timestamp};
use smartcore::linalg::{
    basic::{arrays::Array, matrix::DenseMatrix},
    traits::cholesky::CholeskyDecomposable,
};

/// A spread is never taken for less than this share of the range that was seen, nor than [`OF_MEAN`] of the mean: a signal
/// that hardly moved while it was learnt is not astronomically far away when it first does.
const OF_RANGE: f64 = 0.02;
const OF_MEAN: f64 = 1e-3;
/// No value counts as further away than so many spreads; one that never moved counts for less.
const FURTHEST: f64 = 30.0;
const FURTHEST_OF_CONSTANT: f64 = 10.0;
/// Sines and cosines of the daily profile.
const HARMONICS: usize = 5;
/// 1, and a cosine and a sine a harmonic.
const WAVES: usize = 1 + 2 * HARMONICS;
/// What is learnt of the profile from one reading is bounded, and shrunk towards none.
const PROFILE_FURTHEST: f64 = 5.0;
const PROFILE_RIDGE: f64 = 0.01;
/// A profile of the day needs some days, and readings more often than its waves.
const PROFILE_DAYS: f64 = 3.0;
const PROFILE_CADENCE: Duration = Duration::from_hours(2);

/// What is usual for each signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaling {
    mean: Vec<f64>,
    spread: Vec<f64>,
    furthest: Vec<f64>,
    /// For each wave the part of each signal that follows it; empty where there is none.
    profile: Vec<f64>,
}

/// Rows of readings: `width` cells each, missing ones NaN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub times: &'a [Timestamp],
    pub cells: &'a [f64],
    pub width: usize,
}

impl<'a> Rows<'a> {
    /// Each row with its time.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Timestamp, &'a [f64])> + Clone + use<'a> {
        self.times.iter().copied().zip(self.cells.chunks_exact(self.width.max(1)))
    }
}

impl Scaling {
    /// Learns from the rows whose place `used` takes, which are `cadence` apart. Each signal has a value in some of them.
    pub(super) fn fit(rows: Rows<'_>, used: impl Fn(usize) -> bool + Copy, cadence: Duration) -> Self {
        let width = rows.width;
        let chosen = || rows.iter().enumerate().filter(move |(place, _)| used(*place)).map(|(_, row)| row);
        let (mut count, mut mean) = (vec![0.0; width], vec![0.0; width]);
        let (mut low, mut high) = (vec![f64::INFINITY; width], vec![f64::NEG_INFINITY; width]);
        each_present(chosen(), |signal, value| {
            count[signal] += 1.0;
            mean[signal] += (value - mean[signal]) / count[signal];
            low[signal] = low[signal].min(value);
            high[signal] = high[signal].max(value);
        });
        let mut squares = vec![0.0; width];
        each_present(chosen(), |signal, value| squares[signal] += (value - mean[signal]).powi(2));
        let range: Vec<f64> = low.iter().zip(&high).map(|(low, high)| (high - low).max(0.0)).collect();
        let spread = (0..width).map(|signal| {
            let deviation = (squares[signal] / count[signal].max(1.0)).sqrt();
            // Where a signal was never anything but zero, anything else is as far away as can be.
            deviation.max(OF_RANGE * range[signal]).max(OF_MEAN * mean[signal].abs()).max(f64::MIN_POSITIVE)
        });
        let constant = |range: &f64| if *range == 0.0 { FURTHEST_OF_CONSTANT } else { FURTHEST };
        let furthest = range.iter().map(constant).collect();
        let mut scaling = Self { spread: spread.collect(), mean, furthest, profile: Vec::new() };
        let days = chosen().count() as f64 * cadence.days();
        if days >= PROFILE_DAYS && cadence <= PROFILE_CADENCE {
            scaling.profile = scaling.daily_profile(chosen()).unwrap_or_default();
        }
        scaling
    }

    /// A reading in spreads from what is usual at its time of day; missing cells stay missing.
    pub(super) fn apply(&self, ts: Timestamp, row: &[f64], scaled: &mut Vec<f64>) {
        scaled.clear();
        let of_signal = self.mean.iter().zip(&self.spread).zip(&self.furthest);
        scaled.extend(
            row.iter()
                .zip(of_signal)
                .map(|(&value, ((&mean, &spread), &furthest))| ((value - mean) / spread).clamp(-furthest, furthest)),
        );
        for (wave, of_signals) in waves(ts).iter().zip(self.profile.chunks_exact(row.len().max(1))) {
            for (cell, part) in scaled.iter_mut().zip(of_signals) {
                *cell -= wave * part;
            }
        }
    }

    /// Ridge regression of the scaled signals on the waves of a day; `None` where it has no answer.
    fn daily_profile<'a>(&self, rows: impl Iterator<Item = (Timestamp, &'a [f64])>) -> Option<Vec<f64>> {
        let width = self.mean.len();
        let (mut gram, mut moments) = (vec![0.0; WAVES * WAVES], vec![0.0; WAVES * width]);
        let (mut count, mut scaled) = (0.0, Vec::new());
        for (ts, row) in rows {
            let waves = waves(ts);
            count += 1.0;
            for (n, wave) in waves.iter().enumerate() {
                for (cell, other) in gram[n * WAVES..].iter_mut().zip(&waves) {
                    *cell += wave * other;
                }
            }
            self.apply(ts, row, &mut scaled);
            for (n, wave) in waves.iter().enumerate() {
                for (cell, &value) in moments[n * width..].iter_mut().zip(&scaled) {
                    // A missing value is where the profile expects it to be on average.
                    let value = if value.is_nan() { 0.0 } else { value };
                    *cell += wave * value.clamp(-PROFILE_FURTHEST, PROFILE_FURTHEST);
                }
            }
        }
        gram.iter_mut().chain(&mut moments).for_each(|sum| *sum /= count);
        (1..WAVES).for_each(|n| gram[n * WAVES + n] += PROFILE_RIDGE);
        let gram = DenseMatrix::new(WAVES, WAVES, gram, false).ok()?;
        let moments = DenseMatrix::new(WAVES, width, moments, false).ok()?;
        let solved = gram.cholesky_solve_mut(moments).ok()?;
        let profile: Vec<f64> =
            (0..WAVES).flat_map(|n| (0..width).map(move |signal| (n, signal))).map(|at| *solved.get(at)).collect();
        profile.iter().all(|part| part.is_finite()).then_some(profile)
    }
}

fn each_present<'a>(rows: impl Iterator<Item = (Timestamp, &'a [f64])>, mut of: impl FnMut(usize, f64)) {
    for (_, row) in rows {
        row.iter().enumerate().filter(|(_, value)| !value.is_nan()).for_each(|(signal, &value)| of(signal, value));
    }
}

/// 1, then cosine and sine of the time of day (UTC) and of its multiples.
fn waves(ts: Timestamp) -> [f64; WAVES] {
    const DAY: i64 = 86_400_000;
    let angle = std::f64::consts::TAU * ts.millis().rem_euclid(DAY) as f64 / DAY as f64;
    let (sine, cosine) = angle.sin_cos();
    let mut waves = [1.0; WAVES];
    let (mut c, mut s) = (1.0, 0.0);
    for pair in waves[1..].chunks_exact_mut(2) {
        (c, s) = (c * cosine - s * sine, s * cosine + c * sine);
        pair.copy_from_slice(&[c, s]);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hourly(count: i64) -> Vec<Timestamp> {
        (0..count).map(|n| Timestamp::from_millis(n * 3_600_000)).collect()
    }

    #[test]
    fn a_daily_swing_is_usual_and_a_value_at_the_wrong_hour_is_not() {
        let times = hourly(24 * 20);
        let daily = |n: usize| 20.0 + 5.0 * (std::f64::consts::TAU * (n % 24) as f64 / 24.0).sin();
        let cells: Vec<f64> = (0..times.len()).map(daily).collect();
        let rows = Rows { times: &times, cells: &cells, width: 1 };
        let scaling = Scaling::fit(rows, |_| true, Duration::from_hours(1));
        let mut scaled = Vec::new();
        let mut at = |hour: i64, value: f64| {
            scaling.apply(Timestamp::from_millis(hour * 3_600_000), &[value], &mut scaled);
            scaled[0]
        };
        let peak = at(1_014, 25.0);
        assert!(peak.abs() < 0.1, "the usual value at 6 h: {peak}");
        assert!(at(1_026, 25.0) > 2.0, "the peak at the hour of the trough");
    }

    #[test]
    fn units_do_not_matter_and_a_signal_that_never_moved_is_bounded() {
        let times = hourly(200);
        let value = |n: usize| (n as f64 * 1.7).sin();
        let cells: Vec<f64> = (0..200).flat_map(|n| [value(n), value(n) * 1e-15, 0.0, 7.0]).collect();
        let scaling = Scaling::fit(Rows { times: &times, cells: &cells, width: 4 }, |_| true, Duration::from_hours(1));
        let mut scaled = Vec::new();
        scaling.apply(times[0], &[3.0, 3.0e-15, 0.1, 7.0], &mut scaled);
        assert!((scaled[0] - scaled[1]).abs() < 1e-9 && scaled[0] > 3.0, "{scaled:?}");
        assert!((9.0..=11.0).contains(&scaled[2]) && scaled[3].abs() < 0.1, "{scaled:?}");
        scaling.apply(times[0], &[f64::NAN, f64::INFINITY, 0.0, 7.0], &mut scaled);
        assert!(scaled[0].is_nan() && scaled[1] <= FURTHEST + 1.0);
    }
}
