//! Cases of the native dialect, all through one `check`.

use proptest::strategy::Strategy;

use super::*;
use crate::decode::Decoders;

const NOW: &str = "2026-01-31T10:00:00Z";

/// Decodes one message of `topic` and compares, in words: readings `ts[?] signal=value ...` (`?` marks arrival time), events
/// `ts code severity`, `empty`, and problems `! reason` (`!! reason < fragment` for a part).
#[track_caller]
fn check(topic: &str, payload: &str, expected: &[&str]) {
    let now: Timestamp = NOW.parse().unwrap();
    let context = Context { received_at: now, latest: now + harbinger_core::Duration::from_hours(24), signals_max: 4 };
    let (decoder, route) = Decoders::default().route(topic).unwrap();
    let (mut names, mut out) = (Names::default(), Decoded::default());
    // Twice: the second time every name is known and the shape is expected.
    for _ in 0..2 {
        out = Decoded::default();
        decoder.decode(&route, payload.as_bytes(), &context, &mut names, &mut out);
    }
    let mut found = Vec::new();
    for reading in &out.readings {
        assert_eq!(reading.key.to_string(), "acme/d1");
        let values: Vec<String> = reading.values.iter().map(|(signal, value)| format!("{signal}={value}")).collect();
        found.push(format!("{}{} {}", reading.ts, if reading.arrival { "?" } else { "" }, values.join(" ")));
    }
    for event in &out.events {
        found.push(format!("{} {} {} {:?}", event.ts, event.code, event.severity, event.message));
    }
    found.extend((0..out.empty).map(|_| "empty".to_owned()));
    for problem in &out.problems {
        found.push(match &problem.fragment {
            None => format!("! {}", problem.reason),
            Some(fragment) => format!("!! {} < {}", problem.reason, String::from_utf8_lossy(fragment)),
        });
    }
    assert_eq!(found, expected);
}

#[track_caller]
fn telemetry(payload: &str, expected: &[&str]) {
    check("harbinger/v1/acme/d1/telemetry", payload, expected);
}

#[track_caller]
fn events(payload: &str, expected: &[&str]) {
    check("harbinger/v1/acme/d1/events", payload, expected);
}

