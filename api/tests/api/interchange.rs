//! Tables and steps in CSV: what an ERP or a warehouse system sends and fetches.

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use harbinger_store::ledger::keys::Scope;
use serde_json::{Value, json};

use crate::world::{Answer, World};

async fn send(world: &World, method: Method, path: &str, table: &str) -> Answer {
    let key = world.key("acme", Scope::Operate);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "text/csv; charset=utf-8")
        .header(header::ACCEPT, "text/csv");
    world.send(request.body(Body::from(table.to_owned())).unwrap()).await
}

async fn fetch(world: &World, path: &str) -> Answer {
    let answer = send(world, Method::GET, path, "").await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    answer
}

async fn put(world: &World, path: &str, table: &str) -> Answer {
    send(world, Method::PUT, path, table).await
}

#[tokio::test]
async fn every_table_goes_out_and_comes_back_as_it_was() {
    let world = World::new().await;
    for (list, first) in [
        (
            "parts",
            "part,unit_cost,description,supplier_lead_days,repairable,repair_days,repair_yield,pack_size,minimum_order,successor,\
             shelf_life_days,supplier_lead_days_p95,repair_places",
        ),
        (
            "devices",
            "device,tenant,model,depot,serial,site,contract,installed_at,observed_from,observed_until,moves_to,moves_at",
        ),
        ("depots", "depot,echelon,region,latitude,longitude,timezone,capacity"),
        ("lanes", "from,to,days,days_p95,cost_per_piece,fixed_cost,capacity"),
        ("stock", "part,depot,on_hand,in_transit"),
        ("signals", "model,signal,unit,description,low_limit,high_limit"),
    ] {
        let path = format!("/api/v1/{list}");
        let before = world.get(&path).await.expect(200);
        let table = fetch(&world, &path).await.text;
        assert_eq!(table.lines().next(), Some(first));
        let rows = table.lines().count() - 1;
        assert_eq!(before["items"].as_array().unwrap().len(), rows);
        assert_eq!(put(&world, &path, &table).await.expect(200), json!({ "written": rows }), "{list}");
        assert_eq!(world.get(&path).await.expect(200), before);
    }
    let globex = format!("Bearer {}", world.key("globex", Scope::Admin));
    let request =
        Request::get("/api/v1/parts").header(header::AUTHORIZATION, globex).header(header::ACCEPT, "text/csv");
    let none = world.send(request.body(Body::empty()).unwrap()).await.text;
    assert_eq!(none.lines().count(), 1, "a list without rows is a header: {none}");
}

#[tokio::test]
async fn pages_lead_from_one_to_the_next_by_their_link() {
    let world = World::new().await;
    let parts: String = (0..7).map(|n| format!("p{n},{n}\n")).collect();
    put(&world, "/api/v1/parts", &format!("part,unit_cost\n{parts}")).await.expect(200);
    let (mut path, mut names) = ("/api/v1/parts?limit=3".to_owned(), Vec::new());
    loop {
        let page = fetch(&world, &path).await;
        let rows: Vec<&str> = page.text.lines().skip(1).collect();
        assert!((1..=3).contains(&rows.len()));
        names.extend(rows.iter().map(|row| row.split(',').next().unwrap().to_owned()));
        let Some(link) = page.headers.get(header::LINK) else { break };
        let link = link.to_str().unwrap();
        path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap().to_owned();
    }
    assert_eq!(names, ["fan-part", "p0", "p1", "p2", "p3", "p4", "p5", "p6"]);
}

#[tokio::test]
async fn a_table_is_taken_whole_or_not_at_all_and_its_faults_are_told_by_line_and_column() {
    let world = World::new().await;
    let before = world.get("/api/v1/stock").await.expect(200);
    let faulty = "part,depot,on_hand\nfan-part,hub,9\nfan-part,acme-north,two\nfan-part,,1\n";
    let refused = put(&world, "/api/v1/stock", faulty).await;
    assert_eq!(refused.problem(422), "unprocessable");
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(
        detail.lines().collect::<Vec<_>>(),
        [
            "line 3 column on_hand: \"two\" is not a whole number from 0",
            "line 4: missing field `depot`: its cell is empty or its column is not there; give it a value",
        ]
    );
    let unknown = put(&world, "/api/v1/stock", "part,depot,on_hand\nfan-part,hub,9\nnone,hub,1\n").await;
    assert!(unknown.problem(409) == "conflict" && unknown.text.contains("none"), "{}", unknown.text);
    put(&world, "/api/v1/stock", "part,depot,on_hand,bin\nfan-part,hub,9,A1\n").await.problem(422);
    put(&world, "/api/v1/lanes", "from,to,days\nhub,acme-north,2\nhub,nowhere,2\n").await.problem(409);
    put(&world, "/api/v1/stock", "part,depot,on_hand\nfan-part,hub,9\nfan-part,hub,8\n").await.problem(422);
    assert_eq!(world.get("/api/v1/stock").await.expect(200), before);
    assert_eq!(world.get("/api/v1/lanes").await.expect(200)["items"][0]["days"], 1.5);
    put(&world, "/api/v1/stock", "part,depot,on_hand\nfan-part,hub,9\n").await.expect(200);
    assert_eq!(world.get("/api/v1/stock").await.expect(200)["items"][0]["on_hand"], 9);
}

fn outcomes(answer: &Value) -> Vec<(&str, Option<&str>)> {
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|item| (item["outcome"].as_str().unwrap(), item["state"].as_str())).collect()
}

