//! What lines mean, and that our own writer of remote stores is undone.

use harbinger_core::{DeviceId, DeviceKey, TenantId, Timestamp, history::Readings};
use harbinger_store::telemetry::line_protocol::bodies;
use proptest::prelude::*;

use super::*;
use crate::decode::line_protocol::Lines;

const NOW: i64 = 1_700_000_000_000;

fn context() -> Context {
    let received_at = Timestamp::from_millis(NOW);
    Context { received_at, latest: Timestamp::from_millis(NOW + 1_000), signals_max: 5 }
}

/// Reads lines one after the other as tenant acme; a reading is told as `device@ts signal=value ...`.
fn read(lines: &str, precision: Precision) -> Vec<Result<String, String>> {
    let (context, tags) = (context(), ["host", "device"].map(str::to_owned));
    let mut devices = Devices::of(TenantId::parse("acme").unwrap());
    let mut reader = Reader::new(&tags, precision, &context);
    let lines = Lines::of(lines.as_bytes());
    lines.map(|(_, line)| reader.read(line, &mut devices).map(|point| told(&point))).collect()
}

fn told(point: &Point) -> String {
    let Some((_, reading)) = &point.reading else { return format!("nothing, {} texts", point.texts) };
    let time = if reading.arrival { "arrival".to_owned() } else { reading.ts.millis().to_string() };
    let values: String = reading.values.iter().map(|(signal, value)| format!(" {signal}={value}")).collect();
    format!("{}@{time}{values}", reading.key.device)
}

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(read(line, Precision::Milliseconds), [Ok(expected.to_owned())], "{line}");
}

#[track_caller]
fn check_refused(line: &str, word: &str) {
    let reason = read(line, Precision::Milliseconds).remove(0).unwrap_err();
    assert!(reason.contains(word), "{line}: {reason}");
}

#[test]
fn a_tag_names_the_device_and_the_others_the_signals() {
    check("cpu,host=pump-7 idle=1,busy=2 5", "pump-7@5 cpu_idle=1 cpu_busy=2");
    check("cpu,device=pump-7 idle=1 5", "pump-7@5 cpu_idle=1");
    check("cpu,host=a,cpu=cpu0 idle=1 5", "a@5 cpu_idle;cpu=cpu0=1");
    let disk = "disk,path=/var,host=a,device=sda1,mode=rw free=1i 5";
    check(disk, "a@5 disk_free;device=sda1;mode=rw;path=%2Fvar=1");
    check("a;b,host=h,t=x\\,y\\=z c/d=1 5", "h@5 a%3Bb_c%2Fd;t=x%2Cy%3Dz=1");
}

#[test]
fn our_own_measurement_has_bare_names() {
    check("harbinger,db=plant,tenant=acme,device=press-7 inlet_c=24.5 5", "press-7@5 inlet_c=24.5");
    check("harbinger,device=a%5Cb,host=x a%22=1 5", "a\\b@5 a\";host=x=1");
    check_refused("harbinger,tenant=other,device=a b=1 5", "tenant");
    check_refused("harbinger,host=a b=1 5", "device");
}

