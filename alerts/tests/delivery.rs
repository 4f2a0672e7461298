//! Goal: what the outbox holds reaches a real HTTP receiver at least once, signed, on schedule, across a restart, and no
//! receiver delays another. Method: the receiver is an axum server on a port of its own; time is a clock that stands
//! still until the test moves it; where something real must happen first, the test waits for it with a deadline.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration as StdDuration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use harbinger_alerts::{
    Alerts, HysteresisOptions, Metrics,
    webhook::{Deliverer, Guard, Handle, Options, SigningKey, endpoint, sign},
};
use harbinger_core::{Clock, Duration, ManualClock, SystemClock, TenantId, Timestamp};
use harbinger_store::{
    Ledger,
    ledger::{
        changes,
        leases::{Keeper, Lease},
        webhooks::{
            self, Webhook, WebhookState,
            outbox::{self, Delivery, DeliveryState},
        },
    },
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use tokio_util::sync::CancellationToken;

const DEADLINE: StdDuration = StdDuration::from_secs(10);

/// What a receiver got.
#[derive(Debug, Clone)]
struct Received {
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

/// A receiver that answers as it is told: the scripted answers first, then the usual one.
#[derive(Clone)]
struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
    script: Arc<Mutex<VecDeque<(StatusCode, HeaderMap)>>>,
    usual: Arc<Mutex<StatusCode>>,
    /// While set, requests are taken and not answered.
    hung: Arc<tokio::sync::RwLock<()>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://127.0.0.1:{}/hook", listener.local_addr().unwrap().port()),
            received: Arc::default(),
            script: Arc::default(),
            usual: Arc::new(Mutex::new(StatusCode::NO_CONTENT)),
            hung: Arc::default(),
        };
        let app = Router::new().route("/hook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    fn always(&self, status: StatusCode) {
        *self.usual.lock().unwrap() = status;
    }

    fn once(&self, status: StatusCode, headers: HeaderMap) {
        self.script.lock().unwrap().push_back((status, headers));
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> (StatusCode, HeaderMap) {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    receiver.received.lock().unwrap().push(Received {
        id: header(sign::ID_HEADER),
        timestamp: header(sign::TIMESTAMP_HEADER),
        signature: header(sign::SIGNATURE_HEADER),
        body,
    });
    let _answering = receiver.hung.read().await;
    let scripted = receiver.script.lock().unwrap().pop_front();
    scripted.unwrap_or_else(|| (*receiver.usual.lock().unwrap(), HeaderMap::new()))
}

struct World {
    ledger: Ledger,
    clock: Arc<ManualClock>,
    tenant: TenantId,
    alerts: Alerts,
    // Keeps the ledger's folder until the end.
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let ledger = Ledger::open(&path).await.unwrap();
        let clock = Arc::new(ManualClock::new("2026-01-05T08:00:00Z".parse().unwrap()));
        let alerts = Alerts::new(HysteresisOptions::default(), clock.clone(), Metrics::default());
        Self { ledger, clock, tenant: TenantId::parse("acme").unwrap(), alerts, _folder: folder, path }
    }

    fn own_network() -> Guard {
        Guard { allow_private: true, allow_http: true }
    }

    fn deliverer_with(&self, options: Options) -> Deliverer {
        self.deliverer_under(Lease::unshared(), options)
    }

    fn deliverer_under(&self, lease: Lease, options: Options) -> Deliverer {
        let random = ChaCha8Rng::seed_from_u64(7);
        Deliverer::build(options, self.ledger.clone(), lease, self.clock.clone(), random, Metrics::default()).unwrap()
    }

    fn deliverer(&self) -> Deliverer {
        self.deliverer_with(Options { guard: Self::own_network(), ..Options::default() })
    }

    async fn endpoint(&self, url: &str) -> Webhook {
        let guard = Self::own_network();
        let made = endpoint::new(self.tenant.clone(), url, vec![], None, &guard, self.clock.now()).unwrap();
        let mut tx = self.ledger.write().await.unwrap();
        webhooks::insert(&mut tx, &made).await.unwrap();
        tx.commit().await.unwrap();
        made
    }

    /// Publishes one event to all endpoints.
    async fn publish(&self, subject: &str) {
        let mut tx = self.ledger.write().await.unwrap();
        let (at, data) = (self.clock.now(), serde_json::json!({ "id": subject }));
        self.alerts.publish(&mut tx, &self.tenant, "transfer.proposed", subject, at, &data).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn execute(&self, sql: &'static str) {
        let mut tx = self.ledger.write().await.unwrap();
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn deliveries(&self, webhook: &Webhook) -> Vec<Delivery> {
        let mut reader = self.ledger.read().await.unwrap();
        outbox::list(&mut reader, &webhook.webhook_id, None, None, 100).await.unwrap()
    }

    async fn state_of(&self, webhook: &Webhook) -> Webhook {
        webhooks::get(&mut self.ledger.read().await.unwrap(), &self.tenant, &webhook.webhook_id).await.unwrap()
    }

    /// Moves the clock to the next attempt of the only pending delivery, delivers, and says how far it moved.
    async fn next_attempt(&self, webhook: &Webhook, handle: &Handle) -> Duration {
        let due = self.deliveries(webhook).await[0].next_attempt_wall;
        let waited = Duration::from_millis(due.millis() - self.clock.now().millis());
        self.clock.set(due);
        handle.dispatch_all_pending().await.unwrap();
        waited
    }
}

#[track_caller]
fn verify(webhook: &Webhook, received: &Received, now: Timestamp) {
    let key = SigningKey::parse(webhook.secret.expose()).unwrap();
    sign::verify(&key, &received.id, &received.timestamp, &received.signature, &received.body, now).unwrap();
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < DEADLINE, "waited in vain until {what}");
        tokio::time::sleep(StdDuration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_event_arrives_once_signed_and_with_its_body() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    world.publish("trf_1").await;
    let handle = world.deliverer().handle();
    handle.dispatch_all_pending().await.unwrap();
    handle.dispatch_all_pending().await.unwrap();
    let received = receiver.received();
    assert_eq!(received.len(), 1);
    verify(&webhook, &received[0], world.clock.now());
    let body: serde_json::Value = serde_json::from_str(&received[0].body).unwrap();
    assert_eq!((&body["type"], &body["data"]["id"]), (&"transfer.proposed".into(), &"trf_1".into()));
    let delivery = &world.deliveries(&webhook).await[0];
    assert_eq!((delivery.state, delivery.attempts, delivery.last_status), (DeliveryState::Delivered, 1, Some(204)));
    assert_eq!(delivery.message_id, received[0].id);
}

#[tokio::test]
async fn during_a_rotation_receivers_with_either_secret_believe() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let before = world.endpoint(&receiver.url).await;
    let after = endpoint::rotate(&before, world.clock.now()).unwrap();
    let mut tx = world.ledger.write().await.unwrap();
    webhooks::update(&mut tx, &after).await.unwrap();
    tx.commit().await.unwrap();
    world.publish("trf_1").await;
    world.deliverer().handle().dispatch_all_pending().await.unwrap();
    verify(&before, &receiver.received()[0], world.clock.now());
    verify(&after, &receiver.received()[0], world.clock.now());
}

#[tokio::test]
async fn ten_failures_over_three_days_make_a_dead_letter_that_can_be_redelivered() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    receiver.always(StatusCode::INTERNAL_SERVER_ERROR);
    world.publish("trf_1").await;
    let handle = world.deliverer().handle();
    let began = world.clock.now();
    handle.dispatch_all_pending().await.unwrap();
    for expected in &harbinger_alerts::webhook::schedule::DELAYS[1..] {
        let waited = world.next_attempt(&webhook, &handle).await.millis() as f64 / expected.millis() as f64;
        assert!((0.8..=1.2).contains(&waited), "waited {waited} times {expected}");
    }
    let received = receiver.received();
    assert_eq!(received.len(), 10);
    assert!(received.iter().all(|one| one.id == received[0].id), "a repeat is told by its id");
    verify(&webhook, &received[9], world.clock.now());
    let dead = world.deliveries(&webhook).await;
    assert_eq!((dead[0].state, dead[0].attempts, dead[0].last_status), (DeliveryState::Dead, 10, Some(500)));
    assert!(world.clock.now().days_since(began) > 2.5, "{}", world.clock.now());

    receiver.always(StatusCode::OK);
    let mut tx = world.ledger.write().await.unwrap();
    outbox::redeliver(&mut tx, &webhook, &dead[0].delivery_id, world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    handle.dispatch_all_pending().await.unwrap();
    assert_eq!(receiver.received().len(), 11);
    assert_eq!(world.deliveries(&webhook).await[0].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    let headers = HeaderMap::from_iter([(axum::http::header::RETRY_AFTER, "600".parse().unwrap())]);
    receiver.once(StatusCode::TOO_MANY_REQUESTS, headers);
    world.publish("trf_1").await;
    let handle = world.deliverer().handle();
    handle.dispatch_all_pending().await.unwrap();
    assert_eq!(world.next_attempt(&webhook, &handle).await, Duration::from_secs(600));
    assert_eq!(world.deliveries(&webhook).await[0].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn gone_switches_the_endpoint_off_and_its_owner_is_told() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    receiver.always(StatusCode::GONE);
    world.publish("trf_1").await;
    world.publish("trf_2").await;
    world.deliverer().handle().dispatch_all_pending().await.unwrap();
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(world.state_of(&webhook).await.state, WebhookState::Disabled);
    assert!(world.deliveries(&webhook).await.iter().all(|delivery| delivery.state == DeliveryState::Dead));
    let feed = changes::after(&mut world.ledger.read().await.unwrap(), &world.tenant, 0, 10).await.unwrap();
    assert_eq!(feed.last().unwrap().kind, "webhook.disabled");
    assert_eq!(feed.last().unwrap().subject, webhook.webhook_id);
    world.publish("trf_3").await;
    assert_eq!(world.deliveries(&webhook).await.len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_nothing_reaches_for_days_is_switched_off() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    receiver.always(StatusCode::BAD_GATEWAY);
    let handle = world.deliverer().handle();
    // An event a day. The first dies on its fourth day, the endpoint with the one that dies after the fifth.
    for day in 0..10 {
        world.publish(&format!("trf_{day}")).await;
        for _ in 0..24 {
            handle.dispatch_all_pending().await.unwrap();
            world.clock.advance(Duration::from_hours(1));
        }
        let dead = world.deliveries(&webhook).await.iter().any(|delivery| delivery.state == DeliveryState::Dead);
        if day < 3 {
            assert!(!dead && world.state_of(&webhook).await.state == WebhookState::Active, "day {day}");
        }
        if world.state_of(&webhook).await.state == WebhookState::Disabled {
            assert!(day >= 5, "switched off on day {day}");
            return;
        }
    }
    panic!("never switched off");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (world, receiver, elsewhere) = (World::new().await, Receiver::start().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    let headers = HeaderMap::from_iter([(axum::http::header::LOCATION, elsewhere.url.parse().unwrap())]);
    receiver.once(StatusCode::TEMPORARY_REDIRECT, headers);
    world.publish("trf_1").await;
    world.deliverer().handle().dispatch_all_pending().await.unwrap();
    assert!(elsewhere.received().is_empty());
    let delivery = &world.deliveries(&webhook).await[0];
    assert_eq!((delivery.state, delivery.last_status), (DeliveryState::Pending, Some(307)));
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_nobody_else_and_not_the_shutdown() {
    let (world, slow, quick) = (World::new().await, Receiver::start().await, Receiver::start().await);
    let hung = slow.hung.clone().write_owned().await;
    let stuck = world.endpoint(&slow.url).await;
    let down = world.endpoint("http://127.0.0.1:9/").await;
    world.endpoint(&quick.url).await;
    let grace = StdDuration::from_millis(50);
    let deliverer = world.deliverer_with(Options { guard: World::own_network(), grace, ..Options::default() });
    let (handle, shutdown) = (deliverer.handle(), CancellationToken::new());
    let service = tokio::spawn(deliverer.run(shutdown.clone()));
    for n in 0..20 {
        world.publish(&format!("trf_{n}")).await;
        handle.wake();
    }
    until("the quick receiver has all", async || quick.received().len() == 20).await;
    let ids: Vec<String> = quick
        .received()
        .iter()
        .map(|one| {
            serde_json::from_str::<serde_json::Value>(&one.body).unwrap()["data"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids, (0..20).map(|n| format!("trf_{n}")).collect::<Vec<_>>(), "in the order of happening");
    until("the slow receiver has its first", async || !slow.received().is_empty()).await;
    assert_eq!(slow.received().len(), 1, "one request at a time");
    until("the receiver that is down was tried", async || {
        world.deliveries(&down).await.iter().any(|delivery| delivery.attempts > 0 && delivery.last_status.is_none())
    })
    .await;

    shutdown.cancel();
    tokio::time::timeout(DEADLINE, service).await.expect("the service ends").unwrap();
    drop(hung);
    let pending = world.deliveries(&stuck).await;
    assert!(pending.iter().all(|delivery| delivery.state == DeliveryState::Pending && delivery.attempts == 0));
}

#[tokio::test]
async fn a_receiver_that_is_down_is_probed_and_gets_all_once_it_is_back() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    receiver.always(StatusCode::SERVICE_UNAVAILABLE);
    for n in 0..30 {
        world.publish(&format!("trf_{n}")).await;
    }
    let handle = world.deliverer().handle();
    for _ in 0..60 {
        handle.dispatch_all_pending().await.unwrap();
        world.clock.advance(Duration::from_secs(60));
    }
    // In an hour: at once, after 5 s, then one of the thirty every five to six minutes.
    let probes = receiver.received().len();
    assert!((10..=16).contains(&probes), "{probes} probes");
    receiver.always(StatusCode::OK);
    for _ in 0..6 {
        world.clock.advance(Duration::from_secs(60));
        handle.dispatch_all_pending().await.unwrap();
    }
    let delivered = world.deliveries(&webhook).await.iter().filter(|d| d.state == DeliveryState::Delivered).count();
    assert!(delivered >= 25, "{delivered} of thirty; only those with failures of their own wait longer");
    world.clock.advance(Duration::from_hours(3));
    handle.dispatch_all_pending().await.unwrap();
    assert!(world.deliveries(&webhook).await.iter().all(|delivery| delivery.state == DeliveryState::Delivered));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_is_tried_again() {
    let (world, slow) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&slow.url).await;
    let _hung = slow.hung.clone().write_owned().await;
    world.publish("trf_1").await;
    let timeout = StdDuration::from_millis(100);
    let options = Options { guard: World::own_network(), timeout, ..Options::default() };
    world.deliverer_with(options).handle().dispatch_all_pending().await.unwrap();
    let delivery = &world.deliveries(&webhook).await[0];
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Pending, 1));
    assert_eq!(delivery.last_error.as_deref(), Some("no answer within the timeout"));
}

#[tokio::test]
async fn what_was_pending_is_delivered_after_a_restart() {
    let (mut world, receiver) = (World::new().await, Receiver::start().await);
    world.endpoint(&receiver.url).await;
    world.publish("trf_1").await;
    world.ledger.close().await;
    world.ledger = Ledger::open(&world.path).await.unwrap();
    let (deliverer, shutdown) = (world.deliverer(), CancellationToken::new());
    let service = tokio::spawn(deliverer.run(shutdown.clone()));
    until("the event arrived", async || receiver.received().len() == 1).await;
    shutdown.cancel();
    service.await.unwrap();
}

#[tokio::test]
async fn old_deliveries_are_forgotten_and_pending_ones_never() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    world.publish("trf_old").await;
    world.deliverer().handle().dispatch_all_pending().await.unwrap();
    receiver.always(StatusCode::INTERNAL_SERVER_ERROR);
    world.publish("trf_pending").await;
    world.clock.advance(Duration::from_days(31));
    let (deliverer, shutdown) = (world.deliverer(), CancellationToken::new());
    let service = tokio::spawn(deliverer.run(shutdown.clone()));
    until("the old one is forgotten", async || world.deliveries(&webhook).await.len() == 1).await;
    assert_eq!(world.deliveries(&webhook).await[0].state, DeliveryState::Pending);
    shutdown.cancel();
    service.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_sent_again_meanwhile() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.endpoint(&receiver.url).await;
    world.publish("trf_1").await;
    // Stands for a full disk: the ledger can be read and refuses this write.
    world.execute("CREATE TRIGGER refuse BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(ABORT, 'refused'); END").await;
    let poll_interval = StdDuration::from_millis(5);
    let options = Options { guard: World::own_network(), poll_interval, ..Options::default() };
    let (deliverer, shutdown) = (world.deliverer_with(options), CancellationToken::new());
    let handle = deliverer.handle();
    let service = tokio::spawn(deliverer.run(shutdown.clone()));
    until("the event arrived", async || receiver.received().len() == 1).await;
    for _ in 0..20 {
        handle.wake();
        tokio::task::yield_now().await;
    }
    world.execute("DROP TRIGGER refuse").await;
    until("the delivery is recorded", async || world.deliveries(&webhook).await[0].state == DeliveryState::Delivered)
        .await;
    assert_eq!(receiver.received().len(), 1);
    shutdown.cancel();
    service.await.unwrap();
}

#[tokio::test]
async fn private_addresses_are_refused_by_number_and_by_name() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let by_number = world.endpoint(&receiver.url).await;
    let by_name = world.endpoint(&receiver.url.replace("127.0.0.1", "localhost")).await;
    world.publish("trf_1").await;
    let guard = Guard { allow_private: false, allow_http: true };
    world.deliverer_with(Options { guard, ..Options::default() }).handle().dispatch_all_pending().await.unwrap();
    assert!(receiver.received().is_empty());
    for webhook in [by_number, by_name] {
        let delivery = &world.deliveries(&webhook).await[0];
        assert_eq!((delivery.state, delivery.last_status), (DeliveryState::Pending, None));
        assert!(delivery.last_error.as_deref().unwrap().contains("not public"), "{:?}", delivery.last_error);
    }
}

/// Two processes on one ledger: both look at the outbox all the time, and only the one whose lease it is sends.
#[tokio::test]
async fn of_two_deliverers_the_holder_of_the_lease_sends_and_the_other_follows() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    world.endpoint(&receiver.url).await;
    let length = Duration::from_millis(1_200);
    let (mut leases, mut keepers, mut services) = (Vec::new(), Vec::new(), Vec::new());
    let (shutdown, poll_interval, timeout) =
        (CancellationToken::new(), StdDuration::from_millis(5), StdDuration::from_millis(400));
    for holder in ["a", "b"] {
        let (keeper, lease) =
            Keeper::build(world.ledger.clone(), Arc::new(SystemClock), "webhooks", holder.to_owned(), length);
        let options = Options { guard: World::own_network(), poll_interval, timeout, ..Options::default() };
        services.push(tokio::spawn(world.deliverer_under(lease.clone(), options).run(shutdown.clone())));
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(stop.clone().cancelled_owned()));
        leases.push(lease);
        keepers.push((stop, task));
        until("one of them holds", async || leases[0].permit(Duration::ZERO).is_some()).await;
    }
    for n in 0..20 {
        world.publish(&format!("trf_{n}")).await;
    }
    until("all arrived", async || receiver.received().len() >= 20).await;
    assert!(leases[1].permit(Duration::ZERO).is_none());
    // The holder dies without giving anything back.
    keepers[0].1.abort();
    world.publish("trf_after").await;
    until("the last arrived", async || receiver.received().len() >= 21).await;
    until("the other holds", async || leases[1].permit(Duration::ZERO).is_some()).await;
    let ids: std::collections::BTreeSet<String> = receiver.received().into_iter().map(|one| one.id).collect();
    assert_eq!((ids.len(), receiver.received().len()), (21, 21), "each message once");
    shutdown.cancel();
    for service in services {
        service.await.unwrap();
    }
}
