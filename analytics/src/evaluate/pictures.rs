//! What people look at rather than read: curves of a back-test, and examples of failures foreseen and missed and of false
//! alarms.

use std::collections::BTreeMap;

use harbinger_core::{ComponentId, DeviceId, Duration, Timestamp, history::DeviceHistory};
use serde::Serialize;

use super::{Slots, Span, Truth, by_slot, counted_failures, earliest_alarm, false_alarms, is_failing};
use crate::failure::Prediction;

/// Points of a precision-recall curve, and of a curve of readings: more than a page has pixels for.
const POINTS: usize = 300;
/// Bars of the lead-time histogram.
const BARS: i64 = 8;
/// Examples of each kind.
const EXAMPLES: usize = 3;
/// Signals in the list of what alarms are about.
const SIGNALS: usize = 12;

/// All pictures of a back-test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pictures {
    /// The curves.
    #[serde(flatten)]
    pub curves: Curves,
    /// Failures foreseen, failures missed, false alarms.
    pub examples: Vec<Example>,
}

/// The pictures that need no readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curves {
    /// From the highest threshold to the lowest.
    pub precision_recall: Vec<Operating>,
    /// How long before failures their first alarm was, from none to the horizon.
    pub lead_times: Vec<LeadTime>,
    /// Failures without an alarm.
    pub missed: usize,
    /// What alarms were about, the most important first.
    pub top_signals: Vec<SignalShare>,
}

/// A point of the precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Operating {
    /// Alarms are the rows with at least this probability.
    pub probability: f64,
    /// Share of failing rows among them.
    pub precision: f64,
    /// Share of the failing rows that are among them.
    pub recall: f64,
}

/// A bar of the lead-time histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LeadTime {
    /// From so many hours before the failure.
    pub from_hours: f64,
    /// To so many.
    pub to_hours: f64,
    /// Failures whose first alarm was then.
    pub failures: usize,
}

/// A signal and its share in what raised the scores of alarms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalShare {
    /// Signal or event code.
    pub name: String,
    /// In 0..=1; the shares of all signals add up to 1.
    pub share: f64,
}

/// What an example shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A failure with an alarm before it.
    Foreseen,
    /// A failure without one.
    Missed,
    /// An alarm without a failure.
    FalseAlarm,
}

/// A device around a failure or a false alarm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// What it shows.
    pub outcome: Outcome,
    /// Which device.
    pub device: DeviceId,
    /// Which component.
    pub component: ComponentId,
    /// When it failed, or when the false alarm began.
    pub at: Timestamp,
    /// The probability above which it alarms; `None` where there is none.
    pub threshold: Option<f64>,
    /// Id of the prediction with the highest probability around that time; `None` where there is none.
    pub highest: Option<String>,
    /// Probability at each row around that time, thinned where there are very many.
    pub probabilities: Vec<(Timestamp, f64)>,
    /// The signal or event code shown beside it.
    pub signal: Option<String>,
    /// Why, in words, where it is known.
    pub because: Option<String>,
    /// Its values; for events 1 at each.
    pub values: Vec<(Timestamp, f64)>,
}

/// Makes the pictures of predictions that [`super::evaluate`] measures.
#[must_use]
pub fn pictures<'a>(
    predictions: &[Prediction],
    truth: &Truth,
    span: Span,
    history: impl Fn(&DeviceId) -> Option<&'a DeviceHistory>,
) -> Pictures {
    let slots = by_slot(predictions, span);
    let curves = curves_of(&slots, truth, span);
    let examples = moments(&slots, truth, span)
        .into_iter()
        .map(|moment| example(&moment, &slots, history(&moment.slot.0), &curves.top_signals))
        .collect();
    Pictures { curves, examples }
}

/// The moments that [`pictures`] shows as examples, the clearest of each kind.
#[must_use]
pub fn moments_of(predictions: &[Prediction], truth: &Truth, span: Span) -> Vec<Moment> {
    moments(&by_slot(predictions, span), truth, span)
}

/// What [`pictures`] shows of moments that were chosen before, each with what is known of its device from its first to its last
/// instant.
#[must_use]
pub fn examples_at(moments: &[(Moment, DeviceHistory)], predictions: &[Prediction], span: Span) -> Vec<Example> {
    let slots = by_slot(predictions, span);
    let usual = top_signals(&slots);
    moments.iter().map(|(moment, history)| example(moment, &slots, Some(history), &usual)).collect()
}

fn moments(slots: &Slots<'_>, truth: &Truth, span: Span) -> Vec<Moment> {
    let moment = |outcome: Outcome, slot: &(DeviceId, ComponentId), at: Timestamp| {
        let (from, to) = window(at, span.horizon);
        Moment { outcome, slot: slot.clone(), at, from, to }
    };
    let mut found: Vec<Moment> = Vec::new();
    for (slot, failure) in counted_failures(truth, span) {
        let alarm = earliest_alarm(slots, slot, failure, span.horizon);
        let outcome = if alarm.is_some() { Outcome::Foreseen } else { Outcome::Missed };
        found.push(moment(outcome, slot, failure));
    }
    for (slot, rows) in slots {
        let false_alarms = false_alarms(truth, slot, rows, span.horizon);
        found.extend(false_alarms.map(|run| moment(Outcome::FalseAlarm, slot, run[0].ts)));
    }
    choose(found, slots)
}

