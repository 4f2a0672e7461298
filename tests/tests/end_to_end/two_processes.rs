//! Two processes on one PostgreSQL ledger: whatever both of them could do is done once, and when one dies the other goes on.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use harbinger_tests::{
    http::Client,
    postgres::Postgres,
    server::{Place, SCOPES, Server, until},
};
use serde_json::{Value, json};

use crate::{
    fleet,
    webhooks::{Receiver, create},
};

const PATIENCE: Duration = Duration::from_secs(90);
/// Short, so that the test is; a process that is slow for a few seconds does not lose it.
const LEASE: Duration = Duration::from_secs(6);

fn start(data: &Path, url: &str) -> Server {
    let lease = format!("{}s", LEASE.as_secs());
    let settings = [
        ("LEDGER__URL", url),
        ("LEDGER__LEASE", &lease),
        ("WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("WEBHOOKS__ALLOW_HTTP", "true"),
        ("ANALYTICS__EVERY", "6h"),
    ];
    Server::start(data, &settings).unwrap()
}

/// What the ledger says in a row of one column.
fn number(postgres: &Postgres, query: &str) -> i64 {
    postgres.sql("ledger", query).unwrap().parse().unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// The process that holds a lease; the last part of what the holder calls itself is random, the middle its process id.
fn holder(postgres: &Postgres, lease: &str) -> u32 {
    let asked = format!("SELECT holder FROM leases WHERE name = '{lease}'");
    let name = until(PATIENCE, "a holder", || {
        let name = postgres.sql("ledger", &asked)?;
        Ok((!name.is_empty()).then_some(name))
    });
    name.unwrap().rsplit(':').nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_two_processes_could_both_do_is_done_once_and_the_survivor_goes_on() {
    let Some(postgres) = Postgres::start().unwrap() else { return };
    let url = postgres.database("ledger").unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut servers: Vec<Server> = folders.iter().map(|folder| start(folder.path(), &url)).collect();
    let key = servers[0].key("acme", SCOPES).unwrap();
    let clients: Vec<Client> = servers.iter().map(|server| server.client(&key)).collect();
    let receiver = Receiver::open(TcpListener::bind("127.0.0.1:0").unwrap(), 204);
    create(&clients[0], receiver.address, &[]);

    // The same fleet reports to both, as it would through one telemetry store that both read.
    let bundle = fleet::small("acme", 2, 8);
    thread::scope(|scope| {
        for place in servers.iter().map(|server| -> &Place { server }) {
            scope.spawn(|| fleet::replay(place, &bundle, "acme"));
        }
    });
    one_of_them_scores_and_plans(&postgres, &clients);
    stock_is_booked_once(&clients);
    only_the_holder_plans_on_demand(&postgres, &servers, &clients);
    each_message_arrives_once(&postgres, &receiver);

    let dying = servers.iter().position(|server| server.process.id() == holder(&postgres, "analytics")).unwrap();
    servers[dying].kill().unwrap();
    let died = Instant::now();
    let survivor = 1 - dying;
    for lease in ["analytics", "webhooks"] {
        until(PATIENCE, "the survivor to take over", || {
            Ok((holder(&postgres, lease) == servers[survivor].process.id()).then_some(()))
        })
        .unwrap();
    }
    // A quarter more than the lease is the latest; the rest is for a machine that is busy.
    assert!(died.elapsed() < 3 * LEASE, "{:?}", died.elapsed());

    // It plans, and what it plans is delivered: once, as everything before.
    let planned = until(PATIENCE, "a plan of the survivor", || {
        let answer = clients[survivor].post("/api/v1/plan", &json!({}))?;
        Ok((answer.status < 300).then_some(()))
    });
    planned.unwrap();
    each_message_arrives_once(&postgres, &receiver);
}

fn one_of_them_scores_and_plans(postgres: &Postgres, clients: &[Client]) {
    let scored = "SELECT coalesce(max(value), 0) FROM progress WHERE name = 'scored_until'";
    let last = "SELECT coalesce(max(ts), 0) FROM predictions";
    // Until nothing is left to be scored: the newest step has been and stays the newest.
    let mut seen = (0, Instant::now());
    until(PATIENCE, "the fleet to be scored", || {
        let now = number(postgres, scored);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        Ok((now > 0 && seen.1.elapsed() > Duration::from_secs(5)).then_some(()))
    })
    .unwrap();
    assert_eq!(number(postgres, scored), number(postgres, last));
    let plans = number(postgres, "SELECT count(*) FROM plans");
    assert!(plans > 3, "{plans} plans");
    assert_eq!(number(postgres, "SELECT count(DISTINCT as_of) FROM plans"), plans, "an instant was planned twice");
    let trained = number(postgres, "SELECT count(*) FROM statistical_models");
    assert_eq!(number(postgres, "SELECT count(*) FROM changes WHERE kind = 'model.trained'"), trained);
    assert_eq!(number(postgres, "SELECT count(*) FROM statistical_models WHERE state = 'champion'"), 1);
    // Both say the same of it.
    let [one, other] = [0, 1].map(|which: usize| clients[which].get("/api/v1/plan").unwrap().json().unwrap());
    assert_eq!(one, other);
}

/// Fifty calls at the same time, half to each process: every transfer ships once and is received once.
fn stock_is_booked_once(clients: &[Client]) {
    let proposed = clients[0].items("/api/v1/transfers?state=proposed").unwrap();
    let transfers: Vec<&Value> = proposed.iter().take(5).collect();
    assert!(!transfers.is_empty(), "no transfer was proposed");
    let id = |transfer: &Value| transfer["order_id"].as_str().unwrap().to_owned();
    for transfer in &transfers {
        let answer = clients[0].post(&format!("/api/v1/transfers/{}/approve", id(transfer)), &json!({})).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let level = |transfer: &Value, depot: &str| -> i64 {
        let path = format!("/api/v1/stock?part={}&depot={}", transfer["part"].as_str().unwrap(), depot);
        clients[1].items(&path).unwrap().first().map_or(0, |level| level["on_hand"].as_i64().unwrap())
    };
    let places = ["from", "to"];
    let all = |transfers: &[&Value]| -> BTreeMap<(String, String), i64> {
        let of = |transfer: &&Value| {
            places.map(|place| {
                let depot = transfer[place].as_str().unwrap();
                ((transfer["part"].as_str().unwrap().to_owned(), depot.to_owned()), level(transfer, depot))
            })
        };
        transfers.iter().flat_map(of).collect()
    };
    let mut expected = all(&transfers);
    for step in ["ship", "receive"] {
        let taken: Vec<AtomicU32> = transfers.iter().map(|_| AtomicU32::new(0)).collect();
        thread::scope(|scope| {
            for call in 0..50 {
                let (transfer, client, taken) =
                    (transfers[call % transfers.len()], &clients[call % 2], &taken[call % transfers.len()]);
                scope.spawn(move || {
                    let path = format!("/api/v1/transfers/{}/{step}", id(transfer));
                    match client.post(&path, &json!({})).unwrap().status {
                        200 => taken.fetch_add(1, Ordering::Relaxed),
                        409 => 0,
                        other => panic!("{path}: {other}"),
                    };
                });
            }
        });
        assert!(taken.iter().all(|times| times.load(Ordering::Relaxed) == 1), "{step}: {taken:?}");
    }
    for transfer in &transfers {
        let quantity = transfer["quantity"].as_i64().unwrap();
        for (place, change) in places.iter().zip([-quantity, quantity]) {
            let slot = (transfer["part"].as_str().unwrap().to_owned(), transfer[place].as_str().unwrap().to_owned());
            *expected.get_mut(&slot).unwrap() += change;
        }
        let path = format!("/api/v1/stock/movements?part={}", transfer["part"].as_str().unwrap());
        let movements = clients[0].items(&path).unwrap();
        let booked = movements.iter().filter(|movement| movement["reference"] == id(transfer).as_str()).count();
        assert_eq!(booked, 2, "{} is booked once out and once in", id(transfer));
    }
    assert_eq!(all(&transfers), expected);
}

fn only_the_holder_plans_on_demand(postgres: &Postgres, servers: &[Server], clients: &[Client]) {
    let planner = holder(postgres, "analytics");
    for (server, client) in servers.iter().zip(clients) {
        let answer = client.post("/api/v1/plan", &json!({})).unwrap();
        if server.process.id() == planner {
            assert!(answer.status < 300, "{}: {}", answer.status, answer.text());
        } else {
            assert_eq!(answer.status, 409, "{}", answer.text());
            assert!(answer.text().contains(&format!(":{planner}:")), "it does not say whom to ask: {}", answer.text());
        }
    }
}

/// Everything that was put into the outbox has arrived, and nothing twice.
fn each_message_arrives_once(postgres: &Postgres, receiver: &Receiver) {
    until(PATIENCE, "the outbox to be empty", || {
        Ok((number(postgres, "SELECT count(*) FROM deliveries WHERE state <> 'delivered'") == 0).then_some(()))
    })
    .unwrap();
    let owed = postgres.sql("ledger", "SELECT message_id FROM deliveries ORDER BY message_id").unwrap();
    let mut arrived: Vec<String> =
        receiver.received().iter().map(|received| received.header("webhook-id").to_owned()).collect();
    arrived.sort();
    assert!(arrived.len() > 5, "{} messages", arrived.len());
    assert_eq!(arrived, owed.lines().collect::<Vec<_>>());
    assert_eq!(number(postgres, "SELECT max(attempts) FROM deliveries"), 1);
}