#[test]
fn texts_are_left_out_and_counted() {
    check(r#"system,host=a uptime=5i,format="1 day, 2:03" 7"#, "a@7 system_uptime=5");
    check(r#"system,host=a format="1 day" 7"#, "nothing, 1 texts");
}

#[test]
fn a_line_without_a_time_has_the_time_of_its_arrival() {
    check("cpu,host=a b=1", "a@arrival cpu_b=1");
}

#[test]
fn times_are_read_in_the_unit_of_the_request() {
    for (precision, time, millis) in [
        ("", 1_600_000_000_123_999_999_i64, 1_600_000_000_123_i64),
        ("ns", -1, -1),
        ("n", 1_000_000, 1),
        ("us", 1_999, 1),
        ("u", -1_001, -2),
        ("ms", 7, 7),
        ("s", 7, 7_000),
        ("m", 7, 420_000),
        ("h", 7, 25_200_000),
    ] {
        let precision = precision.parse().unwrap();
        assert_eq!(read(&format!("a,host=h b=1 {time}"), precision), [Ok(format!("h@{millis} a_b=1"))]);
    }
    assert!("d".parse::<Precision>().is_err());
    let overflow = read("a,host=h b=1 9223372036854775807", Precision::Hours).remove(0).unwrap_err();
    assert!(overflow.contains("out of range"), "{overflow}");
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_place() {
    check_refused("cpu idle=1 5", "none of the tags host and device");
    check_refused("cpu,host idle=1 5", "name=value");
    check_refused("cpu,host= idle=1 5", "name=value");
    check_refused("cpu,host=a,x=1,x=2 idle=1 5", "x: given twice");
    check_refused(",host=a idle=1 5", "measurement");
    check_refused("cpu,host=a/b idle=1 5", "device id");
    check_refused("cpu,host=a b=1,b=2 5", "cpu_b: given twice");
    check_refused("cpu,host=a b=\"\",b=\"\" 5", "cpu_b: given twice");
    check_refused("cpu,host=a b=1,c=x 5", "field cpu_c: \"x\"");
    check_refused("cpu,host=a a=1,b=1,c=1,d=1,e=1,f=1 5", "more than 5 fields");
    check_refused(&format!("cpu,host=a {}=1 5", "x".repeat(200)), "at most 200");
    check_refused(&format!("cpu,host=a b=1 {}", NOW + 2_000), "future");
    check_refused("cpu,host=a b=1 9223372036854775807", "no time");
}

/// A field that stood in the last line is not looked for: whatever comes after it is still found, and what comes twice too.
#[test]
fn lines_of_one_series_may_differ() {
    let lines = "a,host=h b=1,c=2 1\na,host=h b=1,c=2,d=3 2\na,host=h b=1 3\na,host=h c=2,b=1 4\na,host=h bc=1,c=2 5\n\
         a,host=h bc=1,bc=2 6\na,host=h bc=1,c=2 7";
    let told = read(lines, Precision::Milliseconds);
    let expected = ["h@1 a_b=1 a_c=2", "h@2 a_b=1 a_c=2 a_d=3", "h@3 a_b=1", "h@4 a_c=2 a_b=1", "h@5 a_bc=1 a_c=2"];
    assert_eq!(told[..5], expected.map(|line| Ok(line.to_owned())));
    assert!(told[5].as_ref().unwrap_err().contains("a_bc: given twice"), "{:?}", told[5]);
    assert_eq!(told[6], Ok("h@7 a_bc=1 a_c=2".to_owned()));
}

proptest! {
    /// What our writer writes for another server is, read back, what it was given: any device, any signals, any values.
    #[test]
    fn our_own_writer_is_undone(
        device in "[^/+#\\p{Cc}]{1,12}",
        values in prop::collection::btree_map("[^/+#\\p{Cc}]{1,12}", any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..5),
        millis in -62_135_596_800_000..NOW,
    ) {
        let key = DeviceKey::new(TenantId::parse("acme").unwrap(), DeviceId::parse(&device).unwrap());
        let values: Vec<(SignalId, f64)> =
            values.into_iter().map(|(signal, value)| (SignalId::parse(&signal).unwrap(), value)).collect();
        let mut readings = Readings::default();
        readings.push(Timestamp::from_millis(millis), &values);
        let body = bodies(Some("plant"), &[(key.clone(), readings)], 1 << 20, |_, _| true).concat();

        let context = context();
        let mut devices = Devices::of(key.tenant.clone());
        let mut reader = Reader::new(&[], Precision::Milliseconds, &context);
        let lines: Vec<(usize, &[u8])> = Lines::of(body.as_bytes()).collect();
        prop_assert_eq!(lines.len(), 1);
        let (_, reading) = reader.read(lines[0].1, &mut devices).unwrap().reading.unwrap();
        let mut read = reading.values;
        read.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!((reading.key, reading.ts.millis(), reading.arrival), (key, millis, false));
        prop_assert_eq!(read, values);
    }

    /// No bytes make the reader panic, and no line is lost: each is a point or has a reason.
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(prop_oneof![Just(b' '), Just(b','), Just(b'='), Just(b'"'), Just(b'\\'), Just(b'\n'), any::<u8>()], 0..80)) {
        let (context, tags) = (context(), ["a".to_owned()]);
        let mut devices = Devices::of(TenantId::parse("acme").unwrap());
        let mut reader = Reader::new(&tags, Precision::Nanoseconds, &context);
        for (_, line) in Lines::of(&body) {
            if let Err(reason) = reader.read(line, &mut devices) {
                prop_assert!(!reason.is_empty());
            }
        }
    }
}