/// The curves of predictions that [`super::evaluate`] measures.
#[must_use]
pub fn curves(predictions: &[Prediction], truth: &Truth, span: Span) -> Curves {
    curves_of(&by_slot(predictions, span), truth, span)
}

fn curves_of(slots: &Slots<'_>, truth: &Truth, span: Span) -> Curves {
    let mut lead_times: Vec<LeadTime> = (0..BARS)
        .map(|bar| {
            let hours = |bar: i64| span.horizon.hours() * bar as f64 / BARS as f64;
            LeadTime { from_hours: hours(bar), to_hours: hours(bar + 1), failures: 0 }
        })
        .collect();
    let mut missed = 0;
    for (slot, failure) in counted_failures(truth, span) {
        match earliest_alarm(slots, slot, failure, span.horizon) {
            Some(alarm) => {
                let lead = (failure.millis() - alarm.millis()) * BARS / span.horizon.millis().max(1);
                lead_times[lead.clamp(0, BARS - 1) as usize].failures += 1;
            }
            None => missed += 1,
        }
    }
    let precision_recall = precision_recall(slots, truth, span);
    Curves { precision_recall, lead_times, missed, top_signals: top_signals(slots) }
}

/// When something happened to a slot that is worth showing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// What it shows.
    pub outcome: Outcome,
    /// Device and component.
    pub slot: (DeviceId, ComponentId),
    /// When it failed, or when the false alarm began.
    pub at: Timestamp,
    /// First instant shown.
    pub from: Timestamp,
    /// Last instant shown.
    pub to: Timestamp,
}

/// The rows around a moment.
fn around<'a>(slots: &'a Slots<'_>, moment: &Moment) -> impl Iterator<Item = &'a Prediction> {
    let (from, to) = (moment.from, moment.to);
    slots.get(&moment.slot).into_iter().flatten().copied().filter(move |row| from <= row.ts && row.ts <= to)
}

/// Three horizons before, half of one after.
fn window(at: Timestamp, horizon: Duration) -> (Timestamp, Timestamp) {
    (at - Duration::from_millis(3 * horizon.millis()), at + Duration::from_millis(horizon.millis() / 2))
}

/// The clearest of each kind: foreseen and false alarms with the highest probability, missed ones with the lowest.
fn choose(moments: Vec<Moment>, slots: &Slots<'_>) -> Vec<Moment> {
    let mut kinds: BTreeMap<Outcome, Vec<(f64, Moment)>> = BTreeMap::new();
    for moment in moments {
        let highest = around(slots, &moment).map(Prediction::main_probability).fold(0.0, f64::max);
        let key = if moment.outcome == Outcome::Missed { highest } else { -highest };
        kinds.entry(moment.outcome).or_default().push((key, moment));
    }
    let first = |(_, mut moments): (Outcome, Vec<(f64, Moment)>)| {
        moments.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1.at, &a.1.slot).cmp(&(b.1.at, &b.1.slot))));
        moments.into_iter().take(EXAMPLES).map(|(_, moment)| moment)
    };
    kinds.into_iter().flat_map(first).collect()
}

fn example(moment: &Moment, slots: &Slots<'_>, history: Option<&DeviceHistory>, usual: &[SignalShare]) -> Example {
    let rows: Vec<&Prediction> = around(slots, moment).collect();
    let highest = rows.iter().max_by(|a, b| a.main_probability().total_cmp(&b.main_probability()));
    let reason = highest.and_then(|row| row.top_signals.first());
    let values_of = |name: &str| history.map_or_else(Vec::new, |history| values(history, name, moment));
    // What was missed was not explained: it is shown by what alarms are mostly about.
    let signal = match reason {
        Some(reason) => Some(reason.name.clone()),
        None => usual.iter().map(|share| share.name.clone()).find(|name| !values_of(name).is_empty()),
    };
    Example {
        outcome: moment.outcome,
        device: moment.slot.0.clone(),
        component: moment.slot.1.clone(),
        at: moment.at,
        threshold: highest.and_then(|row| row.threshold),
        highest: highest.map(|row| row.id()),
        probabilities: thin(rows.iter().map(|row| (row.ts, row.main_probability())).collect()),
        values: signal.as_deref().map_or_else(Vec::new, values_of),
        signal,
        because: reason.map(|reason| reason.because.clone()).filter(|words| !words.is_empty()),
    }
}

