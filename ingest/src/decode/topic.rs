//! Topic filters of MQTT 3.1.1 section 4.7: parsed once, matched often.

use std::{fmt, str::FromStr};

/// Why a text is no topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a topic filter: {reason}")]
pub struct InvalidFilter {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A topic filter: `+` stands for one level, `#` at the end for all that follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicFilter(String);

impl TopicFilter {
    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a topic name is taken. A wildcard at the start takes no topic that starts with `$` (4.7.2-1).
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for expected in self.0.split('/') {
            match (expected, levels.next()) {
                // `sport/#` also takes `sport` itself (4.7.1.2).
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (text, Some(level)) if text == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether every topic that this filter takes lies under `levels`, which hold no wildcard.
    #[must_use]
    pub fn lies_under(&self, levels: &[&str]) -> bool {
        let mut own = self.0.split('/');
        levels.iter().all(|level| own.next() == Some(level)) && own.next().is_some()
    }
}

impl FromStr for TopicFilter {
    type Err = InvalidFilter;
    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let invalid = |reason| Err(InvalidFilter { text: text.to_owned(), reason });
        if text.is_empty() {
            return invalid("it is empty");
        }
        if text.contains('\0') {
            return invalid("it holds the character U+0000");
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.len() > 1 && level.contains(['+', '#']) {
                return invalid("a wildcard must fill its level");
            }
            if level == "#" && levels.peek().is_some() {
                return invalid("# must be the last level");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification, section 4.7.
    #[test]
    fn filters_match_as_the_specification_shows() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/monitor", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("é/+", "é/x", true),
        ];
        for (filter, topic, taken) in cases {
            assert_eq!(filter.parse::<TopicFilter>().unwrap().matches(topic), taken, "{filter} {topic}");
        }
        for text in ["", "a#", "#/a", "a/#/b", "a+/b", "a\0"] {
            assert!(text.parse::<TopicFilter>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_filter_lies_under_a_prefix_only_without_wildcards_there() {
        let under = |text: &str| text.parse::<TopicFilter>().unwrap().lies_under(&["harbinger", "v1", "acme"]);
        assert!(under("harbinger/v1/acme/#"));
        assert!(under("harbinger/v1/acme/+/commands"));
        assert!(!under("harbinger/v1/acme"));
        assert!(!under("harbinger/v1/+/d1/commands"));
        assert!(!under("harbinger/#"));
        assert!(!under("#"));
    }
}
