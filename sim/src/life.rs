//! How long a piece lives and how it shows its age: a Weibull life, and a phase of degradation before its end.

use harbinger_core::{Timestamp, time::MILLIS_PER_DAY};

use crate::noise::Noise;

/// Degradation takes at most this share of a piece's life, so that a piece that dies young was once healthy.
const LONGEST_WARNING_SHARE: f64 = 0.6;

/// Severity grows as this power of the elapsed share of the degradation phase: slowly, then fast.
const SEVERITY_POWER: f64 = 1.5;

/// The Weibull law of a lifetime, S(t) = exp(-(t / scale)^shape), time in days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weibull {
    /// Shape k > 0: below 1 the hazard falls with age, above 1 it rises.
    pub shape: f64,
    /// Scale in days > 0: the age at which 63.2 % have failed.
    pub scale_days: f64,
}

impl Weibull {
    /// Cumulative hazard H(t) = (t / scale)^shape at an age in days >= 0.
    #[must_use]
    pub fn cumulative_hazard(&self, age_days: f64) -> f64 {
        (age_days / self.scale_days).powf(self.shape)
    }

    /// The age in days at which the cumulative hazard is `hazard` >= 0.
    #[must_use]
    pub fn age_at_hazard(&self, hazard: f64) -> f64 {
        self.scale_days * hazard.powf(1.0 / self.shape)
    }

    /// Draws a lifetime in days of a piece known to have reached `age_days` (delayed entry): an exponential amount of hazard
    /// beyond what that age has used up.
    pub(crate) fn draw_beyond(&self, age_days: f64, noise: &mut Noise) -> f64 {
        let exponential = -(1.0 - noise.uniform()).ln();
        self.age_at_hazard(self.cumulative_hazard(age_days) + exponential)
    }
}

/// How pieces of a class wear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wear {
    /// Law of the life.
    pub(crate) life: Weibull,
    /// Shortest and longest degradation phase in days.
    pub(crate) warning_days: (f64, f64),
    /// Share of pieces that fail without degrading, 0..=1.
    pub(crate) silent_share: f64,
}

/// A piece in a slot. Its end is fixed when it goes in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Piece {
    /// When its age was zero.
    pub(crate) installed_at: Timestamp,
    /// When it begins to degrade; equal to `fails_at` where it fails without a sign.
    pub(crate) degrades_from: Timestamp,
    /// When it fails.
    pub(crate) fails_at: Timestamp,
}

impl Piece {
    /// Draws a piece that went in at `installed_at` and is known to work at `age_days`.
    pub(crate) fn draw(wear: &Wear, installed_at: Timestamp, age_days: f64, noise: &mut Noise) -> Self {
        let life_days = wear.life.draw_beyond(age_days, noise);
        let (shortest, longest) = wear.warning_days;
        let drawn_warning = noise.between(shortest, longest);
        let silent = noise.uniform() < wear.silent_share;
        let warning_days = if silent { 0.0 } else { drawn_warning.min(life_days * LONGEST_WARNING_SHARE) };
        Self {
            installed_at,
            degrades_from: after_days(installed_at, life_days - warning_days),
            fails_at: after_days(installed_at, life_days),
        }
    }

    /// Whether it has failed at `now`.
    pub(crate) fn failed(&self, now: Timestamp) -> bool {
        self.fails_at <= now
    }

    /// How far it has degraded: 0 healthy, 1 at the moment of failure.
    pub(crate) fn severity(&self, now: Timestamp) -> f64 {
        if now <= self.degrades_from {
            return 0.0;
        }
        let phase = self.fails_at.days_since(self.degrades_from);
        if phase <= 0.0 { 1.0 } else { (now.days_since(self.degrades_from) / phase).min(1.0).powf(SEVERITY_POWER) }
    }
}

/// The instant `days` after `start`, to the millisecond.
pub(crate) fn after_days(start: Timestamp, days: f64) -> Timestamp {
    Timestamp::from_millis(start.millis().saturating_add((days * MILLIS_PER_DAY as f64).round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Purpose;

    const LAW: Weibull = Weibull { shape: 2.0, scale_days: 100.0 };

    /// E[T] = scale Gamma(1 + 1/shape); Gamma(1.5) = sqrt(pi)/2. Standard deviation 46.3 days, so the mean of 20,000 is within
    /// 1.64 days (five standard errors).
    #[test]
    fn lives_have_the_mean_of_their_law() {
        let mut noise = Noise::at(42, 0, Purpose::Slot(0), 0);
        let mean = (0..20_000).map(|_| LAW.draw_beyond(0.0, &mut noise)).sum::<f64>() / 20_000.0;
        let expected = 100.0 * std::f64::consts::PI.sqrt() / 2.0;
        assert!((mean - expected).abs() < 1.64, "{mean} is not {expected}");
    }

    /// P(T > 120 | T > 80) = exp(0.64 - 1.44) = 0.4493; 20,000 draws are within 0.0176 (five standard errors).
    #[test]
    fn lives_beyond_an_age_follow_conditional_survival() {
        let mut noise = Noise::at(42, 0, Purpose::Slot(0), 0);
        let lives: Vec<f64> = (0..20_000).map(|_| LAW.draw_beyond(80.0, &mut noise)).collect();
        assert!(lives.iter().all(|&life| life >= 80.0));
        let survive = lives.iter().filter(|&&life| life > 120.0).count() as f64 / 20_000.0;
        assert!((survive - (-0.8f64).exp()).abs() < 0.0176, "{survive}");
    }

    #[test]
    fn severity_rises_from_none_to_one_and_silent_pieces_give_no_sign() {
        let start = Timestamp::from_millis(0);
        let wear = Wear { life: LAW, warning_days: (4.0, 8.0), silent_share: 0.0 };
        let piece = Piece::draw(&wear, start, 0.0, &mut Noise::at(1, 0, Purpose::Slot(0), 0));
        assert_eq!(piece.severity(piece.degrades_from), 0.0);
        assert_eq!(piece.severity(piece.fails_at), 1.0);
        let phase = piece.fails_at.days_since(piece.degrades_from);
        let severities: Vec<f64> = (0..=10)
            .map(|tenth| piece.severity(after_days(piece.degrades_from, phase * f64::from(tenth) / 10.0)))
            .collect();
        assert!(severities.is_sorted());

        let silent = Wear { silent_share: 1.0, ..wear };
        let piece = Piece::draw(&silent, start, 0.0, &mut Noise::at(1, 0, Purpose::Slot(0), 0));
        assert_eq!(piece.degrades_from, piece.fails_at);
        assert_eq!(piece.severity(after_days(piece.fails_at, -0.01)), 0.0);
    }
}
