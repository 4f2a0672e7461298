//! The Weibull law and its maximum-likelihood fit, right-censored and left-truncated (section 2.2).

use serde::{Deserialize, Serialize};

use super::{CURVE_GRID_DAYS, Error, Lifetime, check, positive};
use crate::survival::SurvivalCurve;

/// The shape is sought in this range: below it nearly all fail at birth, above it all at one age.
const SHAPE_RANGE: (f64, f64) = (0.05, 50.0);

/// With fewer failures than this, the shape is drawn towards that of the class.
const FEW_FAILURES: u32 = 5;

/// Weight of the class's shape where failures are few: `a - 1` of the gamma penalty. In `ln beta` a failure carries
/// information of about 1.8, so this counts as some three failures.
const CLASS_SHAPE_WEIGHT: f64 = 5.0;

/// Newton stops when the shape moves by less than this share.
const TOLERANCE: f64 = 1e-12;

/// Lifetime law with survival `S(x) = exp(-(x / scale)^shape)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weibull {
    /// Scale (eta) in days: the age that 37 % reach.
    pub scale: f64,
    /// Shape (beta): below 1 failures come early, at 1 at any age alike, above 1 by wear.
    pub shape: f64,
}

impl Weibull {
    /// A law from its parameters.
    ///
    /// # Errors
    /// [`Error::NotPositive`].
    pub fn new(scale: f64, shape: f64) -> Result<Self, Error> {
        Ok(Self { scale: positive("scale", scale)?, shape: positive("shape", shape)? })
    }

    /// `(x / scale)^shape`.
    #[must_use]
    pub fn cumulative_hazard(&self, age: f64) -> f64 {
        if age > 0.0 { (age / self.scale).powf(self.shape) } else { 0.0 }
    }

    /// P(life > `age`).
    #[must_use]
    pub fn survival(&self, age: f64) -> f64 {
        (-self.cumulative_hazard(age)).exp()
    }

    /// Age by which half have failed.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.scale * std::f64::consts::LN_2.powf(1.0 / self.shape)
    }

    /// P(failure within `days` | alive at `age`): exact, `1 - S(age + days) / S(age)`.
    #[must_use]
    pub fn conditional_failure_probability(&self, age: f64, days: f64) -> f64 {
        -(self.cumulative_hazard(age) - self.cumulative_hazard(age + days)).exp_m1()
    }

    /// Survival from `age` on, `S(u | x) = exp((x/scale)^shape - ((x+u)/scale)^shape)`: exact on a grid that reaches ten
    /// years. An age that is not a number counts as new.
    #[must_use]
    pub fn curve_from_age(&self, age: f64) -> SurvivalCurve {
        let age = if age.is_finite() { age.max(0.0) } else { 0.0 };
        let start = self.cumulative_hazard(age);
        // Clamping costs nothing where the sum is exact and keeps an overflow to infinity from becoming NaN.
        let hazard = |u: f64| (self.cumulative_hazard(age + u) - start).clamp(0.0, f64::MAX);
        SurvivalCurve::from_cumulative_hazard(&CURVE_GRID_DAYS, hazard)
            .unwrap_or_else(|_| SurvivalCurve::exponential(0.0).expect("a rate of zero is a rate"))
    }
}

/// A Weibull law and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WeibullFit {
    /// The law.
    pub law: Weibull,
    /// Failures it was fitted to.
    pub failures: u32,
    /// Whether failures were so few that the shape was drawn towards the class's.
    pub shrunk: bool,
    /// Log-likelihood at the fit, without penalty.
    pub log_likelihood: f64,
    /// Standard error of ln scale, from the observed information.
    pub ln_scale_error: f64,
    /// Standard error of ln shape.
    pub ln_shape_error: f64,
}

impl WeibullFit {
    /// 95 % interval of the scale: made in ln scale, so it stays positive.
    #[must_use]
    pub fn scale_interval(&self) -> (f64, f64) {
        interval(self.law.scale, self.ln_scale_error)
    }

    /// 95 % interval of the shape.
    #[must_use]
    pub fn shape_interval(&self) -> (f64, f64) {
        interval(self.law.shape, self.ln_shape_error)
    }
}

fn interval(value: f64, ln_error: f64) -> (f64, f64) {
    /// 97.5 % quantile of the standard normal law.
    const Z: f64 = 1.959963984540054;
    (value * (-Z * ln_error).exp(), value * (Z * ln_error).exp())
}

/// Fits a law by maximum likelihood where nothing is known of the part's class: with few failures the shape is drawn to 1.
///
/// # Errors
/// As [`fit_weibull_in_class`].
pub fn fit_weibull(lifetimes: &[Lifetime]) -> Result<Weibull, Error> {
    Ok(fit_weibull_in_class(lifetimes, 1.0)?.law)
}

