//! Rows through a plan: what comes of a selector's series, stage by stage, without I/O.
//!
//! Rows come in batches, some devices each, and pass the stages up to the first aggregation, which keeps its groups alone:
//! what is held grows with the answer, not with the fleet, and is counted against a bound.

use std::collections::{HashMap, HashSet};

use super::{
    labels::Labels,
    moments::{Moments, quantile},
    operator::Map,
    plan::{Aggregate, Gather, Grouping, Pipeline, Stage},
};

/// The steps of a query in milliseconds since 1970, both ends inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// The first one.
    pub(super) start: i64,
    /// None lies after this.
    pub(super) end: i64,
    /// From one to the next; above 0.
    pub(super) step: i64,
}

impl Steps {
    /// A single one.
    pub(super) fn once(at: i64) -> Self {
        Self { start: at, end: at, step: 1 }
    }

    /// Each of them.
    pub(super) fn iter(self) -> impl Iterator<Item = i64> {
        (0..self.count()).map(move |i| self.start + i * self.step)
    }

    /// How many there are.
    pub(super) fn count(self) -> i64 {
        (self.end - self.start) / self.step.max(1) + 1
    }
}

/// A row: labels, and a value a step where there is one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// What it is called.
    pub(super) labels: Labels,
    /// As many as there are steps.
    pub(super) values: Vec<Option<f64>>,
}

impl Row {
    /// The same number at every step.
    pub(super) fn constant(number: f64, steps: Steps) -> Self {
        Self { labels: Labels::default(), values: steps.iter().map(|_| Some(number)).collect() }
    }
}

/// Why a plan that is one cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Two rows cannot be told apart any more.
    #[error("vector cannot contain metrics with the same labelset: select one signal, or aggregate by __name__ first")]
    SameLabels,
    /// Too much would be held.
    #[error("the answer would hold more than {POINTS_MAX} points: select less, aggregate, or take a longer step")]
    TooManyPoints,
}

/// Most points that are held for one query: 16 bytes each, three times that in the groups of an aggregation.
pub(super) const POINTS_MAX: usize = 5_000_000;

/// A plan being carried out.
#[derive(Debug)]
pub(super) struct Evaluation {
    stages: Vec<Running>,
    rows: Vec<Row>,
    /// Points in `rows` and in groups.
    held: usize,
}

#[derive(Debug)]
enum Running {
    Map(Map),
    Aggregate(Aggregate, HashMap<Labels, Vec<Group>>),
}

/// The values of a group at one step.
#[derive(Debug)]
enum Group {
    Moments(Moments),
    Values(Vec<f64>),
}

impl Evaluation {
    /// Before the first row.
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let running = |stage: &Stage| match stage {
            Stage::Map(map) => Running::Map(*map),
            Stage::Aggregate(aggregate) => Running::Aggregate(aggregate.clone(), HashMap::new()),
        };
        Self { stages: pipeline.stages.iter().map(running).collect(), rows: Vec::new(), held: 0 }
    }

    /// Takes the rows of some devices: all of a device's at once.
    pub(super) fn push(&mut self, rows: Vec<Row>) -> Result<(), Error> {
        self.pass(rows, 0)
    }

    /// The rows that come out, in order of their labels.
    pub(super) fn finish(mut self) -> Result<Vec<Row>, Error> {
        for place in 0..self.stages.len() {
            let gathered = match self.stages.get_mut(place) {
                Some(Running::Aggregate(aggregate, groups)) => rows_of(aggregate.gather, std::mem::take(groups)),
                _ => continue,
            };
            self.pass(gathered, place + 1)?;
        }
        self.rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(self.rows)
    }

    /// Rows through the stages from `from` on.
    fn pass(&mut self, mut rows: Vec<Row>, from: usize) -> Result<(), Error> {
        for stage in self.stages.iter_mut().skip(from) {
            match stage {
                Running::Map(map) => {
                    rows = rows.into_iter().map(|row| map.apply(row)).filter(is_seen).collect();
                    if map.drops_name() {
                        must_differ(&rows)?;
                    }
                }
                Running::Aggregate(aggregate, groups) => {
                    self.held += gather(aggregate, groups, &rows);
                    return if self.held > POINTS_MAX { Err(Error::TooManyPoints) } else { Ok(()) };
                }
            }
        }
        self.held += rows.iter().map(|row| row.values.len()).sum::<usize>();
        self.rows.extend(rows);
        if self.held > POINTS_MAX { Err(Error::TooManyPoints) } else { Ok(()) }
    }
}

/// Whether a row has a value at any step.
pub(super) fn is_seen(row: &Row) -> bool {
    row.values.iter().any(Option::is_some)
}

/// Rows that lost their names must still be told apart by the rest of their labels.
pub(super) fn must_differ(rows: &[Row]) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(rows.len());
    if rows.iter().all(|row| seen.insert(&row.labels)) { Ok(()) } else { Err(Error::SameLabels) }
}

