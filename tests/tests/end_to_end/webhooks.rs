//! Receivers that are down, slow or broken delay nothing but themselves; when they recover they get what they are owed,
//! signed.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use harbinger_tests::{
    http::Client,
    server::{SCOPES, Server, until},
};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};

use crate::fleet;

const PATIENCE: Duration = Duration::from_secs(60);
/// The status of a receiver that answers nothing at all.
const HANG: u16 = 0;

/// What a receiver was sent.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).1
    }
}

/// Somebody's web server.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    status: Arc<AtomicU16>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub(crate) fn open(listener: TcpListener, status: u16) -> Self {
        let address = listener.local_addr().unwrap();
        let (status, received) = (Arc::new(AtomicU16::new(status)), Arc::<Mutex<Vec<Received>>>::default());
        let (answers, log) = (Arc::clone(&status), Arc::clone(&received));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answers, log) = (Arc::clone(&answers), Arc::clone(&log));
                thread::spawn(move || serve(stream, &answers, &log));
            }
        });
        Self { address, status, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, answers: &AtomicU16, log: &Mutex<Vec<Received>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        log.lock().unwrap().push(Received { headers, body: String::from_utf8(body).ok()? });
        match answers.load(Ordering::Relaxed) {
            HANG => {
                // Says nothing until the other side gives up.
                reader.read_line(&mut line).ok()?;
                return None;
            }
            status => write!(&stream, "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n").ok()?,
        }
        line.clear();
    }
    Some(())
}

/// Makes an endpoint that wants these types of events, all of them where there are none; its id and secret.
pub(crate) fn create(client: &Client, address: SocketAddr, event_types: &[&str]) -> (String, String) {
    let url = format!("http://{address}/hook");
    let made = client.post("/api/v1/webhooks", &json!({"url": url, "event_types": event_types})).unwrap();
    let made = made.json().unwrap();
    (made["webhook_id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

/// The receiver's side of the specification, written against it and not against our code.
#[track_caller]
fn assert_signed(received: &Received, secret: &str) {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let signed =
        format!("{}.{}.{}", received.header("webhook-id"), received.header("webhook-timestamp"), received.body);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(signed.as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert!(received.header("webhook-signature").split(' ').any(|own| own == expected), "not signed with this secret");
}

/// A training on demand is an event at the moment the test wants one.
fn train(client: &Client) {
    client.post("/api/v1/models", &Value::Null).unwrap().json().unwrap();
}

#[test]
fn receivers_that_fail_delay_nobody_else_and_get_what_they_are_owed_when_they_recover() {
    let data = tempfile::tempdir().unwrap();
    let settings = [("WEBHOOKS__ALLOW_PRIVATE", "true"), ("WEBHOOKS__ALLOW_HTTP", "true"), ("ANALYTICS__EVERY", "3h")];
    let server = Server::start(data.path(), &settings).unwrap();
    let client = server.client(&server.key("acme", SCOPES).unwrap());
    let bundle = fleet::small("acme", 3, 5);
    fleet::replay(&server, &bundle, "acme");
    let scored = || Ok((!client.items("/api/v1/predictions?latest=true")?.is_empty()).then_some(()));
    until(PATIENCE, "the first predictions", scored).unwrap();

    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let well = Receiver::open(bind(), 204);
    let broken = Receiver::open(bind(), 500);
    let slow = Receiver::open(bind(), HANG);
    let down = bind().local_addr().unwrap();
    let (_, well_secret) = create(&client, well.address, &["model.*"]);
    let (broken_id, broken_secret) = create(&client, broken.address, &["model.*"]);
    let (slow_id, _) = create(&client, slow.address, &["model.*"]);
    let (down_id, down_secret) = create(&client, down, &["model.*"]);

    let began = Instant::now();
    train(&client);
    let arrived = until(PATIENCE, "the delivery to the receiver that is well", || Ok(well.received().pop())).unwrap();
    assert_signed(&arrived, &well_secret);
    let event: Value = serde_json::from_str(&arrived.body).unwrap();
    assert_eq!(event["type"], "model.trained", "{event}");
    until(PATIENCE, "the slow receiver to be busy", || Ok(slow.received().pop())).unwrap();
    // With one receiver hanging, the interface answers as ever: each of these waits for nobody.
    for path in ["/api/v1/alerts", "/api/v1/devices", "/api/v1/plan", "/readyz", "/metrics"] {
        let asked = Instant::now();
        assert!(client.get(path).unwrap().status < 500, "{path}");
        assert!(asked.elapsed() < Duration::from_secs(3), "{path} took {:?}", asked.elapsed());
    }
    train(&client);
    until(PATIENCE, "the second delivery", || Ok((well.received().len() >= 2).then_some(()))).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "the slow receiver's timeout was waited for");

    // They recover: the first retry is due five seconds after the first attempt, give or take a fifth.
    broken.status.store(200, Ordering::Relaxed);
    let up_again = Receiver::open(TcpListener::bind(down).unwrap(), 200);
    for (receiver, secret, id) in [(&broken, &broken_secret, &broken_id), (&up_again, &down_secret, &down_id)] {
        let deliveries = || client.items(&format!("/api/v1/webhooks/{id}/deliveries?state=delivered"));
        let again = |delivery: &Value| delivery["attempts"].as_u64() >= Some(2);
        let look = || Ok(deliveries()?.into_iter().find(again));
        let delivered = until(PATIENCE, "a delivery that failed before", look).unwrap();
        let message = delivered["message_id"].as_str().unwrap();
        let received = receiver.received();
        let own: Vec<_> = received.iter().filter(|received| received.header("webhook-id") == message).collect();
        assert!(!own.is_empty(), "{message} is not among {received:?}");
        own.iter().for_each(|received| assert_signed(received, secret));
        assert!(own.iter().all(|received| received.body == own[0].body), "an attempt changed the message");
    }
    let owed = client.items(&format!("/api/v1/webhooks/{slow_id}/deliveries?state=pending")).unwrap();
    assert!(!owed.is_empty(), "what the slow receiver is owed stays in the outbox");
}
