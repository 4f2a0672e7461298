//! The numbers that a row may hold, and what each is in words.

use harbinger_core::{ComponentId, SignalId};
use serde::{Deserialize, Serialize};

use super::Windows;

/// One number of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Newest value of a signal inside the long window.
    Last(SignalId),
    /// Mean over the short window.
    ShortMean(SignalId),
    /// Mean over the middle window.
    MidMean(SignalId),
    /// Mean over the long window.
    LongMean(SignalId),
    /// Standard deviation over the middle window.
    MidSpread(SignalId),
    /// Smallest value in the middle window.
    MidMin(SignalId),
    /// Largest value in the middle window.
    MidMax(SignalId),
    /// Least-squares slope over the middle window, per hour.
    MidSlope(SignalId),
    /// Least-squares slope over the long window, per hour.
    LongSlope(SignalId),
    /// Newest less oldest value of the long window.
    LongChange(SignalId),
    /// (short mean - long mean) / long standard deviation: change against the device's own past.
    OwnDeviation(SignalId),
    /// (middle mean - cohort's middle mean) / cohort's standard deviation.
    CohortDeviation(SignalId),
    /// Middle mean less the mean of the device's baseline.
    BaselineChange(SignalId),
    /// What a counter grew by in the middle window, over resets.
    MidGrowth(SignalId),
    /// What a counter grew by in the long window, over resets.
    LongGrowth(SignalId),
    /// Hours since a counter last grew inside the long window.
    SinceGrowth(SignalId),
    /// Events of a code in the middle window.
    MidEvents(String),
    /// Events of a code in the long window.
    LongEvents(String),
    /// Hours since the newest event of a code inside the long window.
    SinceEvent(String),
    /// Hours since the newest reading inside the long window.
    Staleness,
    /// Hours since the device was installed.
    DeviceAge,
    /// Hours since a component of the device, which need not be the one that is predicted, was replaced: the repair of one
    /// explains the events that another one gave before.
    PieceAge(ComponentId),
    /// Hours since the component was replaced, or else since the device was installed.
    ComponentAge,
}

impl Feature {
    /// The signal or event code that the number is about.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Last(s)
            | Self::ShortMean(s)
            | Self::MidMean(s)
            | Self::LongMean(s)
            | Self::MidSpread(s)
            | Self::MidMin(s)
            | Self::MidMax(s)
            | Self::MidSlope(s)
            | Self::LongSlope(s)
            | Self::LongChange(s)
            | Self::OwnDeviation(s)
            | Self::CohortDeviation(s)
            | Self::BaselineChange(s)
            | Self::MidGrowth(s)
            | Self::LongGrowth(s)
            | Self::SinceGrowth(s) => s.as_str(),
            Self::MidEvents(code) | Self::LongEvents(code) | Self::SinceEvent(code) => code,
            Self::Staleness => "staleness",
            Self::DeviceAge => "device age",
            Self::PieceAge(component) => component.as_str(),
            Self::ComponentAge => "component age",
        }
    }

    /// Whether the number is about the values of a signal.
    #[must_use]
    pub fn is_of_signal(&self) -> bool {
        !matches!(
            self,
            Self::MidEvents(_)
                | Self::LongEvents(_)
                | Self::SinceEvent(_)
                | Self::Staleness
                | Self::DeviceAge
                | Self::PieceAge(_)
                | Self::ComponentAge
        )
    }

    /// What the number is, in words.
    #[must_use]
    pub fn words(&self, windows: &Windows) -> String {
        let Windows { short, mid, long, baseline, .. } = windows;
        match self {
            Self::Last(s) => format!("newest {s}"),
            Self::ShortMean(s) => format!("mean {s} of the last {short}"),
            Self::MidMean(s) => format!("mean {s} of the last {mid}"),
            Self::LongMean(s) => format!("mean {s} of the last {long}"),
            Self::MidSpread(s) => format!("spread of {s} in the last {mid}"),
            Self::MidMin(s) => format!("lowest {s} of the last {mid}"),
            Self::MidMax(s) => format!("highest {s} of the last {mid}"),
            Self::MidSlope(s) => format!("trend of {s} per hour over {mid}"),
            Self::LongSlope(s) => format!("trend of {s} per hour over {long}"),
            Self::LongChange(s) => format!("change of {s} over {long}"),
            Self::OwnDeviation(s) => format!("{s} of the last {short} against its own {long} in standard deviations"),
            Self::CohortDeviation(s) => {
                format!("{s} of the last {mid} against devices of its model in standard deviations")
            }
            Self::BaselineChange(s) => {
                format!("{s} of the last {mid} less its first {baseline} since it was new or repaired")
            }
            Self::MidGrowth(s) => format!("growth of {s} in the last {mid}"),
            Self::LongGrowth(s) => format!("growth of {s} in the last {long}"),
            Self::SinceGrowth(s) => format!("hours since {s} last grew"),
            Self::MidEvents(code) => format!("{code} events in the last {mid}"),
            Self::LongEvents(code) => format!("{code} events in the last {long}"),
            Self::SinceEvent(code) => format!("hours since the last {code}"),
            Self::Staleness => "hours since the last reading".to_owned(),
            Self::DeviceAge => "hours since the device was installed".to_owned(),
            Self::PieceAge(component) => format!("hours since {component} was replaced"),
            Self::ComponentAge => "hours since the component was replaced".to_owned(),
        }
    }
}
