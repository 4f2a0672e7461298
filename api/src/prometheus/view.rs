//! What a selector sees of a device: which of its series match, and the value of each at each step. No I/O: readings are
//! pushed page by page.

use std::{collections::BTreeMap, sync::Arc};

use harbinger_core::{SignalId, TimeRange, Timestamp, history::Readings};
use promql_parser::label::{MatchOp, Matcher};

use super::{
    evaluate::{Error, Row, Steps, is_seen, must_differ},
    labels::{Labels, NAME},
    plan::{At, Source},
    window::Sweep,
};

/// What a source sees: of each step the instant that it looks back from, and how far.
#[derive(Debug)]
pub(super) struct View {
    source: Source,
    /// An instant a step; never falls.
    instants: Arc<[i64]>,
    width: i64,
}

impl View {
    /// Of a source in a query with this lookback.
    pub(super) fn of(source: &Source, steps: Steps, lookback: i64) -> Self {
        let fixed = source.at.map(|at| match at {
            At::Start => steps.start,
            At::End => steps.end,
            At::Millis(at) => at,
        });
        let instants = steps.iter().map(|step| fixed.unwrap_or(step) - source.offset_millis).collect();
        Self { instants, width: source.range_millis.unwrap_or(lookback), source: source.clone() }
    }

    /// What any step sees.
    pub(super) fn range(&self) -> TimeRange {
        let first = self.instants.first().copied().unwrap_or_default();
        let last = self.instants.last().copied().unwrap_or_default();
        TimeRange { from: Timestamp::from_millis(first - self.width), to: Timestamp::from_millis(last + 1) }
    }

    /// The signal, where the selector names a single one.
    pub(super) fn signal(&self) -> Option<&str> {
        let exact = |matcher: &&Matcher| matcher.name == NAME && matcher.op == MatchOp::Equal;
        self.source.matchers.iter().find(exact).map(|matcher| matcher.value.as_str())
    }

    /// Whether series of a device can match, by all but their name.
    pub(super) fn matches_device(&self, labels: &Labels) -> bool {
        labels.match_all(self.source.matchers.iter().filter(|matcher| matcher.name != NAME))
    }
}

/// The series of one device on their way through the steps.
#[derive(Debug)]
pub(super) struct DeviceSweep {
    view: Arc<View>,
    labels: Labels,
    /// None for a signal that does not match.
    sweeps: BTreeMap<SignalId, Option<Sweep>>,
}

impl DeviceSweep {
    /// Of a device with these labels.
    pub(super) fn new(view: Arc<View>, labels: Labels) -> Self {
        Self { view, labels, sweeps: BTreeMap::new() }
    }

    /// Takes readings that are later than all so far; how many samples were of use.
    pub(super) fn push(&mut self, readings: &Readings) -> usize {
        let mut used = 0;
        for (signal, column) in &readings.columns {
            let sweep = self.sweeps.entry(signal.clone()).or_insert_with(|| {
                let View { source, instants, width } = &*self.view;
                let matches = self.labels.clone().with(NAME, signal.as_str()).match_all(&source.matchers);
                matches.then(|| Sweep::new(instants.clone(), *width, source.reduce))
            });
            let Some(sweep) = sweep else { continue };
            for (ts, value) in readings.times.iter().zip(column).filter(|(_, value)| !value.is_nan()) {
                sweep.push(ts.millis(), *value);
                used += 1;
            }
        }
        used
    }

    /// A row for each series that any step sees.
    pub(super) fn finish(self) -> Result<Vec<Row>, Error> {
        let Self { view, labels, sweeps } = self;
        let named = |signal: &SignalId| {
            if view.source.named { labels.clone().with(NAME, signal.as_str()) } else { labels.clone() }
        };
        let rows = sweeps.into_iter().filter_map(|(signal, sweep)| {
            Some(Row { labels: named(&signal), values: sweep?.finish() }).filter(is_seen)
        });
        let rows: Vec<Row> = rows.collect();
        if !view.source.named {
            must_differ(&rows)?;
        }
        Ok(rows)
    }
}
