//! Readings of one device, in order of time and page by page, folded into buckets.

use harbinger_core::{
    DeviceId, Duration, SignalId, Summary, TimeRange, Timestamp,
    calendar::Step,
    history::{Closed, Readings},
};

use super::{Bucket, Buckets, Error, Function, QUANTILE_SAMPLES_MAX, function::Quantiles};

/// The bucket in hand, and those that are done.
#[derive(Debug)]
pub(super) struct Fold {
    device: DeviceId,
    step: Step,
    closed: Closed,
    /// Those of the query that are quantiles.
    quantiles: Vec<Function>,
    samples_max: usize,
    /// The bucket in hand; signals in order.
    span: Option<TimeRange>,
    open: Vec<Open>,
    done: Vec<Bucket>,
}

/// What is known of a signal in the bucket in hand.
#[derive(Debug)]
struct Open {
    signal: SignalId,
    summary: Summary,
    /// Kept where a quantile is asked for.
    samples: Vec<f64>,
}

impl Fold {
    pub(super) fn new(device: DeviceId, buckets: &Buckets) -> Self {
        let quantiles = buckets.functions.iter().copied().filter(|function| function.is_quantile()).collect();
        let Buckets { step, closed, .. } = buckets.clone();
        let samples_max = QUANTILE_SAMPLES_MAX;
        Self { device, step, closed, quantiles, samples_max, span: None, open: Vec::new(), done: Vec::new() }
    }

    /// Adds readings that are later than all so far.
    pub(super) fn add(&mut self, readings: &Readings) -> Result<(), Error> {
        let mut begin = 0;
        while let Some(&ts) = readings.times.get(begin) {
            let span = self.span_of(ts);
            if self.span != Some(span) {
                self.end_bucket();
                self.span = Some(span);
            }
            let inside = |&ts: &Timestamp| self.closed == Closed::Right && ts <= span.to || ts < span.to;
            let rest = readings.times.get(begin..).unwrap_or_default();
            let end = begin + rest.partition_point(inside);
            for (signal, column) in &readings.columns {
                let times = readings.times.get(begin..end).unwrap_or_default();
                self.add_samples(signal, times, column.get(begin..end).unwrap_or_default());
            }
            self.check_samples(span)?;
            begin = end;
        }
        Ok(())
    }

    /// The bucket that holds `ts`.
    fn span_of(&self, ts: Timestamp) -> TimeRange {
        let inside = match self.closed {
            Closed::Left => ts,
            Closed::Right => ts - Duration::from_millis(1),
        };
        let from = self.step.floor(inside);
        TimeRange { from, to: self.step.after(from) }
    }

    fn add_samples(&mut self, signal: &SignalId, times: &[Timestamp], values: &[f64]) {
        let place = match self.open.binary_search_by(|open| open.signal.cmp(signal)) {
            Ok(place) => place,
            Err(place) => {
                let open = Open { signal: signal.clone(), summary: Summary::EMPTY, samples: Vec::new() };
                self.open.insert(place, open);
                place
            }
        };
        let Some(open) = self.open.get_mut(place) else { return };
        open.summary = open.summary.merge(&Summary::of_samples(times, values));
        if !self.quantiles.is_empty() {
            open.samples.extend(values.iter().filter(|value| !value.is_nan()));
        }
    }

    fn check_samples(&self, span: TimeRange) -> Result<(), Error> {
        if self.open.iter().map(|open| open.samples.len()).sum::<usize>() <= self.samples_max {
            return Ok(());
        }
        Err(Error::TooManySamples { device: self.device.clone(), from: span.from, to: span.to })
    }

    fn end_bucket(&mut self) {
        let Some(span) = self.span.take() else { return };
        for Open { signal, summary, samples } in self.open.drain(..).filter(|open| !open.summary.is_empty()) {
            let quantiles = Quantiles::of(&self.quantiles, samples);
            self.done.push(Bucket { device: self.device.clone(), span, signal, summary, quantiles });
        }
    }

    /// The buckets that no later reading belongs to, in order of time and signal.
    pub(super) fn done(&self) -> &[Bucket] {
        &self.done
    }

    /// The same, for good: the bucket in hand is given up.
    pub(super) fn into_done(self) -> Vec<Bucket> {
        self.done
    }

    /// All buckets: no reading follows.
    pub(super) fn finish(mut self) -> Vec<Bucket> {
        self.end_bucket();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_bucket_too_large_to_hold_are_refused_and_the_rest_is_not() {
        let mut readings = Readings::default();
        for minute in 0..60 {
            let values = [("a".parse().unwrap(), 1.0), ("b".parse().unwrap(), 2.0)];
            readings.push(Timestamp::from_millis(minute * 60_000), &values);
        }
        let fold = |functions: &[Function], samples_max| {
            let step = Step::Fixed(Duration::from_hours(1));
            let buckets = Buckets { step, closed: Closed::Left, functions: functions.to_vec(), gaps: false };
            let mut fold = Fold { samples_max, ..Fold::new("d".parse().unwrap(), &buckets) };
            fold.add(&readings).map(|()| fold.finish().len())
        };
        assert_eq!(fold(&[Function::P50], 120).unwrap(), 2);
        let refused = fold(&[Function::P50], 119).unwrap_err().to_string();
        assert!(refused.contains("device d") && refused.contains("1970-01-01T01:00:00Z"), "{refused}");
        assert_eq!(fold(&[Function::Mean], 0).unwrap(), 2);
    }
}