/// Fits scale and shape by maximum likelihood.
///
/// * `lifetimes`: ages in days with failure flag and entry age
/// * `class_shape` (beta_0): shape of the part's class, 1 where nothing is known; used with fewer than 5 failures, by the
///   penalty `(a - 1) ln beta - b beta` whose mode it is
///
/// # Errors
/// [`Error::NoFailures`]; [`Error::Lifetime`] for ages that are none; [`Error::NotPositive`] for the class's shape.
/// # Source
/// Maths of pre-positioning, 2.2: profile likelihood, safeguarded Newton on `g(beta) = 0`.
pub fn fit_weibull_in_class(lifetimes: &[Lifetime], class_shape: f64) -> Result<WeibullFit, Error> {
    check(lifetimes)?;
    let class_shape = positive("class_shape", class_shape)?;
    let failures = u32::try_from(lifetimes.iter().filter(|life| life.event_observed).count()).unwrap_or(u32::MAX);
    if failures == 0 {
        return Err(Error::NoFailures { lifetimes: lifetimes.len() });
    }
    // In units of the longest life all powers lie in 0..=1 and nothing overflows.
    let unit = lifetimes.iter().map(|life| life.duration).fold(0.0, f64::max);
    let shrunk = failures < FEW_FAILURES;
    let weight = if shrunk { CLASS_SHAPE_WEIGHT } else { 0.0 };
    let profile = Profile::new(lifetimes, unit, weight, weight / class_shape);
    let shape = profile.root();
    let scale = unit * (profile.sums(shape).power / f64::from(failures)).powf(1.0 / shape);
    let law = Weibull { scale, shape };
    let (ln_scale_error, ln_shape_error) = standard_errors(&law, lifetimes, weight / class_shape);
    let log_likelihood = log_likelihood(&law, lifetimes);
    Ok(WeibullFit { law, failures, shrunk, log_likelihood, ln_scale_error, ln_shape_error })
}

/// The log-likelihood with the scale put in its best place for a given shape.
struct Profile {
    /// Ages and entry ages (0 for none) in units of the longest life.
    ages: Vec<(f64, f64)>,
    failures: f64,
    /// Sum of ln age over the failures.
    ln_ages: f64,
    /// `a - 1` and `b` of the penalty.
    penalty: (f64, f64),
}

/// Sums over the lives at one shape, exits less entries.
struct Sums {
    /// of x^beta
    power: f64,
    /// of x^beta ln x
    power_ln: f64,
    /// of x^beta (ln x)^2
    power_ln2: f64,
}

impl Profile {
    fn new(lifetimes: &[Lifetime], unit: f64, a_minus_1: f64, b: f64) -> Self {
        let failed = || lifetimes.iter().filter(|life| life.event_observed);
        Self {
            ages: lifetimes.iter().map(|life| (life.duration / unit, life.entry / unit)).collect(),
            failures: failed().count() as f64,
            ln_ages: failed().map(|life| (life.duration / unit).ln()).sum(),
            penalty: (a_minus_1, b),
        }
    }

    fn sums(&self, shape: f64) -> Sums {
        let mut sums = Sums { power: 0.0, power_ln: 0.0, power_ln2: 0.0 };
        let mut add = |x: f64, sign: f64| {
            // 0^beta ln 0 is 0.
            if x > 0.0 {
                let (power, ln) = (x.powf(shape), x.ln());
                sums.power += sign * power;
                sums.power_ln += sign * power * ln;
                sums.power_ln2 += sign * power * ln * ln;
            }
        };
        for &(age, entry) in &self.ages {
            add(age, 1.0);
            add(entry, -1.0);
        }
        sums
    }

    /// g(beta) and its derivative.
    fn score(&self, shape: f64) -> (f64, f64) {
        let sums = self.sums(shape);
        let ratio = sums.power_ln / sums.power;
        let (a_minus_1, b) = self.penalty;
        let value = (self.failures + a_minus_1) / shape + self.ln_ages - self.failures * ratio - b;
        let slope = -(self.failures + a_minus_1) / (shape * shape)
            - self.failures * (sums.power_ln2 / sums.power - ratio * ratio);
        (value, slope)
    }

    /// Where g is zero: Newton, held inside a bracket that bisection narrows.
    fn root(&self) -> f64 {
        let (mut low, mut high) = SHAPE_RANGE;
        if self.score(high).0 >= 0.0 {
            return high;
        }
        if self.score(low).0 <= 0.0 {
            return low;
        }
        let mut shape = 1.0;
        for _ in 0..200 {
            let (value, slope) = self.score(shape);
            if value > 0.0 {
                low = shape
            } else {
                high = shape
            }
            let newton = shape - value / slope;
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            if (next - shape).abs() <= TOLERANCE * shape {
                return next;
            }
            shape = next;
        }
        shape
    }
}

fn log_likelihood(law: &Weibull, lifetimes: &[Lifetime]) -> f64 {
    let Weibull { scale, shape } = *law;
    lifetimes
        .iter()
        .map(|life| {
            let density = if life.event_observed {
                shape.ln() - shape * scale.ln() + (shape - 1.0) * life.duration.ln()
            } else {
                0.0
            };
            density - (law.cumulative_hazard(life.duration) - law.cumulative_hazard(life.entry))
        })
        .sum()
}

/// Standard errors of ln scale and ln shape: inverse of the observed information. `b` is the penalty's.
fn standard_errors(law: &Weibull, lifetimes: &[Lifetime], b: f64) -> (f64, f64) {
    let Weibull { scale, shape } = *law;
    // With z = beta (ln x - ln eta) and w = e^z; dz/d ln eta = -beta, dz/d ln beta = z.
    let (mut w, mut wz, mut wz2, mut z_failed) = (0.0, 0.0, 0.0, 0.0);
    for life in lifetimes {
        for (x, sign) in [(life.duration, 1.0), (life.entry, -1.0)] {
            if x > 0.0 {
                let z = shape * (x / scale).ln();
                let hazard = sign * z.exp();
                w += hazard;
                wz += hazard * z;
                wz2 += hazard * z * z;
            }
        }
        if life.event_observed {
            z_failed += shape * (life.duration / scale).ln();
        }
    }
    let failures = lifetimes.iter().filter(|life| life.event_observed).count() as f64;
    let scale_scale = shape * shape * w;
    let scale_shape = -shape * (w - failures + wz);
    let shape_shape = wz2 + wz - z_failed + b * shape;
    let determinant = scale_scale * shape_shape - scale_shape * scale_shape;
    ((shape_shape / determinant).sqrt(), (scale_scale / determinant).sqrt())
}
