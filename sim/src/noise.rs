//! Randomness as a function of place: a seed, a stream (who) and a position in it (when or which).
//!
//! ChaCha is a counter mode cipher, so any position of any stream can be asked for directly. That is what makes the noise of
//! a reading independent of everything that was drawn before it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Words of a stream that one position owns. A reading draws some dozens; a Poisson count below [`POISSON_NORMAL_ABOVE`]
/// a few dozens more.
const WORDS_PER_POSITION: u128 = 1024;

/// Above this mean a Poisson count is drawn as a rounded normal: the skewness there is below 0.2.
const POISSON_NORMAL_ABOVE: f64 = 30.0;

/// What a stream of a device is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// The pieces of slot n, one position a piece.
    Slot(u8),
    /// How this device differs from others of its make: position 0.
    Traits,
    /// Noise of readings and events, one position a step.
    Readings,
    /// What the device is used for, one position a block of hours.
    Regime,
    /// What a model sees of the pieces of slot n, one position a piece.
    Alert(u8),
    /// When a model sees what is not there in slot n: position 0.
    FalseAlarm(u8),
}

impl Purpose {
    fn number(self) -> u64 {
        match self {
            Self::Slot(n) => u64::from(n),
            Self::Traits => 64,
            Self::Readings => 65,
            Self::Regime => 66,
            Self::Alert(n) => 128 + u64::from(n),
            Self::FalseAlarm(n) => 192 + u64::from(n),
        }
    }
}

/// A generator that stands at one position of one stream.
#[derive(Debug, Clone)]
pub(crate) struct Noise(ChaCha8Rng);

impl Noise {
    /// The numbers at `position` of what `device` draws for `purpose`.
    pub(crate) fn at(seed: u64, device: u32, purpose: Purpose, position: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream((u64::from(device) << 8) | purpose.number());
        generator.set_word_pos(u128::from(position) * WORDS_PER_POSITION);
        Self(generator)
    }

    /// Uniform in 0..1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// Uniform in `low..high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Standard normal (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A count with the given mean >= 0 (Knuth's product of uniforms; rounded normal for large means).
    pub(crate) fn poisson(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 {
            return 0.0;
        }
        if mean > POISSON_NORMAL_ABOVE {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let limit = (-mean).exp();
        let mut count = 0.0;
        let mut product = self.uniform();
        while product > limit {
            count += 1.0;
            product *= self.uniform();
        }
        count
    }

    /// Whether something that happens `rate_per_day` times a day happens within `days`.
    pub(crate) fn happens(&mut self, rate_per_day: f64, days: f64) -> bool {
        self.uniform() < -(-rate_per_day * days).exp_m1()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_gives_the_same_numbers_whatever_was_drawn_before() {
        let mut first = Noise::at(7, 3, Purpose::Readings, 11);
        let expected = (first.uniform(), first.normal());
        let mut wasteful = Noise::at(7, 3, Purpose::Readings, 10);
        wasteful.poisson(20.0);
        let mut again = Noise::at(7, 3, Purpose::Readings, 11);
        assert_eq!((again.uniform(), again.normal()), expected);
        assert_ne!(Noise::at(7, 4, Purpose::Readings, 11).uniform(), expected.0);
        assert_ne!(Noise::at(7, 3, Purpose::Regime, 11).uniform(), expected.0);
        assert_ne!(Noise::at(8, 3, Purpose::Readings, 11).uniform(), expected.0);
    }

    /// Mean and variance of 20,000 counts, each within five standard errors of the law's.
    #[test]
    fn counts_have_the_mean_and_variance_of_their_law() {
        for mean in [0.3, 4.0, 80.0] {
            let mut noise = Noise::at(1, 0, Purpose::Traits, 0);
            let n = 20_000.0;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..20_000 {
                let count = noise.poisson(mean);
                sum += count;
                squares += count * count;
            }
            let average = sum / n;
            let variance = squares / n - average * average;
            assert!((average - mean).abs() < 5.0 * (mean / n).sqrt(), "mean {average} of {mean}");
            let variance_error = ((mean + 2.0 * mean * mean) / n).sqrt();
            assert!((variance - mean).abs() < 5.0 * variance_error + 0.1, "variance {variance} of {mean}");
        }
    }
}
