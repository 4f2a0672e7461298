//! From which probability on to alarm: by a balance of misses and false alarms, by cost, or by a budget of false alarms or of
//! visits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How the threshold of alarms is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum AlarmRule {
    /// Where F1 over held-out rows is best.
    #[default]
    Balanced,
    /// Where a visit costs less than the failure that it may prevent: P(failure) x `failure` > `visit`.
    Cost {
        /// What an inspection costs that finds nothing.
        visit: f64,
        /// What a failure costs more that nobody foresaw; > `visit`.
        failure: f64,
    },
    /// As low as a budget of false alarms allows on held-out rows.
    FalseAlarms {
        /// False alarms that 1,000 device-months may have; >= 0.
        per_1000_device_months: f64,
    },
    /// As low as the visits that a crew can make to the whole fleet allow: alarms, true and false, as held-out rows raise them.
    Visits {
        /// Visits a day; > 0.
        per_day: f64,
    },
}

/// What is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no rule of alarms: say balanced, cost=VISIT:FAILURE (a visit costs less than a failure), \
     false_alarms=N (for each 1,000 device-months), or visits=N (a day, to the whole fleet)"
)]
pub struct NoAlarmRule {
    text: String,
}

impl FromStr for AlarmRule {
    type Err = NoAlarmRule;
    fn from_str(text: &str) -> Result<Self, NoAlarmRule> {
        let amount = |text: &str| text.trim().parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount >= 0.0);
        let rule = match text.split_once('=') {
            None => (text == "balanced").then_some(Self::Balanced),
            Some(("cost", costs)) => costs.split_once(':').and_then(|(visit, failure)| {
                let (visit, failure) = (amount(visit)?, amount(failure)?);
                (0.0 < visit && visit < failure).then_some(Self::Cost { visit, failure })
            }),
            Some(("false_alarms", budget)) => {
                amount(budget).map(|per_1000_device_months| Self::FalseAlarms { per_1000_device_months })
            }
            Some(("visits", visits)) => {
                amount(visits).filter(|&visits| visits > 0.0).map(|per_day| Self::Visits { per_day })
            }
            Some(_) => None,
        };
        rule.ok_or_else(|| NoAlarmRule { text: text.to_owned() })
    }
}

impl fmt::Display for AlarmRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balanced => f.write_str("balanced"),
            Self::Cost { visit, failure } => write!(f, "cost={visit}:{failure}"),
            Self::FalseAlarms { per_1000_device_months } => write!(f, "false_alarms={per_1000_device_months}"),
            Self::Visits { per_day } => write!(f, "visits={per_day}"),
        }
    }
}

impl Serialize for AlarmRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AlarmRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_as_they_are_written() {
        let rules = [
            AlarmRule::Balanced,
            AlarmRule::Cost { visit: 80.0, failure: 1200.5 },
            AlarmRule::FalseAlarms { per_1000_device_months: 2.5 },
            AlarmRule::Visits { per_day: 0.5 },
        ];
        for rule in rules {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_remedy() {
        for text in [
            "",
            "cost",
            "cost=5",
            "cost=5:5",
            "cost=0:5",
            "cost=-1:5",
            "false_alarms=-1",
            "false_alarms=x",
            "visits=0",
            "best",
        ] {
            let refused = text.parse::<AlarmRule>().unwrap_err().to_string();
            assert!(refused.contains("cost=VISIT:FAILURE"), "{refused}");
        }
    }
}
