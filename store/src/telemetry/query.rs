//! Range queries: readings, or what functions make of them bucket by bucket, of many devices and signals.
//!
//! Stands on [`TelemetryStore`] alone. The answer is in order of device, time, signal, and is read on from behind any of its
//! rows: nothing is skipped or shown twice while data keep coming.
//!
//! Two ways lead to a bucket. Where no quantile is asked for and all borders are whole hours since 1970, stored summaries are
//! merged. Else readings are read in pages and folded. What is held at a time is bounded, however long the range is: the
//! answer's page, a window of at most [`WINDOW_BUCKETS`] buckets, a page of [`PAGE_READINGS`] readings, and for quantiles the
//! samples of one bucket, at most [`QUANTILE_SAMPLES_MAX`]. Quantiles are exact: a bucket with more samples is refused.

use std::{fmt, sync::Arc};

use harbinger_core::{
    DeviceId, DeviceKey, Duration, SignalId, Summary, TenantId, TimeRange, Timestamp,
    calendar::Step,
    history::{Closed, Readings},
};

use super::TelemetryStore;
use fold::Fold;
use function::Quantiles;

mod fold;
mod function;
mod gaps;

pub use function::{Function, UnknownFunction};
pub use gaps::{GAP_INTERVALS, usual_gap};

/// Readings that are read at once.
pub const PAGE_READINGS: usize = 16_384;
/// Cells of a page that are folded where they are read: fifty microseconds. Handing more to another thread costs less.
const CELLS_FOLDED_IN_PLACE: usize = 16_384;
/// Buckets, or stored summaries of a signal, that are read at once.
pub const WINDOW_BUCKETS: usize = 1_024;
/// Most samples of one bucket, of all signals together, that quantiles are made of: 32 MB.
pub const QUANTILE_SAMPLES_MAX: usize = 4_000_000;

/// What a range query could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] super::Error),
    /// Quantiles are exact, and so need the samples of a bucket in memory.
    #[error(
        "quantiles of device {device} in the bucket from {from} to {to} would need more than {QUANTILE_SAMPLES_MAX} samples: \
         take a shorter step, fewer signals, or no quantile"
    )]
    TooManySamples {
        /// The device.
        device: DeviceId,
        /// Where the bucket begins.
        from: Timestamp,
        /// Where it ends.
        to: Timestamp,
    },
}

/// Which readings are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Of which devices, in rising order.
    pub devices: Vec<DeviceId>,
    /// Of which signals; of all where `None`.
    pub signals: Option<Vec<SignalId>>,
    /// From when to when. Buckets that are touched by it are whole.
    pub range: TimeRange,
}

/// How readings are put into buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Into what the range is cut.
    pub step: Step,
    /// Which border a bucket holds.
    pub closed: Closed,
    /// What is made of a bucket's samples.
    pub functions: Vec<Function>,
    /// Whether buckets without samples are shown: of the signals that are asked for, else of those that the device has.
    pub gaps: bool,
}

/// One signal of one device in one bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// The device.
    pub device: DeviceId,
    /// From when to when.
    pub span: TimeRange,
    /// The signal.
    pub signal: SignalId,
    /// Of its samples.
    pub summary: Summary,
    quantiles: Quantiles,
}

impl Bucket {
    /// What a function makes of the samples; `None` where there are none, for the slope where they span no time, and for
    /// quantiles that the query did not name.
    #[must_use]
    pub fn value(&self, function: Function) -> Option<f64> {
        function.of(&self.summary, &self.quantiles)
    }

    /// Its place in the answer.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { device: self.device.clone(), at: self.span.from, signal: Some(self.signal.clone()) }
    }
}

/// All values of one device at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The device.
    pub device: DeviceId,
    /// When.
    pub ts: Timestamp,
    /// Value by signal.
    pub values: Values,
    /// How long the device was silent before, where that is more than the query takes for usual.
    pub gap: Option<Duration>,
}

/// The values of one reading. It shares the page that was read, so that a row costs no memory of its own.
#[derive(Clone)]
pub struct Values {
    page: Arc<Readings>,
    place: usize,
}

impl Values {
    /// Each signal and its value, in order of signal.
    pub fn iter(&self) -> impl Iterator<Item = (&SignalId, f64)> {
        let cells = self.page.columns.iter().filter_map(|(signal, column)| Some((signal, *column.get(self.place)?)));
        cells.filter(|(_, value)| !value.is_nan())
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Row {
    /// Its place in the answer.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { device: self.device.clone(), at: self.ts, signal: None }
    }
}

/// A place in an answer: that of a row, behind which the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: DeviceId,
    /// The reading's instant, or where the bucket begins.
    pub at: Timestamp,
    /// The signal, of buckets.
    pub signal: Option<SignalId>,
}

