//! Lists in pages: an opaque keyset cursor, so that a page costs the same wherever it stands and nothing is skipped or
//! shown twice while rows come and go.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::errors::{Code, Error, Result};

/// Items of a page where the caller does not say.
pub const LIMIT_DEFAULT: usize = 100;
/// Most items of a page.
pub const LIMIT_MAX: usize = 10_000;

/// Which page is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Items of a page: 1 to 10,000, 100 unless told.
    #[param(minimum = 1, maximum = 10000, default = 100)]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// How many items are wanted.
    ///
    /// # Errors
    /// [`Code::BadRequest`] outside 1 to [`LIMIT_MAX`].
    pub fn limit(&self) -> Result<usize> {
        match self.limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            limit => Err(Error::new(Code::BadRequest, format!("limit is {limit}, not 1 to {LIMIT_MAX}"))),
        }
    }

    /// The key behind which the page starts; `list` and `parts` say what it must be a cursor of.
    ///
    /// # Errors
    /// [`Code::BadCursor`].
    pub fn after(&self, list: &str, parts: usize) -> Result<Option<Vec<String>>> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let bad = || Error::new(Code::BadCursor, format!("{cursor:?} is no cursor of {list}"));
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
        let mut key: Vec<String> = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if key.len() != parts + 1 || key.first().map(String::as_str) != Some(list) {
            return Err(bad());
        }
        key.remove(0);
        Ok(Some(key))
    }

    /// The same where the key is one text.
    ///
    /// # Errors
    /// [`Code::BadCursor`].
    pub fn after_one(&self, list: &str) -> Result<Option<String>> {
        Ok(self.after(list, 1)?.and_then(|mut key| key.pop()))
    }
}

/// The cursor behind an item of a list.
#[must_use]
pub fn cursor(list: &str, key: &[String]) -> String {
    let parts: Vec<&str> = std::iter::once(list).chain(key.iter().map(String::as_str)).collect();
    URL_SAFE_NO_PAD.encode(serde_json::Value::from(parts).to_string())
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A whole list.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// Makes a page of at most `limit` of `rows`, which were asked for with `limit + 1`: one more says that there is more.
    #[must_use]
    pub fn of<R>(
        mut rows: Vec<R>,
        limit: usize,
        list: &str,
        key: impl Fn(&R) -> Vec<String>,
        view: impl Fn(R) -> T,
    ) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = if more { rows.last().map(|last| cursor(list, &key(last))) } else { None };
        Self { items: rows.into_iter().map(view).collect(), next_cursor }
    }
}

/// What a batch did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Written {
    /// Rows taken: all that were sent, or the request fails and none is.
    pub written: u64,
}

/// A batch of rows: all are taken or none.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Batch<T> {
    /// The rows.
    pub items: Vec<T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(cursor: &str) -> PageQuery {
        PageQuery { limit: None, cursor: Some(cursor.to_owned()) }
    }

    #[test]
    fn a_cursor_is_of_one_list_and_gives_back_its_key() {
        let key = vec!["a\u{1f}\"".to_owned(), "b".to_owned()];
        let text = cursor("signals", &key);
        assert_eq!(query(&text).after("signals", 2).unwrap(), Some(key));
        assert!(query(&text).after("parts", 2).is_err());
        assert!(query(&text).after("signals", 1).is_err());
        assert!(query("!").after("signals", 2).is_err());
        assert_eq!(PageQuery::default().after("signals", 2).unwrap(), None);
    }

    #[test]
    fn the_limit_is_held_to_its_range() {
        let limit = |limit| PageQuery { limit, cursor: None }.limit().ok();
        assert_eq!([limit(None), limit(Some(1)), limit(Some(10_000))], [Some(100), Some(1), Some(10_000)]);
        assert_eq!([limit(Some(0)), limit(Some(10_001))], [None, None]);
    }
}