#[tokio::test]
async fn what_an_erp_did_with_orders_is_taken_once_and_one_refusal_holds_up_nothing() {
    let world = World::new().await;
    let (transfer, purchase) = (&world.ids["transfer"], &world.ids["purchase"]);
    let orders = fetch(&world, "/api/v1/transfers?state=proposed").await.text;
    assert!(orders.starts_with("order_id,kind,plan_id,part,from,to,quantity,state,"), "{orders}");
    assert!(orders.contains(&format!("{transfer},transfer,pln_acme,fan-part,hub,acme-north,2,proposed,100.0,10.0,")));
    let steps = format!(
        "order_id,step,at,quantity\n\
         {transfer},approve,2015-01-02T00:00:00Z,\n\
         {transfer},receive,2015-01-02T00:00:00Z,\n\
         {transfer},ship,2015-01-02T06:00:00Z,\n\
         trf_none,ship,,\n\
         fan-part,ship,,\n\
         {purchase},approve,,\n\
         {transfer},receive,2015-01-03T00:00:00Z,1\n"
    );
    let path = "/api/v1/orders/steps";
    let first = send(&world, Method::POST, path, &steps).await.expect(200);
    let expected = [
        ("done", Some("approved")),
        ("refused", Some("approved")),
        ("done", Some("shipped")),
        ("refused", None),
        ("refused", None),
        ("done", Some("approved")),
        ("done", Some("received")),
    ];
    assert_eq!(outcomes(&first), expected);
    let reason = |place: usize| first["items"][place]["reason"].as_str().unwrap();
    assert!(reason(1).contains("is approved, so it cannot be received"), "{first}");
    assert!(reason(3).contains("trf_none") && reason(4).contains("trf_ or pur_"), "{first}");
    let received = world.get(&format!("/api/v1/transfers/{transfer}")).await.expect(200);
    assert_eq!((&received["received_quantity"], &received["shipped_at"]), (&json!(1), &json!("2015-01-02T06:00:00Z")));
    let stock = world.get("/api/v1/stock").await.expect(200);
    let again = send(&world, Method::POST, path, &steps).await.expect(200);
    let expected = ["already", "already", "already", "refused", "refused", "already", "already"];
    assert_eq!(outcomes(&again).iter().map(|(outcome, _)| *outcome).collect::<Vec<_>>(), expected);
    assert_eq!(world.get("/api/v1/stock").await.expect(200), stock, "a repeat books nothing");
    let deliveries = world.walk(&world.filled("/api/v1/webhooks/{webhook_id}/deliveries"), 100).await;
    let told = deliveries.iter().filter(|delivery| delivery["event_type"] != "alert.raised").count();
    assert_eq!(told, 4, "{deliveries:?}");
}

/// Two deliveries of two pieces, the first told twice; without a note it could be booked twice and is refused.
#[tokio::test]
async fn deliveries_in_parts_are_booked_once_for_each_note() {
    let world = World::new().await;
    let transfer = &world.ids["transfer"];
    let steps = format!(
        "order_id,step,quantity,rest,reference\n\
         {transfer},approve,,,\n\
         {transfer},pick,,,\n\
         {transfer},ship,,,\n\
         {transfer},receive,1,follows,\n\
         {transfer},receive,1,follows,note-1\n\
         {transfer},receive,1,follows,note-1\n\
         {transfer},receive,1,,note-2\n"
    );
    let answer = send(&world, Method::POST, "/api/v1/orders/steps", &steps).await.expect(200);
    let states = ["approved", "picked", "shipped", "", "shipped", "shipped", "received"];
    let expected = ["done", "done", "done", "refused", "done", "already", "done"];
    let told: Vec<(&str, &str)> =
        outcomes(&answer).into_iter().map(|(outcome, state)| (outcome, state.unwrap_or_default())).collect();
    assert_eq!(told, expected.into_iter().zip(states).collect::<Vec<_>>(), "{answer}");
    assert!(answer["items"][3]["reason"].as_str().unwrap().contains("needs its reference"), "{answer}");
    let order = world.get(&format!("/api/v1/transfers/{transfer}")).await.expect(200);
    assert_eq!((&order["quantity"], &order["received_quantity"]), (&json!(2), &json!(2)));
}

/// Every table of the reference is taken as it stands there.
#[tokio::test]
async fn the_tables_of_the_reference_are_taken() {
    let world = World::bare().await;
    let mut taken = Vec::new();
    for block in include_str!("../../../docs/reference/interchange.md").split("```csv ").skip(1) {
        let (name, table) = block.split_once("```").unwrap().0.split_once('\n').unwrap();
        let method = if name == "orders/steps" { Method::POST } else { Method::PUT };
        send(&world, method, &format!("/api/v1/{name}"), table).await.expect(200);
        taken.push(name);
    }
    assert_eq!(taken, ["parts", "depots", "lanes", "stock", "orders/steps"]);
    let stock = world.get("/api/v1/stock?depot=munich").await.expect(200);
    assert_eq!((&stock["items"][0]["on_hand"], &stock["items"][0]["in_transit"]), (&json!(3), &json!(1)));
}

#[tokio::test]
async fn steps_come_as_json_too_and_are_bounded() {
    let world = World::new().await;
    let (path, purchase) = ("/api/v1/orders/steps", &world.ids["purchase"]);
    let step = json!({ "order_id": purchase, "step": "cancel" });
    let answer = world.post(path, json!({ "items": [step, step] })).await.expect(200);
    assert_eq!(outcomes(&answer), [("done", Some("cancelled")), ("already", Some("cancelled"))]);
    let wrong = json!({ "order_id": purchase, "step": "lose" });
    world.post(path, json!({ "items": [step, wrong] })).await.problem(422);
    world.post(path, json!({ "items": vec![step; 1_001] })).await.problem(422);
}