/// Adds rows to their groups; how many points more are held now.
fn gather(aggregate: &Aggregate, groups: &mut HashMap<Labels, Vec<Group>>, rows: &[Row]) -> usize {
    let mut more = 0;
    for row in rows {
        let labels = match &aggregate.grouping {
            Grouping::By(names) => row.labels.filter(|name| names.iter().any(|by| by == name)),
            Grouping::Without(names) => row.labels.unnamed().filter(|name| !names.iter().any(|out| out == name)),
        };
        let group = groups.entry(labels).or_insert_with(|| {
            more += row.values.len();
            let empty = || match aggregate.gather {
                Gather::Figure(_) => Group::Moments(Moments::EMPTY),
                Gather::Quantile(_) => Group::Values(Vec::new()),
            };
            row.values.iter().map(|_| empty()).collect()
        });
        for (step, value) in group.iter_mut().zip(&row.values) {
            match (step, value) {
                (Group::Moments(moments), Some(value)) => *moments = moments.merge(Moments::of(*value)),
                (Group::Values(values), Some(value)) => {
                    values.push(*value);
                    more += 1;
                }
                (_, None) => {}
            }
        }
    }
    more
}

fn rows_of(gather: Gather, groups: HashMap<Labels, Vec<Group>>) -> Vec<Row> {
    let value = |group: Group| match (gather, group) {
        (Gather::Figure(figure), Group::Moments(moments)) => moments.figure(figure),
        (Gather::Quantile(q), Group::Values(mut values)) => {
            values.sort_by(numbers_last);
            quantile(q, &values)
        }
        (Gather::Figure(_), Group::Values(_)) | (Gather::Quantile(_), Group::Moments(_)) => None,
    };
    let rows = groups.into_iter().map(|(labels, steps)| Row { labels, values: steps.into_iter().map(value).collect() });
    rows.filter(is_seen).collect()
}

