//! Where a ledger is. A URL may hold a password, so it is shown without it everywhere but to the driver.

use std::{borrow::Cow, fmt, path::Path};

use serde::{Deserialize, Serialize, Serializer};

use super::page_checksums;

/// What stands in place of a password.
const HIDDEN: &str = "***";

/// `sqlite://path` or `postgres://user:password@host:port/database`; printed, logged and written without its password.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// Of a SQLite file, which is made where it is missing.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        Self::of_path(path, "rwc")
    }

    /// Of a SQLite file that is only read.
    pub(super) fn of_file_to_read(path: &Path) -> Self {
        Self::of_path(path, "ro")
    }

    fn of_path(path: &Path, mode: &str) -> Self {
        // What would end the path, or begin an escape of it, in a URL.
        let path = path.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        Self(format!("sqlite://{path}?mode={mode}"))
    }

    /// Whether it is of a SQLite file: neither of a server nor in memory.
    pub(super) fn is_file(&self) -> bool {
        self.0.starts_with("sqlite:") && !self.0.contains(":memory:") && !self.0.contains("mode=memory")
    }

    /// What the driver is given: a SQLite file is read through the VFS that verifies its pages.
    pub(super) fn verified(&self) -> Cow<'_, str> {
        if !self.is_file() {
            return Cow::Borrowed(&self.0);
        }
        let joint = if self.0.contains('?') { '&' } else { '?' };
        Cow::Owned(format!("{}{joint}vfs={}", self.0, page_checksums::VFS))
    }

    /// Whether nothing is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with its password: for whoever connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_parameter(&hide_authority(&self.0)))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hides what stands between the user's name and the last `@`: a password with signs that it should not have in a URL is
/// hidden whole.
fn hide_authority(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user_and_password, place)) = rest.rsplit_once('@') else { return url.to_owned() };
    match user_and_password.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{place}"),
        None => url.to_owned(),
    }
}

/// Hides the value of a parameter `password`.
fn hide_parameter(url: &str) -> String {
    let Some((place, parameters)) = url.split_once('?') else { return url.to_owned() };
    let hidden: Vec<String> = parameters
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if name.eq_ignore_ascii_case("password") => format!("{name}={HIDDEN}"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{place}?{}", hidden.join("&"))
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn a_password_is_shown_nowhere_and_the_place_is() {
        for (given, shown) in [
            ("postgres://eve:s3cret@db:5432/ledger", "postgres://eve:***@db:5432/ledger"),
            ("postgres://eve:s3cret/p@ss:w@db/ledger?sslmode=require", "postgres://eve:***@db/ledger?sslmode=require"),
            ("postgres://db/ledger?user=eve&password=s3cret", "postgres://db/ledger?user=eve&password=***"),
            ("postgres://eve@db/ledger", "postgres://eve@db/ledger"),
            ("sqlite:///var/lib/harbinger/ledger.db?mode=rwc", "sqlite:///var/lib/harbinger/ledger.db?mode=rwc"),
            ("", ""),
        ] {
            let url = Url::from(given);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("Url({shown})"));
            assert_eq!(serde_json::to_value(&url).unwrap(), shown);
            assert_eq!(url.expose(), given);
        }
    }
}
