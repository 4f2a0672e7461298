//! The live stream: the feed of changes as server-sent events.
//!
//! An event's id is its place in the feed, so `Last-Event-ID` resumes without loss or repeat. The stream reads the ledger
//! in pages; between them it waits for news, and looks by itself twice a second.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use harbinger_core::{TenantId, Timestamp};
use harbinger_store::ledger::changes::{self, Change};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Caller, Read},
    errors::{Code, Error, Result},
    extract::Query,
    metrics::GaugeGuard,
    state::ApiState,
};

/// A comment is sent this often while nothing happens, so that proxies and readers know that the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The stream looks for changes at least this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Changes read at once.
const PAGE: u32 = 500;

/// Where the stream begins.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    /// Begin behind this place in the feed, 0 for everything that is kept; with what happens next unless told. The header
    /// `Last-Event-ID` wins.
    after: Option<i64>,
}

/// What the data of an event is.
#[derive(Debug, Serialize, ToSchema)]
struct ChangeView {
    /// Its place in the feed.
    seq: i64,
    /// What happened, as `subject.verb`.
    kind: String,
    /// Id of what it happened to.
    subject: String,
    /// Event time.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Wall-clock time.
    #[schema(value_type = String, format = DateTime)]
    at_wall: Timestamp,
    /// What is told of it.
    #[schema(value_type = Object)]
    body: serde_json::Value,
}

/// Everything that happens, as server-sent events: `id` is the place in the feed, `event` the kind, `data` the change. An
/// event `stream.gap` says that what `Last-Event-ID` names is no longer kept
#[utoipa::path(
    get, path = "/stream", tag = "stream",
    params(StreamQuery, ("Last-Event-ID" = Option<i64>, Header, description = "The id of the last event that was seen")),
    security(("key" = ["read"])),
    responses((status = 200, body = ChangeView, content_type = "text/event-stream"))
)]
async fn live(
    caller: Caller<Read>,
    State(state): State<ApiState>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let permit = state.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Error::new(Code::Unavailable, "no more live streams can be opened"))?;
    let mut connection = state.ledger.read().await?;
    let resume = last_event_id(&headers)?.or(query.after);
    let seq = match resume {
        Some(seq) => seq,
        None => changes::latest(&mut connection, &caller.tenant).await?,
    };
    let oldest = changes::oldest(&mut connection, &caller.tenant).await?;
    drop(connection);
    let mut ready = VecDeque::new();
    if seq > 0 && resume.is_some() && oldest.is_some_and(|oldest| seq < oldest) {
        ready.push_back(Event::default().event("stream.gap").data(serde_json::json!({ "after": seq }).to_string()));
    }
    let feed = Feed {
        tenant: caller.tenant,
        seq,
        ready,
        news: state.news.subscribe(),
        _open: state.metrics.stream_guard(),
        _permit: permit,
        state,
    };
    let events = stream::unfold(feed, |mut feed| async move { feed.next().await.map(|event| (Ok(event), feed)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat")))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    parsed.map(Some).ok_or_else(|| Error::new(Code::BadRequest, "Last-Event-ID is no id of this stream"))
}

struct Feed {
    state: ApiState,
    tenant: TenantId,
    /// What has been read up to.
    seq: i64,
    /// What is read and not sent yet.
    ready: VecDeque<Event>,
    news: watch::Receiver<u64>,
    _open: GaugeGuard,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// The next event, when there is one; `None` ends the stream where the ledger fails or the server stops, and the reader
    /// comes back.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.state.streams.is_closed() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.news.mark_unchanged();
            match self.read().await {
                Ok(()) if self.ready.is_empty() => {
                    // Late or never told of news, it looks all the same; a closed channel only means looking by the clock.
                    let _ = tokio::time::timeout(LOOK_EVERY, self.news.changed()).await;
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "a live stream ends because the ledger failed");
                    return None;
                }
            }
        }
    }

    async fn read(&mut self) -> std::result::Result<(), harbinger_store::ledger::Error> {
        let mut connection = self.state.ledger.read().await?;
        for change in changes::after(&mut connection, &self.tenant, self.seq, PAGE).await? {
            self.seq = change.seq;
            self.ready.push_back(event(change));
        }
        Ok(())
    }
}

fn event(change: Change) -> Event {
    let Change { seq, kind, subject, at, at_wall, body } = change;
    let view = ChangeView { seq, kind, subject, at, at_wall, body };
    let data = serde_json::json!(view).to_string();
    Event::default().id(view.seq.to_string()).event(view.kind).data(data)
}

/// The route of the live stream.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(live))
}
