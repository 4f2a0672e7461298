//! What past alerts were worth: how often they came true, how many failures they named in time, and whether either is more than chance.

/// What is remembered of alerts halves in so many days: a model that goes bad is noticed.
const HALF_LIFE_DAYS: f64 = 365.0;
/// Alerts that must have ended before any is believed.
const LEAST_ENDED: f64 = 20.0;
/// Alerts must come true so many times as often as chance would let them, even at the lower end of what the count allows.
const LEAST_LIFT: f64 = 3.0;
/// Standard deviations of a count to its lower end.
const LOWER_END: f64 = 2.0;
/// Failures without a warning that are counted before any was seen.
const PRIOR_SILENT: f64 = 10.0;

/// The record.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Record {
    ended: f64,
    /// Sum of their probabilities, as the model said.
    claimed: f64,
    /// Of these ended in a failure.
    came_true: f64,
    /// Failures that as many slots would have had over as many days without any sign.
    by_chance: f64,
    failures: f64,
    /// Of these named early enough to send a piece.
    named: f64,
}

impl Record {
    /// A day goes by; `by_chance`: sum of the long-run daily rates of the slots that are in alert.
    pub(crate) fn pass_day(&mut self, by_chance: f64) {
        let keep = 0.5_f64.powf(1.0 / HALF_LIFE_DAYS);
        for sum in [
            &mut self.ended,
            &mut self.claimed,
            &mut self.came_true,
            &mut self.by_chance,
            &mut self.failures,
            &mut self.named,
        ] {
            *sum *= keep;
        }
        self.by_chance += by_chance;
    }

    /// An alert ended.
    pub(crate) fn end(&mut self, probability: f64, came_true: bool) {
        self.ended += 1.0;
        self.claimed += probability;
        self.came_true += f64::from(u8::from(came_true));
    }

    /// Something failed.
    pub(crate) fn fail(&mut self, named_in_time: bool) {
        self.failures += 1.0;
        self.named += f64::from(u8::from(named_in_time));
    }

    /// Whether alerts are worth anything, beyond doubt.
    pub(crate) fn is_trusted(&self) -> bool {
        let lower_end = self.came_true - LOWER_END * self.came_true.sqrt();
        self.ended >= LEAST_ENDED && lower_end > LEAST_LIFT * self.by_chance
    }

    /// What the model's probabilities are multiplied with to be true on average.
    pub(crate) fn correction(&self) -> f64 {
        if self.claimed > 0.0 { self.came_true / self.claimed } else { 0.0 }
    }

    /// Share of failures that are named in time.
    pub(crate) fn recall(&self) -> f64 {
        self.named / (self.failures + PRIOR_SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 60 alerts at 0.6 half come true, where chance would bring one: believed, and corrected by 0.5 / 0.6.
    #[test]
    fn alerts_that_come_true_are_believed_as_far_as_they_did() {
        let mut record = Record::default();
        assert!(!record.is_trusted());
        record.pass_day(1.0);
        for n in 0..60 {
            record.end(0.6, n % 2 == 0);
            record.fail(n % 3 == 0);
        }
        assert!(record.is_trusted());
        assert!((record.correction() - 0.5 / 0.6).abs() < 1e-12);
        assert!((record.recall() - 20.0 / 70.0).abs() < 1e-12);
    }

    /// As many come true as slots fail anyway.
    #[test]
    fn alerts_that_come_true_by_chance_are_not_believed() {
        let mut record = Record::default();
        record.pass_day(30.0);
        (0..60).for_each(|n| record.end(0.6, n % 2 == 0));
        assert!(!record.is_trusted());
    }

    #[test]
    fn what_is_long_ago_counts_less() {
        let mut record = Record::default();
        (0..100).for_each(|_| record.end(0.6, true));
        assert!(record.is_trusted());
        (0..1_460).for_each(|_| record.pass_day(0.01));
        assert!(!record.is_trusted());
    }
}
