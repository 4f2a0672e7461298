//! A sliding window over one series: samples in, in order of time; a value a step out.
//!
//! Each step looks back from its own instant over `width` milliseconds, both borders inside, as Prometheus 2 does. Windows
//! that overlap share their work: an extreme, a mean or a spread costs two merges a sample however long the window is (two
//! stacks make a queue), a quantile keeps its window sorted.

use std::{collections::VecDeque, sync::Arc};

use super::moments::{Figure, Moments, quantile};

/// What becomes of the samples that a step sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reduce {
    /// The latest one.
    Last,
    /// A figure of all of them.
    Figure(Figure),
    /// A quantile of all of them.
    Quantile(f64),
}

/// One series on its way through the steps.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The instant that each step looks back from; never falls.
    instants: Arc<[i64]>,
    width: i64,
    window: Window,
    values: Vec<Option<f64>>,
}

impl Sweep {
    /// Begins before the first sample.
    pub(super) fn new(instants: Arc<[i64]>, width: i64, reduce: Reduce) -> Self {
        Self { instants, width, window: Window::new(reduce), values: Vec::new() }
    }

    /// Takes a sample that is later than all so far.
    pub(super) fn push(&mut self, ts: i64, value: f64) {
        while self.instants.get(self.values.len()).is_some_and(|&instant| instant < ts) {
            self.step();
        }
        // What the next step does not see no later one sees either.
        if self.instants.get(self.values.len()).is_some_and(|&instant| instant - self.width <= ts) {
            self.window.push(ts, value);
        }
    }

    /// The value of each step, where it has one.
    pub(super) fn finish(mut self) -> Vec<Option<f64>> {
        while self.values.len() < self.instants.len() {
            self.step();
        }
        self.values
    }

    fn step(&mut self) {
        if let Some(&instant) = self.instants.get(self.values.len()) {
            self.window.forget_before(instant - self.width);
            self.values.push(self.window.value());
        }
    }
}

#[derive(Debug)]
enum Window {
    Last(Option<(i64, f64)>),
    Figure(Figure, TwoStacks),
    Quantile(f64, Sorted),
}

impl Window {
    fn new(reduce: Reduce) -> Self {
        match reduce {
            Reduce::Last => Self::Last(None),
            Reduce::Figure(figure) => Self::Figure(figure, TwoStacks::default()),
            Reduce::Quantile(q) => Self::Quantile(q, Sorted::default()),
        }
    }

    fn push(&mut self, ts: i64, value: f64) {
        match self {
            Self::Last(last) => *last = Some((ts, value)),
            Self::Figure(_, stacks) => stacks.push(ts, value),
            Self::Quantile(_, sorted) => sorted.push(ts, value),
        }
    }

    fn forget_before(&mut self, bound: i64) {
        match self {
            Self::Last(last) => *last = last.filter(|(ts, _)| *ts >= bound),
            Self::Figure(_, stacks) => stacks.forget_before(bound),
            Self::Quantile(_, sorted) => sorted.forget_before(bound),
        }
    }

    fn value(&self) -> Option<f64> {
        match self {
            Self::Last(last) => last.map(|(_, value)| value),
            Self::Figure(figure, stacks) => stacks.total().figure(*figure),
            Self::Quantile(q, sorted) => quantile(*q, &sorted.values),
        }
    }
}

/// A queue whose total is always at hand without a subtraction: new samples pile up on `back`; when an old one must go and
/// `front` is used up, `back` is turned over onto it, each entry then holding the total of itself and all later ones there.
#[derive(Debug)]
struct TwoStacks {
    front: Vec<(i64, Moments)>,
    back: Vec<(i64, f64)>,
    back_total: Moments,
}

impl Default for TwoStacks {
    fn default() -> Self {
        Self { front: Vec::new(), back: Vec::new(), back_total: Moments::EMPTY }
    }
}

impl TwoStacks {
    fn push(&mut self, ts: i64, value: f64) {
        self.back.push((ts, value));
        self.back_total = self.back_total.merge(Moments::of(value));
    }

    fn forget_before(&mut self, bound: i64) {
        while self.front.last().is_some_and(|(ts, _)| *ts < bound) {
            self.front.pop();
        }
        if !self.front.is_empty() || self.back.first().is_none_or(|(ts, _)| *ts >= bound) {
            return;
        }
        let mut total = Moments::EMPTY;
        for (ts, value) in self.back.drain(..).rev().take_while(|(ts, _)| *ts >= bound) {
            total = Moments::of(value).merge(total);
            self.front.push((ts, total));
        }
        self.back_total = Moments::EMPTY;
    }