#[test]
fn a_reading_has_a_time_and_values() {
    telemetry(
        r#"{"ts":"2026-01-31T09:00:00Z","values":{"fan1_rpm":8123,"inlet_c":-24.5}}"#,
        &["2026-01-31T09:00:00Z fan1_rpm=8123 inlet_c=-24.5"],
    );
    telemetry(r#" {"values":{"a":1e3},"ts":1769850000000} "#, &["2026-01-31T09:00:00Z a=1000"]);
}

#[test]
fn without_ts_the_time_of_arrival_stands_in_and_is_marked() {
    telemetry(r#"{"values":{"a":1}}"#, &["2026-01-31T10:00:00Z? a=1"]);
}

#[test]
fn truth_counts_as_zero_or_one_and_null_is_missing() {
    telemetry(r#"{"ts":0,"values":{"a":true,"b":null,"c":false}}"#, &["1970-01-01T00:00:00Z a=1 c=0"]);
    telemetry(r#"{"ts":0,"values":{"a":null}}"#, &["empty"]);
}

#[test]
fn an_array_is_taken_element_by_element() {
    telemetry(
        r#"[{"ts":0,"values":{"a":1}}, {"ts":1,"values":{"a":1,"b":"x"}}, {"ts":2,"values":{"b":2}}]"#,
        &[
            "1970-01-01T00:00:00Z a=1",
            "1970-01-01T00:00:00.002Z b=2",
            r#"!! [1] values.b: the text "x" is no number at line 1 column 31 < {"ts":1,"values":{"a":1,"b":"x"}}"#,
        ],
    );
    telemetry("[]", &["! the array is empty"]);
    telemetry(
        "[7]",
        &["!! [0] invalid type: integer `7`, expected an object with ts and values at line 1 column 1 < 7"],
    );
}

#[test]
fn a_reading_with_one_bad_value_is_refused_whole_with_its_place() {
    telemetry(r#"{"ts":0,"values":{"a":1,"b":{"c":2}}}"#, &["! values.b: an object is no number at line 1 column 29"]);
    telemetry(r#"{"ts":0,"values":{"a":[1]}}"#, &["! values.a: an array is no number at line 1 column 23"]);
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    telemetry(r#"{"ts":0,"values":{"a":NaN}}"#, &["! expected value at line 1 column 23"]);
    telemetry(r#"{"ts":0,"values":{"a":1e999}}"#, &["! number out of range at line 1 column 27"]);
    telemetry(
        r#"[{"ts":0,"values":{"a":1e999}},{"ts":0,"values":{"a":2}}]"#,
        &[
            "1970-01-01T00:00:00Z a=2",
            r#"!! [0] number out of range at line 1 column 27 < {"ts":0,"values":{"a":1e999}}"#,
        ],
    );
}

#[test]
fn a_time_must_be_a_time_and_not_far_ahead() {
    telemetry(r#"{"ts":"2026-02-01T10:00:00Z","values":{"a":1}}"#, &["2026-02-01T10:00:00Z a=1"]);
    telemetry(
        r#"{"ts":"2099-01-01T00:00:00Z","values":{"a":1}}"#,
        &["! ts: 2099-01-01T00:00:00Z is too far in the future (latest taken is 2026-02-01T10:00:00Z); \
           set the device's clock at line 1 column 28"],
    );
    telemetry(
        r#"{"ts":"yesterday","values":{"a":1}}"#,
        &[r#"! ts: "yesterday" is not an RFC 3339 time such as 2026-01-31T10:00:00Z at line 1 column 17"#],
    );
    telemetry(
        r#"{"ts":1.5,"values":{"a":1}}"#,
        &["! invalid type: floating point `1.5`, expected ts: an RFC 3339 time or whole milliseconds since 1970 \
           at line 1 column 9"],
    );
    telemetry(
        r#"{"ts":99999999999999999999,"values":{"a":1}}"#,
        &["! invalid type: floating point `1e+20`, expected ts: an RFC 3339 time or whole milliseconds since 1970 \
           at line 1 column 26"],
    );
    telemetry(
        r#"{"ts":-99999999999999999,"values":{"a":1}}"#,
        &["! ts: -99999999999999999 is no time between the years 1 and 9999 in milliseconds since 1970 \
           at line 1 column 24"],
    );
}

#[test]
fn fields_are_known_and_stand_once() {
    telemetry(
        r#"{"timestamp":0,"values":{"a":1}}"#,
        &["! timestamp: unknown field, known are ts and values at line 1 column 12"],
    );
    telemetry(
        r#"{"device":"d2","values":{"a":1}}"#,
        &["! device: not a field here, the topic names the device at line 1 column 9"],
    );
    telemetry(r#"{"ts":0}"#, &["! values: missing at line 1 column 8"]);
    telemetry(r#"{"ts":0,"values":{}}"#, &["! values: empty at line 1 column 19"]);
    telemetry(r#"{"ts":0,"ts":1,"values":{"a":1}}"#, &["! ts: given twice at line 1 column 12"]);
    telemetry(r#"{"ts":0,"values":{"a":1,"b":2,"a":3}}"#, &["! values.a: given twice at line 1 column 36"]);
}

#[test]
fn signals_have_names_that_ids_allow_and_are_bounded() {
    telemetry(
        r#"{"ts":0,"values":{"a/b":1}}"#,
        &[r#"! values.a/b: signal id "a/b" holds '/', which an MQTT topic cannot carry at line 1 column 23"#],
    );
    telemetry(r#"{"ts":0,"values":{"\u00e9":1}}"#, &["1970-01-01T00:00:00Z é=1"]);
    telemetry(
        r#"{"ts":0,"values":{"a":1,"b":1,"c":1,"d":1,"e":1}}"#,
        &["! values: more than 4 signals in one reading at line 1 column 45"],
    );
}

#[test]
fn what_is_no_json_is_refused_whole() {
    telemetry("", &["! EOF while parsing a value at line 1 column 0"]);
    telemetry(r#"{"ts":0,"values":{"a":1}} x"#, &["! trailing characters at line 1 column 27"]);
    telemetry(r#"[{"ts":0,"values":{"a":1}}"#, &["! EOF while parsing a list at line 1 column 26"]);
    telemetry("\u{1}\u{2}", &["! expected value at line 1 column 1"]);
}

#[test]
fn an_event_has_a_code() {
    events(
        r#"{"ts":0,"code":"E42","severity":"warning","message":"fan slow"}"#,
        &[r#"1970-01-01T00:00:00Z E42 warning Some("fan slow")"#],
    );
    events(
        r#"[{"code":"E42"},{"code":""}]"#,
        &[
            "2026-01-31T10:00:00Z E42 info None",
            r#"!! [1] code: must have 1 to 200 bytes at line 1 column 11 < {"code":""}"#,
        ],
    );
    events(
        r#"{"ts":0,"code":"E42","severity":"bad"}"#,
        &[r#"! severity: "bad" is not a severity: info, warning or critical at line 1 column 38"#],
    );
    events(r#"{"ts":0}"#, &["! code: missing at line 1 column 8"]);
}

#[test]
fn topics_say_tenant_device_and_stream() {
    let route = |topic: &str| Decoders::default().route(topic).map(|(_, route)| route);
    let found = route("harbinger/v1/acme/d1/events").unwrap();
    assert_eq!((found.key.to_string().as_str(), found.stream), ("acme/d1", Stream::Events));
    let unknown = route("plant/line1/temp").unwrap_err();
    assert!(unknown.contains("publish to one of harbinger/v1/+/+/telemetry, harbinger/v1/+/+/events"), "{unknown}");
    assert_eq!(route("harbinger/v1//d1/telemetry").unwrap_err(), "topic: tenant id is empty");
}

proptest::proptest! {
    /// Whatever comes in, nothing panics, and each message is at least one reading, event or problem: none disappears.
    #[test]
    fn no_payload_disappears_or_panics(
        payload in proptest::prop_oneof![
            proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            r#"\[?(\{"(ts|values|code|x)":(0|"1"|null|true|-1e9|\{"(a|b)":(1|\[\]|null|1e400)\})(,"values":\{"a":1\})?\},?){0,3}\]?"#
                .prop_map(String::into_bytes),
        ],
    ) {
        let now: Timestamp = NOW.parse().unwrap();
        let context = Context { received_at: now, latest: now, signals_max: 4 };
        for topic in ["harbinger/v1/acme/d1/telemetry", "harbinger/v1/acme/d1/events"] {
            let (decoder, route) = Decoders::default().route(topic).unwrap();
            let mut out = Decoded::default();
            decoder.decode(&route, &payload, &context, &mut Names::default(), &mut out);
            let found = out.readings.len() + out.events.len() + out.problems.len() + out.empty as usize;
            proptest::prop_assert!(found >= 1);
            proptest::prop_assert!(out.readings.iter().all(|r| r.values.iter().all(|(_, value)| value.is_finite())));
        }
    }
}
