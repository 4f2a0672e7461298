//! What is looked at each minute, and the verdict on all minutes.

use std::{fmt, path::Path};

use anyhow::Context;

use crate::fleet::{BEAT_MS, SIGNALS};

/// Resident memory may rise or fall over the whole run by this share of its mean.
const MEMORY_DRIFT_MAX: f64 = 0.10;
/// The file may be larger or smaller than the first half of the run predicts for the second by this share.
const FILE_ERROR_MAX: f64 = 0.20;
/// Hours of event time that retention may keep beyond what it was told: it goes by whole days.
const KEPT_BESIDES_HOURS: f64 = 24.0;
/// Bytes of the WAL: some of the store's largest transactions between two checkpoints.
const WAL_MAX: u64 = 256 << 20;
/// Share of the run that counts as warming up, at least.
const WARM_UP: f64 = 0.2;

/// One look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Minute {
    pub(crate) seconds: f64,
    pub(crate) event_hours: f64,
    /// Event time at which the last retention that has ended began: what came since is kept besides.
    pub(crate) retained_hours: f64,
    /// Samples appended so far.
    pub(crate) appended: u64,
    /// Samples that the store says it keeps.
    pub(crate) kept: u64,
    pub(crate) longest_append_ms: f64,
    pub(crate) reads: u64,
    /// Bytes.
    pub(crate) resident: u64,
    pub(crate) file: u64,
    pub(crate) wal: u64,
}

impl Minute {
    pub(crate) const HEADER: &str =
        " minute  event h  appended M     kept M  B/sample  resident MiB  file MiB  WAL MiB  longest append ms   reads";
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:7.1} {:8.1} {:11.1} {:10.1} {:9.2} {:13.1} {:9.1} {:8.1} {:18.1} {:7}",
            self.seconds / 60.0,
            self.event_hours,
            self.appended as f64 / 1e6,
            self.kept as f64 / 1e6,
            self.file as f64 / self.kept as f64,
            mib(self.resident),
            mib(self.file),
            mib(self.wal),
            self.longest_append_ms,
            self.reads,
        )
    }
}

/// What to think of it.
pub(crate) struct Verdict(Vec<(bool, String)>);

impl Verdict {
    /// Judges the minutes behind the warm-up: once retention has been at work for a while.
    pub(crate) fn of(minutes: &[Minute], keep_hours: f64, devices: usize) -> Self {
        let length = minutes.last().map_or(0.0, |last| last.seconds);
        let warm = |minute: &&Minute| {
            minute.event_hours > keep_hours * 1.25 + KEPT_BESIDES_HOURS && minute.seconds > length * WARM_UP
        };
        let judged: Vec<Minute> = minutes.iter().filter(warm).copied().collect();
        if judged.len() < 10 {
            return Self(vec![(false, format!("{} looks behind the warm-up are too few: run longer", judged.len()))]);
        }
        let (earlier, later) = judged.split_at(judged.len() / 2);
        let a_sample = peak_bytes_a_sample(earlier);
        let error = peak_bytes_a_sample(later) / a_sample - 1.0;
        let an_hour = (devices * SIGNALS) as f64 * 3_600_000.0 / BEAT_MS as f64;
        let hours = |minute: &Minute| minute.kept as f64 / an_hour;
        let when_retained = |minute: &Minute| hours(minute) - (minute.event_hours - minute.retained_hours);
        let most_hours = judged.iter().map(when_retained).fold(0.0, f64::max);
        let least_hours = judged.iter().map(hours).fold(f64::INFINITY, f64::min);
        let drift = drift(&judged.iter().map(|minute| (minute.seconds, minute.resident as f64)).collect::<Vec<_>>());
        let wal = judged.iter().map(|minute| minute.wal).max().unwrap_or_default();
        Self(vec![
            (
                drift.abs() <= MEMORY_DRIFT_MAX,
                format!("resident memory drifts by {:+.1} % of its mean over {} looks", drift * 100.0, judged.len()),
            ),
            (
                error.abs() <= FILE_ERROR_MAX,
                format!(
                    "the file's peak in the second half is {:+.1} % off {a_sample:.2} B x samples kept",
                    error * 100.0
                ),
            ),
            (
                least_hours >= keep_hours * 0.99 && most_hours <= keep_hours + KEPT_BESIDES_HOURS,
                format!(
                    "at least {least_hours:.1} hours are kept of {keep_hours} asked for, and at most {most_hours:.1} when \
                     retention has ended"
                ),
            ),
            (wal <= WAL_MAX, format!("the WAL is at most {} MiB", wal >> 20)),
        ])
    }

    pub(crate) fn is_good(&self) -> bool {
        self.0.iter().all(|(good, _)| *good)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(good, words)| writeln!(f, "{}: {words}", if *good { "good" } else { "BAD" }))
    }
}

/// The largest file by the most samples kept: retention goes by whole days, so that both rise for a day and fall at once,
/// and the file a little after the samples.
fn peak_bytes_a_sample(minutes: &[Minute]) -> f64 {
    let most = |of: fn(&Minute) -> u64| minutes.iter().map(of).max().unwrap_or_default() as f64;
    most(|minute| minute.file) / most(|minute| minute.kept)
}

/// How far the line of least squares rises from the first point to the last, as a share of the mean.
fn drift(points: &[(f64, f64)]) -> f64 {
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let square: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let length = points.last().map_or(0.0, |last| last.0) - points.first().map_or(0.0, |first| first.0);
    both / square * length / y
}

/// Resident memory of this process, the load and its books among it.
pub(crate) fn resident() -> anyhow::Result<u64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).context("no VmRSS")?;
    Ok(kib << 10)
}

/// Length of a file; 0 where it is not there.
pub(crate) fn length(file: &Path) -> anyhow::Result<u64> {
    match fs_err::metadata(file) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}
