//! Label sets: the name of a series and what is known of its device.

use std::sync::Arc;

use promql_parser::label::Matcher;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// The label that holds the signal.
pub(super) const NAME: &str = "__name__";

/// Labels by name, sorted, none of them empty: PromQL takes a label without a value for one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Labels(Vec<(&'static str, Arc<str>)>);

impl Labels {
    /// The value of a label; empty where it is not there.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// These labels and one more, which replaces one of the same name.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Arc<str>>) -> Self {
        let value = value.into();
        self.0.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            let place = self.0.partition_point(|(known, _)| *known < name);
            self.0.insert(place, (name, value));
        }
        self
    }

    /// Those labels whose name `keep` takes.
    pub(super) fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// All but the name of the series.
    pub(super) fn unnamed(&self) -> Self {
        self.filter(|name| name != NAME)
    }

    /// Whether all matchers agree.
    pub(super) fn match_all<'a>(&self, matchers: impl IntoIterator<Item = &'a Matcher>) -> bool {
        matchers.into_iter().all(|matcher| matcher.is_match(self.get(&matcher.name)))
    }

    /// Name and value of each label.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &**value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stay_sorted_and_an_empty_one_is_none() {
        let labels = Labels::default().with("site", "b").with("device", "d1").with(NAME, "rpm").with("depot", "");
        let names: Vec<&str> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [NAME, "device", "site"]);
        assert_eq!((labels.get("site"), labels.get("depot")), ("b", ""));
        assert_eq!(labels.with("site", "").unnamed(), Labels::default().with("device", "d1"));
    }
}