/// When a pause between two readings is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapAfter {
    /// Never.
    Unmarked,
    /// When it is longer than [`GAP_INTERVALS`] of the device's usual intervals: see [`usual_gap`].
    Usual,
    /// When it is longer than this.
    Longer(Duration),
}

/// Readings in order of device and time, from behind `after` on, at most `limit`.
///
/// The first reading of the range is never marked: nothing is known of what was before.
///
/// # Errors
/// [`Error::Store`].
pub async fn readings(
    store: &dyn TelemetryStore,
    query: &RangeQuery,
    gap_after: GapAfter,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    let signals = query.signals.as_deref();
    let mut rows: Vec<Row> = Vec::new();
    for (device, begun) in remaining(&query.devices, after) {
        if rows.len() >= limit {
            break;
        }
        let key = DeviceKey::new(query.tenant.clone(), device.clone());
        let gap_after = match gap_after {
            GapAfter::Unmarked => None,
            GapAfter::Longer(length) => Some(length),
            GapAfter::Usual => usual_gap(&store.page(&key, query.range, signals, gaps::READINGS).await?.times),
        };
        let mut previous = begun.map(|place| place.at);
        let from = previous.map_or(query.range.from, |at| at + Duration::from_millis(1));
        // Where the range ends before `from`, it is empty.
        let mut rest = TimeRange { from, to: query.range.to.max(from) };
        while rows.len() < limit && rest.from < rest.to {
            let wanted = (limit - rows.len()).min(PAGE_READINGS);
            let page = Arc::new(store.page(&key, rest, signals, wanted).await?);
            for (place, &ts) in page.times.iter().enumerate() {
                let gap = gaps::between(previous, ts).filter(|&gap| gap_after.is_some_and(|usual| gap > usual));
                let values = Values { page: Arc::clone(&page), place };
                rows.push(Row { device: device.clone(), ts, values, gap });
                previous = Some(ts);
            }
            rest.from = match page.times.last() {
                Some(&last) if page.len() == wanted => last + Duration::from_millis(1),
                _ => rest.to,
            };
        }
    }
    Ok(rows)
}

/// The devices from the one that `after` lies in on, and `after` with that one.
fn remaining<'a>(
    devices: &'a [DeviceId],
    after: Option<&'a Place>,
) -> impl Iterator<Item = (&'a DeviceId, Option<&'a Place>)> {
    let begin = after.map_or(0, |place| devices.partition_point(|device| *device < place.device));
    devices.iter().skip(begin).map(move |device| (device, after.filter(|place| place.device == *device)))
}

/// Buckets in order of device, time and signal, from behind `after` on, at most `limit`.
///
/// # Errors
/// [`Error::Store`], [`Error::TooManySamples`].
pub async fn buckets(
    store: &dyn TelemetryStore,
    query: &RangeQuery,
    buckets: &Buckets,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<Bucket>, Error> {
    let mut rows = Vec::new();
    for (device, begun) in remaining(&query.devices, after) {
        if rows.len() >= limit {
            break;
        }
        let series = Series::new(store, query, buckets, device).await?;
        let mut rest = query.range;
        rest.from = begun.map_or(rest.from, |place| place.at.max(rest.from));
        while rows.len() < limit {
            let wanted = limit - rows.len();
            let Some((window, grain)) = series.window(rest, wanted) else { break };
            let found = match grain {
                Some(grain) => series.by_summaries(window, grain).await?,
                None => series.by_readings(window, begun, wanted).await?,
            };
            let shown = series.with_gaps(found, window);
            rows.extend(shown.filter(|bucket| begun.is_none_or(|place| is_behind(bucket, place))).take(wanted));
            rest.from = window.to;
        }
    }
    Ok(rows)
}

fn is_behind(bucket: &Bucket, place: &Place) -> bool {
    (bucket.span.from, Some(&bucket.signal)) > (place.at, place.signal.as_ref())
}

/// One device of a query for buckets.
struct Series<'a> {
    store: &'a dyn TelemetryStore,
    buckets: &'a Buckets,
    key: DeviceKey,
    signals: Option<&'a [SignalId]>,
    /// Those that every bucket shows.
    shown: Vec<SignalId>,
}

impl<'a> Series<'a> {
    async fn new(
        store: &'a dyn TelemetryStore,
        query: &'a RangeQuery,
        buckets: &'a Buckets,
        device: &DeviceId,
    ) -> Result<Self, Error> {
        let key = DeviceKey::new(query.tenant.clone(), device.clone());
        let signals = query.signals.as_deref();
        let mut shown = match signals {
            _ if !buckets.gaps => Vec::new(),
            Some(signals) => signals.to_vec(),
            None => store.latest(&key).await?.into_iter().map(|latest| latest.signal).collect(),
        };
        shown.sort();
        shown.dedup();
        Ok(Self { store, buckets, key, signals, shown })
    }

