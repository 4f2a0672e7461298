//! The live stream: in order, resumed without loss or repeat.

use std::time::Duration;

use axum::{body::BodyDataStream, http::Method};
use futures::StreamExt as _;
use harbinger_store::ledger::{
    changes::{self, NewChange},
    keys::Scope,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{NOW, World, at, request, tenant};

struct Reader {
    body: BodyDataStream,
    text: String,
}

impl Reader {
    async fn open(world: &World, tenant: &'static str, path: &str, last_event_id: Option<&str>) -> Self {
        let mut sent = request(Method::GET, path, Some(world.key(tenant, Scope::Read)), None);
        if let Some(id) = last_event_id {
            sent.headers_mut().insert("last-event-id", id.parse().unwrap());
        }
        let response = world.app.clone().oneshot(sent).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event: its id, kind and data.
    async fn next(&mut self) -> (String, String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.and_then(|value| value.strip_prefix(':')).unwrap_or_default().trim().to_owned()
                };
                let parsed = (field("id"), field("event"), field("data"));
                self.text = rest.to_owned();
                if !parsed.2.is_empty() {
                    return (parsed.0, parsed.1, serde_json::from_str(&parsed.2).unwrap());
                }
                continue;
            }
            let piece = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await;
            let bytes = piece.expect("an event within 20 s").expect("a stream without end").unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

#[tokio::test]
async fn a_reader_sees_what_happens_and_resumes_where_it_was() {
    let world = World::new().await;
    let mut live = Reader::open(&world, "acme", "/api/v1/stream", None).await;
    world.post(&world.filled("/api/v1/alerts/{alert_id}/acknowledge"), json!({})).await.expect(200);
    let (first_id, kind, data) = live.next().await;
    assert_eq!(kind, "alert.acknowledged");
    assert_eq!(
        (&data["subject"], &data["seq"]),
        (&json!(world.ids["alert_id"]), &json!(first_id.parse::<i64>().unwrap()))
    );
    drop(live);
    world.post(&world.filled("/api/v1/alerts/{alert_id}/start"), json!({})).await.expect(200);
    world.post(&world.filled("/api/v1/transfers/{order_id}/approve"), json!({})).await.expect(200);
    let mut resumed = Reader::open(&world, "acme", "/api/v1/stream", Some(&first_id)).await;
    let (_, second, _) = resumed.next().await;
    let (_, third, data) = resumed.next().await;
    assert_eq!((second.as_str(), third.as_str()), ("alert.in_progress", "transfer.approved"));
    assert_eq!(data["body"]["data"]["state"], "approved");
    let mut whole = Reader::open(&world, "acme", "/api/v1/stream?after=0", None).await;
    assert_eq!(whole.next().await.1, "alert.raised");
}

#[tokio::test]
async fn another_tenants_stream_stays_silent_and_a_gap_is_told() {
    let world = World::new().await;
    let mut other = Reader::open(&world, "globex", "/api/v1/stream?after=0", None).await;
    world.post(&world.filled("/api/v1/alerts/{alert_id}/acknowledge"), json!({})).await.expect(200);
    let mut tx = world.ledger.write().await.unwrap();
    let (globex, now, body) = (tenant("globex"), at(NOW), json!({}));
    let own = NewChange { tenant: &globex, kind: "model.trained", subject: "v1", at: now, at_wall: now, body: &body };
    changes::append(&mut tx, own).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(other.next().await.1, "model.trained", "acme's changes came before it and were not shown");
    let mut tx = world.ledger.write().await.unwrap();
    let raised = changes::oldest(&mut tx, &tenant("acme")).await.unwrap();
    changes::prune(&mut tx, at(i64::MAX)).await.unwrap();
    tx.commit().await.unwrap();
    world.post(&world.filled("/api/v1/alerts/{alert_id}/start"), json!({})).await.expect(200);
    let mut late = Reader::open(&world, "acme", "/api/v1/stream", Some(&raised.unwrap().to_string())).await;
    assert_eq!(late.next().await.1, "stream.gap");
    assert_eq!(late.next().await.1, "alert.in_progress");
}
