//! Reading lists page by page.

use std::collections::BTreeMap;

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
    /// Reads a whole list and hands each item to `take` in the list's order.
    pub(crate) async fn each<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut take: impl FnMut(T),
    ) -> Result<(), Error> {
        let mut cursor = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", LIMIT.to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.get(path, &query).await?;
            page.items.into_iter().for_each(&mut take);
            cursor = match page.next_cursor {
                Some(next) => Some(next),
                None => return Ok(()),
            };
        }
    }

    /// Reads a whole list.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        self.each(path, query, |item| items.push(item)).await?;
        Ok(items)
    }
}
