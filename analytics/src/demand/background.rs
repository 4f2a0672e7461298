//! Background demand: what no signal can see, forecast from the history of unattributed consumption (section 2.5).
//!
//! Never from total demand: what the signal explains would count twice.

use serde::{Deserialize, Serialize};

use super::{DemandLaw, Error, negative_binomial, poisson};

/// Smoothing constant of sizes, intervals and probabilities (the note's default).
const SMOOTHING: f64 = 0.1;

/// One-step errors of so many last periods make the mean squared error.
const ERROR_PERIODS: usize = 24;

/// The negative binomial is used where the variance exceeds the mean by this factor.
const OVERDISPERSED: f64 = 1.001;

/// Periods per period with demand, below which demand is no longer intermittent.
const SMOOTH_INTERVAL: f64 = 1.32;

/// Squared coefficient of variation of sizes, above which they are erratic.
const ERRATIC_SIZES: f64 = 0.49;

/// How a forecast is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Exponential smoothing: demand in most periods.
    Smoothing,
    /// Syntetos-Boylan approximation: intermittent, and known to live on.
    SyntetosBoylan,
    /// Teunter-Syntetos-Babai: intermittent, and decaying when the item dies.
    TeunterSyntetosBabai,
}

/// What a series is like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pattern {
    /// Average interval: periods per period with demand (ADI); infinite without demand.
    pub interval: f64,
    /// Squared coefficient of variation of the sizes above zero.
    pub size_variation: f64,
}

impl Pattern {
    /// `smooth`, `intermittent`, `erratic` or `lumpy`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self.interval < SMOOTH_INTERVAL, self.size_variation < ERRATIC_SIZES) {
            (true, true) => "smooth",
            (false, true) => "intermittent",
            (true, false) => "erratic",
            (false, false) => "lumpy",
        }
    }

    /// The default method: smoothing where there is demand in most periods, else the one that lets dead items die.
    #[must_use]
    pub fn method(&self) -> Method {
        if self.interval < SMOOTH_INTERVAL { Method::Smoothing } else { Method::TeunterSyntetosBabai }
    }
}

/// Classifies a series. Source: Syntetos, Boylan, Croston (2005), *On the categorization of demand patterns*, JORS 56.
#[must_use]
pub fn pattern(series: &[f64]) -> Pattern {
    let sizes: Vec<f64> = series.iter().copied().filter(|&y| y > 0.0).collect();
    let count = sizes.len() as f64;
    if sizes.is_empty() {
        return Pattern { interval: f64::INFINITY, size_variation: 0.0 };
    }
    let mean = sizes.iter().sum::<f64>() / count;
    let variance = sizes.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / count;
    Pattern { interval: series.len() as f64 / count, size_variation: variance / (mean * mean) }
}

/// Croston's forecast per period: smoothed size over smoothed interval; 0 without demand.
#[must_use]
pub fn croston(series: &[f64], alpha: f64) -> f64 {
    let mut state: Option<(f64, f64)> = None;
    let mut periods = 1.0;
    for &y in series {
        if y > 0.0 {
            state = Some(match state {
                None => (y, periods),
                Some((size, interval)) => (size + alpha * (y - size), interval + alpha * (periods - interval)),
            });
            periods = 1.0;
        } else {
            periods += 1.0;
        }
    }
    state.map_or(0.0, |(size, interval)| size / interval)
}

/// Croston's forecast less its bias: `(1 - alpha / 2)` of it.
#[must_use]
pub fn syntetos_boylan(series: &[f64], alpha: f64) -> f64 {
    (1.0 - alpha / 2.0) * croston(series, alpha)
}

/// Smoothed probability of demand times smoothed size; it falls in every period without demand.
#[must_use]
pub fn teunter_syntetos_babai(series: &[f64], alpha_size: f64, alpha_probability: f64) -> f64 {
    let Some(first) = series.first() else { return 0.0 };
    let mut probability = f64::from(u8::from(*first > 0.0));
    let mut size: Option<f64> = None;
    for &y in series {
        probability += alpha_probability * (f64::from(u8::from(y > 0.0)) - probability);
        if y > 0.0 {
            size = Some(size.map_or(y, |size| size + alpha_size * (y - size)));
        }
    }
    probability * size.unwrap_or(0.0)
}

/// Exponential smoothing from the first value on; 0 for an empty series.
#[must_use]
pub fn exponential_smoothing(series: &[f64], alpha: f64) -> f64 {
    let mut values = series.iter();
    let Some(&first) = values.next() else { return 0.0 };
    values.fold(first, |level, y| level + alpha * (y - level))
}

/// What the background takes per period.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BackgroundForecast {
    /// Expected pieces per period.
    pub mean: f64,
    /// Mean squared one-step error over the last 24 periods.
    pub mean_squared_error: f64,
    /// How it was made.
    pub method: Method,
}

/// Forecasts a series of consumption per period, oldest first. Values that are negative or no numbers count as zero.
#[must_use]
pub fn forecast_background(series: &[f64], method: Option<Method>) -> BackgroundForecast {
    let series: Vec<f64> = series.iter().map(|&y| if y.is_finite() { y.max(0.0) } else { 0.0 }).collect();
    let method = method.unwrap_or_else(|| pattern(&series).method());
    let forecast = |known: &[f64]| match method {
        Method::Smoothing => exponential_smoothing(known, SMOOTHING),
        Method::SyntetosBoylan => syntetos_boylan(known, SMOOTHING),
        Method::TeunterSyntetosBabai => teunter_syntetos_babai(known, SMOOTHING, SMOOTHING),
    };
    let from = series.len().saturating_sub(ERROR_PERIODS).max(1);
    let errors: Vec<f64> = (from..series.len()).map(|now| (series[now] - forecast(&series[..now])).powi(2)).collect();
    let mean_squared_error = if errors.is_empty() { 0.0 } else { errors.iter().sum::<f64>() / errors.len() as f64 };
    BackgroundForecast { mean: forecast(&series), mean_squared_error, method }
}

/// The law of background demand over `periods` periods (a fraction counts as such): negative binomial where errors say that it
/// varies more than a Poisson law, else Poisson.
///
/// # Errors
/// [`Error::Moment`].
pub fn background_law(forecast: &BackgroundForecast, periods: f64) -> Result<DemandLaw, Error> {
    let mean = forecast.mean * periods;
    let variance = (forecast.mean_squared_error * periods).max(mean);
    if variance > OVERDISPERSED * mean { negative_binomial(mean, variance) } else { poisson(mean) }
}