    /// The next buckets to be read, no more than are wanted, and the step of the stored summaries that they are merged of,
    /// where they can be.
    fn window(&self, rest: TimeRange, wanted: usize) -> Option<(TimeRange, Option<Duration>)> {
        if rest.from >= rest.to {
            return None;
        }
        let step = &self.buckets.step;
        let first = step.buckets(rest).next()?;
        let span = |most: usize| {
            let last = step.buckets(rest).take(most).last().unwrap_or(first);
            TimeRange { from: first.from, to: last.to }
        };
        let most = wanted.clamp(1, WINDOW_BUCKETS);
        let quantiles = self.buckets.functions.iter().any(|function| function.is_quantile());
        let grain = if quantiles { None } else { step.grain(span(most)) };
        let Some(grain) = grain else {
            // Readings are read until there are enough buckets, so empty ones cost nothing unless they are shown.
            let whole = TimeRange { from: first.from, to: step.ceil(rest.to) };
            return Some((if self.shown.is_empty() { whole } else { span(most) }, None));
        };
        let summaries_a_bucket = (first.to.millis() - first.from.millis()) / grain.millis().max(1);
        let fitting = WINDOW_BUCKETS / usize::try_from(summaries_a_bucket).unwrap_or(1).max(1);
        Some((span(most.min(fitting.max(1))), Some(grain)))
    }

    async fn by_summaries(&self, window: TimeRange, grain: Duration) -> Result<Vec<Bucket>, Error> {
        let timeline = self.store.summaries(&self.key, window, self.signals, grain, self.buckets.closed).await?;
        let mut found = Vec::new();
        for (signal, summaries) in &timeline.signals {
            let mut rest = summaries.as_slice();
            for span in self.buckets.step.buckets(window) {
                let (inside, later) = rest.split_at(rest.partition_point(|(end, _)| *end <= span.to));
                rest = later;
                let summary = inside.iter().fold(Summary::EMPTY, |all, (_, summary)| all.merge(summary));
                if !summary.is_empty() {
                    found.push(self.bucket(span, signal, summary, Quantiles::default()));
                }
            }
        }
        found.sort_by(|a, b| (a.span.from, &a.signal).cmp(&(b.span.from, &b.signal)));
        Ok(found)
    }

    /// The buckets of a window, or so many of the first of them that `wanted` lie behind `begun`.
    async fn by_readings(&self, window: TimeRange, begun: Option<&Place>, wanted: usize) -> Result<Vec<Bucket>, Error> {
        let mut rest = times_in(window, self.buckets.closed);
        let mut fold = Fold::new(self.key.device.clone(), self.buckets);
        while rest.from < rest.to {
            let page = self.store.page(&self.key, rest, self.signals, PAGE_READINGS).await?;
            rest.from = match page.times.last() {
                Some(&last) if page.len() == PAGE_READINGS => last + Duration::from_millis(1),
                _ => rest.to,
            };
            if page.len() * page.columns.len() <= CELLS_FOLDED_IN_PLACE {
                fold.add(&page)?;
            } else {
                // Summing and sorting take longer than a thread that serves others may be kept.
                let folded = tokio::task::spawn_blocking(move || fold.add(&page).map(|()| fold)).await;
                fold = folded.map_err(|e| super::Error::Engine { attempt: "fold readings", source: Box::new(e) })??;
            }
            let behind = |bucket: &Bucket| begun.is_none_or(|place| is_behind(bucket, place));
            if fold.done().len() - fold.done().partition_point(|bucket| !behind(bucket)) >= wanted {
                return Ok(fold.into_done());
            }
        }
        Ok(fold.finish())
    }

    /// The same buckets, and an empty one wherever one of the signals that are always shown has none.
    fn with_gaps(&self, found: Vec<Bucket>, window: TimeRange) -> impl Iterator<Item = Bucket> + use<'_> {
        let spans = self.buckets.step.buckets(window).filter(|_| !self.shown.is_empty());
        let empty = spans.flat_map(move |span| {
            self.shown.iter().map(move |signal| self.bucket(span, signal, Summary::EMPTY, Quantiles::default()))
        });
        gaps::laid_over(found, empty)
    }

    fn bucket(&self, span: TimeRange, signal: &SignalId, summary: Summary, quantiles: Quantiles) -> Bucket {
        Bucket { device: self.key.device.clone(), span, signal: signal.clone(), summary, quantiles }
    }
}

/// The instants that the buckets of a window hold.
fn times_in(window: TimeRange, closed: Closed) -> TimeRange {
    match closed {
        Closed::Left => window,
        Closed::Right => {
            let later = |ts: Timestamp| ts + Duration::from_millis(1);
            TimeRange { from: later(window.from), to: later(window.to) }
        }
    }
}

#[cfg(test)]
mod tests;