    fn total(&self) -> Moments {
        self.front.last().map_or(Moments::EMPTY, |(_, total)| *total).merge(self.back_total)
    }
}

/// The samples of the window, in order of time and in order of value.
#[derive(Debug, Default)]
struct Sorted {
    arrived: VecDeque<(i64, f64)>,
    values: Vec<f64>,
}

impl Sorted {
    fn place(&self, value: f64) -> usize {
        self.values.partition_point(|known| known.total_cmp(&value).is_lt())
    }

    fn push(&mut self, ts: i64, value: f64) {
        self.arrived.push_back((ts, value));
        self.values.insert(self.place(value), value);
    }

    fn forget_before(&mut self, bound: i64) {
        while let Some((_, value)) = self.arrived.pop_front_if(|(ts, _)| *ts < bound) {
            self.values.remove(self.place(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sweep(samples: &[(i64, f64)], instants: &[i64], width: i64, reduce: Reduce) -> Vec<Option<f64>> {
        let mut sweep = Sweep::new(instants.into(), width, reduce);
        samples.iter().for_each(|&(ts, value)| sweep.push(ts, value));
        sweep.finish()
    }

    #[test]
    fn a_window_holds_both_its_borders() {
        let samples = [(0, 1.0), (10, 2.0), (20, 4.0)];
        let counts = sweep(&samples, &[0, 10, 11, 20, 30, 31], 10, Reduce::Figure(Figure::Count));
        assert_eq!(counts, [Some(1.0), Some(2.0), Some(1.0), Some(2.0), Some(1.0), None]);
        let last = sweep(&samples, &[-1, 0, 9, 20, 30, 31], 10, Reduce::Last);
        assert_eq!(last, [None, Some(1.0), Some(1.0), Some(4.0), Some(4.0), None]);
    }

    #[test]
    fn steps_that_look_back_from_one_instant_see_the_same() {
        let sums = sweep(&[(1, 1.0), (2, 2.0), (3, 4.0)], &[2, 2, 2], 5, Reduce::Figure(Figure::Sum));
        assert_eq!(sums, [Some(3.0); 3]);
    }

    /// The definition: each step anew from all samples.
    fn anew(samples: &[(i64, f64)], instant: i64, width: i64, reduce: Reduce) -> Option<f64> {
        let seen = samples.iter().filter(|(ts, _)| (instant - width..=instant).contains(ts));
        let mut values: Vec<f64> = seen.map(|(_, value)| *value).collect();
        match reduce {
            Reduce::Last => values.last().copied(),
            Reduce::Figure(figure) => {
                let all = values.iter().fold(Moments::EMPTY, |all, &value| all.merge(Moments::of(value)));
                all.figure(figure)
            }
            Reduce::Quantile(q) => {
                values.sort_by(f64::total_cmp);
                quantile(q, &values)
            }
        }
    }

    proptest! {
        #[test]
        fn sliding_is_the_same_as_beginning_anew(
            gaps in proptest::collection::vec((1i64..40, -9.0f64..9.0), 0..80),
            (start, step, width) in (-20i64..50, 1i64..60, 0i64..300),
        ) {
            let mut now = 0;
            let samples: Vec<(i64, f64)> = gaps.iter().map(|(gap, value)| { now += gap; (now, *value) }).collect();
            let instants: Vec<i64> = (0..60).map(|i| start + i * step).collect();
            let figures = [Figure::Average, Figure::Sum, Figure::Minimum, Figure::Count, Figure::Deviation];
            let reduces = figures.map(Reduce::Figure).into_iter().chain([Reduce::Last, Reduce::Quantile(0.3)]);
            for reduce in reduces {
                let slid = sweep(&samples, &instants, width, reduce);
                for (&instant, found) in instants.iter().zip(slid) {
                    let expected = anew(&samples, instant, width, reduce);
                    let near = match (found, expected) {
                        (Some(a), Some(b)) => (a - b).abs() <= 1e-12,
                        (a, b) => a == b,
                    };
                    prop_assert!(near, "{reduce:?} at {instant}: {found:?}, not {expected:?}");
                }
            }
        }
    }
}