/// The readings of a signal around a moment, or the events of a code.
fn values(history: &DeviceHistory, name: &str, moment: &Moment) -> Vec<(Timestamp, f64)> {
    let inside = |ts: Timestamp| moment.from <= ts && ts <= moment.to;
    match history.readings.columns.iter().find(|(signal, _)| signal.as_str() == name) {
        Some((_, column)) => {
            let present = history.readings.times.iter().copied().zip(column.iter().copied());
            thin(present.filter(|(ts, value)| inside(*ts) && value.is_finite()).collect())
        }
        None => {
            let events = history.events.iter().filter(|event| &*event.code == name && inside(event.ts));
            thin(events.map(|event| (event.ts, 1.0)).collect())
        }
    }
}

/// Every n-th, so that about [`POINTS`] are left, with the first and the last.
fn thin<T: Copy>(points: Vec<T>) -> Vec<T> {
    let step = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(|(n, _)| n % step == 0 || *n == last).map(|(_, point)| *point).collect()
}

/// Shares by the positive contributions of alarm rows.
fn top_signals(slots: &Slots<'_>) -> Vec<SignalShare> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for signal in slots.values().flatten().filter(|row| row.alarm).flat_map(|row| &row.top_signals) {
        *sums.entry(&signal.name).or_default() += signal.contribution.max(0.0);
    }
    let all: f64 = sums.values().sum();
    let mut shares: Vec<SignalShare> =
        sums.into_iter().map(|(name, sum)| SignalShare { name: name.to_owned(), share: sum / all }).collect();
    shares.retain(|signal| signal.share > 0.0);
    shares.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.name.cmp(&b.name)));
    shares.truncate(SIGNALS);
    shares
}

fn precision_recall(slots: &Slots<'_>, truth: &Truth, span: Span) -> Vec<Operating> {
    let mut rows: Vec<(f64, bool)> = slots
        .iter()
        .flat_map(|(slot, rows)| {
            rows.iter().map(|row| (row.main_probability(), is_failing(truth, slot, row.ts, span.horizon)))
        })
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let failing = rows.iter().filter(|row| row.1).count() as f64;
    let (mut hits, mut seen) = (0.0, 0.0);
    let mut points = Vec::new();
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        hits += tied.iter().filter(|row| row.1).count() as f64;
        seen += tied.len() as f64;
        if failing > 0.0 {
            points.push(Operating { probability: tied[0].0, precision: hits / seen, recall: hits / failing });
        }
    }
    thin(points)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hour, row, span, truth};
    use super::*;

    /// `a` fails at 60 and alarms from 40 on; `b` fails at 80 without an alarm; `c` alarms from 8 to 12 for nothing.
    #[test]
    fn each_kind_of_outcome_is_shown_with_its_curve() {
        let mut rows = Vec::new();
        for t in (0..120).step_by(4) {
            rows.push(row(t, "a", if t >= 40 { 0.9 } else { 0.1 }, (40..60).contains(&t)));
            rows.push(row(t, "b", 0.05, false));
            rows.push(row(t, "c", 0.2, t == 8 || t == 12));
        }
        let history = DeviceHistory::default();
        let truth = truth(&[("a", 60), ("b", 80)]);
        let made = pictures(&rows, &truth, span(120), |_| Some(&history));
        let moments = moments_of(&rows, &truth, span(120)).into_iter().map(|moment| (moment, history.clone()));
        assert_eq!(examples_at(&moments.collect::<Vec<_>>(), &rows, span(120)), made.examples);
        assert_eq!(made.examples[0].highest, Some(row(72, "a", 0.9, true).id()), "the last of equals");
        let shown: Vec<(Outcome, &str, Timestamp)> =
            made.examples.iter().map(|e| (e.outcome, e.device.as_str(), e.at)).collect();
        let expected =
            [(Outcome::Foreseen, "a", hour(60)), (Outcome::Missed, "b", hour(80)), (Outcome::FalseAlarm, "c", hour(8))];
        assert_eq!(shown, expected);
        assert_eq!(made.curves.missed, 1);
        // 20 hours before, in bars of 3 hours.
        let bars: Vec<usize> = made.curves.lead_times.iter().map(|bar| bar.failures).collect();
        assert_eq!(bars, [0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(made.examples[0].probabilities.first(), Some(&(hour(0), 0.1)));
        assert_eq!(made.examples[0].probabilities.last(), Some(&(hour(72), 0.9)));
        let first = made.curves.precision_recall[0];
        // Of the 15 rows of `a` from 40 to 96 six are within 24 hours of its failure; as many of `b` are.
        assert_eq!((first.probability, first.precision, first.recall), (0.9, 5.0 / 15.0, 5.0 / 12.0));
        assert_eq!(made.curves.precision_recall.last().map(|point| point.recall), Some(1.0));
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_ends() {
        let thinned = thin((0..10_000).collect());
        assert!(thinned.len() <= POINTS + 1 && thinned[0] == 0 && thinned.last() == Some(&9_999));
        assert_eq!(thin(vec![1, 2]), [1, 2]);
        assert!(thin(Vec::<u8>::new()).is_empty());
    }
}
