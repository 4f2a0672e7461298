//! Reading lists page by page.

use std::collections::BTreeMap;

use futures::{Stream, TryStreamExt as _, stream};
use harbinger_core::{DeviceId, Severity, SignalId, Timestamp};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Api, Error};

/// Items of a page: the most that the API gives.
const LIMIT: usize = 10_000;

/// A page of a list.
#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// A reading of one device.
#[derive(Debug, Deserialize)]
pub(crate) struct ReadingItem {
    pub(crate) ts: Timestamp,
    pub(crate) values: BTreeMap<SignalId, f64>,
}

/// A code that a device reported.
#[derive(Debug, Deserialize)]
pub(crate) struct EventItem {
    pub(crate) ts: Timestamp,
    pub(crate) device: DeviceId,
    pub(crate) code: String,
    pub(crate) severity: Severity,
    pub(crate) message: Option<String>,
}

impl Api {
    /// Reads a list page by page, each when it is asked for.
    pub(crate) fn pages<'a, T: DeserializeOwned + Send + 'a>(
        &'a self,
        path: String,
        query: Vec<(&'static str, String)>,
    ) -> impl Stream<Item = Result<Vec<T>, Error>> + Send + 'a {
        let beginning = Some((path, query, None));
        stream::try_unfold(beginning, move |state: Option<(String, Vec<_>, Option<String>)>| async move {
            let Some((path, query, cursor)) = state else { return Ok(None) };
            let place = [("limit", LIMIT.to_string())].into_iter().chain(cursor.map(|cursor| ("cursor", cursor)));
            let asked: Vec<_> = query.iter().cloned().chain(place).collect();
            let Page { items, next_cursor } = self.get(&path, &asked).await?;
            Ok(Some((items, next_cursor.map(|next| (path, query, Some(next))))))
        })
    }

    /// Reads a whole list.
    pub(crate) async fn list<T: DeserializeOwned + Send>(
        &self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<Vec<T>, Error> {
        self.pages(path.to_owned(), query.to_vec()).try_concat().await
    }
}