/// Order of values with what is no number before all numbers, as Prometheus sorts.
fn numbers_last(a: &f64, b: &f64) -> std::cmp::Ordering {
    b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use harbinger_core::{SignalId, Timestamp, history::Readings};

    use super::*;
    use crate::prometheus::{
        plan::{Plan, plan},
        view::{DeviceSweep, View},
    };

    const MINUTE: i64 = 60_000;

    /// Three devices of two models with two signals, a sample a minute with a gap.
    fn fleet() -> Vec<(Labels, Readings)> {
        let device = |device: &str, model: &str, signals: &[(&str, &[f64])]| {
            let mut readings = Readings::default();
            for minute in 0..4 {
                let value = |(signal, values): &(&str, &[f64])| Some((signal.parse().unwrap(), *values.get(minute)?));
                let values: Vec<(SignalId, f64)> = signals.iter().filter_map(value).collect();
                readings.push(Timestamp::from_millis(minute as i64 * MINUTE), &values);
            }
            (Labels::default().with("device", device).with("model", model), readings)
        };
        vec![
            device("d1", "m1", &[("rpm", &[1.0, 2.0, 3.0, 4.0]), ("inlet", &[24.5, 25.5])]),
            device("d2", "m1", &[("rpm", &[10.0, 20.0, 30.0, 40.0])]),
            device("d3", "m2", &[("rpm", &[100.0])]),
        ]
    }

    fn run(text: &str, steps: Steps) -> Result<Vec<Row>, Error> {
        let Plan::Vector(pipeline) = plan(text).unwrap() else { panic!("{text} is a number") };
        let view = Arc::new(View::of(&pipeline.source, steps, 5 * MINUTE));
        let mut evaluation = Evaluation::of(&pipeline);
        for (labels, readings) in fleet().into_iter().filter(|(labels, _)| view.matches_device(labels)) {
            let mut sweep = DeviceSweep::new(view.clone(), labels);
            sweep.push(&readings);
            evaluation.push(sweep.finish()?)?;
        }
        evaluation.finish()
    }

    /// What comes at minute 3, as label values and value.
    #[track_caller]
    fn check(text: &str, expected: &[(&str, f64)]) {
        let rows = run(text, Steps::once(3 * MINUTE)).unwrap();
        let shown: Vec<(String, f64)> = rows
            .iter()
            .map(|row| {
                let values: Vec<&str> = row.labels.iter().map(|(_, value)| &**value).collect();
                (values.join(" "), row.values[0].unwrap())
            })
            .collect();
        let expected: Vec<(String, f64)> =
            expected.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect();
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn selectors_match_labels_wholly() {
        check("rpm", &[("rpm d1 m1", 4.0), ("rpm d2 m1", 40.0), ("rpm d3 m2", 100.0)]);
        check("rpm{device=~\"d[12]\",model!=\"m2\",device!~\"d1\"}", &[("rpm d2 m1", 40.0)]);
        check("rpm{device=~\"d\"}", &[]);
        check("{__name__=~\"in.*\"}", &[("inlet d1 m1", 25.5)]);
        check("{\"inlet\", site=\"\"}", &[("inlet d1 m1", 25.5)]);
        check("rpm{site=\"a\"}", &[]);
        check("inlet offset 2m", &[("inlet d1 m1", 25.5)]);
        check("rpm{device=\"d1\"} @ 60 offset -1m", &[("rpm d1 m1", 3.0)]);
        check("rpm{device=\"d1\"} @ start()", &[("rpm d1 m1", 4.0)]);
    }

    #[test]
    fn functions_reduce_a_range_and_drop_the_name() {
        check("avg_over_time(rpm{device=\"d1\"}[2m])", &[("d1 m1", 3.0)]);
        check("quantile_over_time(0.5, rpm{device=\"d1\"}[1m])", &[("d1 m1", 3.5)]);
        check("last_over_time(rpm{device=\"d1\"}[2m])", &[("rpm d1 m1", 4.0)]);
        check("count_over_time(rpm{device=\"d3\"}[2m])", &[]);
        check("stddev_over_time(rpm{device=\"d1\"}[3m])", &[("d1 m1", 1.25_f64.sqrt())]);
    }

    #[test]
    fn aggregations_group_by_and_without() {
        check("sum(rpm)", &[("", 144.0)]);
        check("avg by (model) (rpm)", &[("m1", 22.0), ("m2", 100.0)]);
        check("max without (device) (rpm)", &[("m1", 40.0), ("m2", 100.0)]);
        check("count by (__name__) ({device=~\".+\"})", &[("inlet", 1.0), ("rpm", 3.0)]);
        check("quantile by (model) (0.25, rpm)", &[("m1", 13.0), ("m2", 100.0)]);
        check("max(sum by (model) (rpm) * 2) - 8", &[("", 192.0)]);
        check("stddev by (site) (rpm{model=\"m1\"})", &[("", 18.0)]);
    }

    #[test]
    fn numbers_are_joined_from_either_side() {
        check("rpm{device=\"d1\"} * 2 + 1", &[("d1 m1", 9.0)]);
        check("10 - rpm{device=\"d1\"}", &[("d1 m1", 6.0)]);
        check("-rpm{device=\"d1\"} ^ 2", &[("d1 m1", -16.0)]);
        check("rpm > 4", &[("rpm d2 m1", 40.0), ("rpm d3 m2", 100.0)]);
        check("50 > rpm", &[("rpm d1 m1", 4.0), ("rpm d2 m1", 40.0)]);
        check("rpm{model=\"m1\"} >= bool 40", &[("d1 m1", 0.0), ("d2 m1", 1.0)]);
        assert_eq!(plan("2 ^ 3 ^ 2 % (1 - -6)").unwrap(), Plan::Scalar(1.0));
    }

    #[test]
    fn rows_without_a_name_must_differ() {
        let at = Steps::once(3 * MINUTE);
        for text in
            ["{device=\"d1\"} * 2", "avg_over_time({device=\"d1\"}[5m])", "sum(max_over_time({model=\"m1\"}[5m]))"]
        {
            assert_eq!(run(text, at), Err(Error::SameLabels), "{text}");
        }
        check("{device=\"d1\"} > 0", &[("inlet d1 m1", 25.5), ("rpm d1 m1", 4.0)]);
        check("sum by (model) ({device=~\"d[12]\"}) * 2", &[("m1", 139.0)]);
    }

    #[test]
    fn a_range_has_a_value_a_step_with_gaps() {
        let steps = Steps { start: -MINUTE, end: 9 * MINUTE, step: 2 * MINUTE };
        let rows = run("rpm{device=~\"d[13]\"}", steps).unwrap();
        assert_eq!(rows[0].values, [None, Some(2.0), Some(4.0), Some(4.0), Some(4.0), None]);
        assert_eq!(rows[1].values, [None, Some(100.0), Some(100.0), Some(100.0), None, None]);
        let rows = run("sum(rpm) > 50", steps).unwrap();
        assert_eq!(rows[0].values, [None, Some(122.0), Some(144.0), Some(144.0), None, None]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let Plan::Vector(pipeline) = plan("rpm").unwrap() else { panic!() };
        let mut evaluation = Evaluation::of(&pipeline);
        let row = Row { labels: Labels::default(), values: vec![Some(1.0); POINTS_MAX / 2] };
        assert_eq!(evaluation.push(vec![row.clone()]), Ok(()));
        assert_eq!(evaluation.push(vec![row.clone()]), Ok(()));
        assert_eq!(evaluation.push(vec![row]), Err(Error::TooManyPoints));
    }
}
