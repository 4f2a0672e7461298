//! Calendars where clocks change: borders against Python's `zoneinfo`, and that buckets tile every range.
//!
//! Borders of the tables: `datetime(y, m, d, tzinfo=ZoneInfo(zone)).astimezone(timezone.utc)`, python 3.11, tzdata 2025b; where
//! midnight does not exist, the first instant of the date that does.

use proptest::prelude::*;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn step(text: &str, zone: &str) -> Step {
    Step::parse(text, &zone.parse().unwrap()).unwrap()
}

#[track_caller]
fn check(text: &str, zone: &str, from: &str, expected: &[(&str, f64)]) {
    let step = step(text, zone);
    let mut border = step.floor(time(from));
    for &(start, hours) in expected {
        assert_eq!(border.to_string(), start, "{text} of {zone}");
        let next = step.after(border);
        assert_eq!(next.hours_since(border), hours, "{text} of {zone} from {start}");
        border = next;
    }
}

#[test]
fn days_have_23_and_25_hours_where_clocks_change() {
    let spring = [("2026-03-27T23:00:00Z", 24.0), ("2026-03-28T23:00:00Z", 23.0), ("2026-03-29T22:00:00Z", 24.0)];
    check("day", "Europe/Berlin", "2026-03-28T12:00:00Z", &spring);
    let autumn = [("2026-10-23T22:00:00Z", 24.0), ("2026-10-24T22:00:00Z", 25.0), ("2026-10-25T23:00:00Z", 24.0)];
    check("day", "Europe/Berlin", "2026-10-23T22:00:00Z", &autumn);
    let spring = [("2026-03-07T05:00:00Z", 24.0), ("2026-03-08T05:00:00Z", 23.0), ("2026-03-09T04:00:00Z", 24.0)];
    check("day", "America/New_York", "2026-03-07T05:00:00Z", &spring);
    let autumn = [("2026-10-31T04:00:00Z", 24.0), ("2026-11-01T04:00:00Z", 25.0), ("2026-11-02T05:00:00Z", 24.0)];
    check("day", "America/New_York", "2026-11-01T03:59:59.999Z", &autumn);
    // Clocks move by half an hour.
    let spring = [("2026-10-02T13:30:00Z", 24.0), ("2026-10-03T13:30:00Z", 23.5), ("2026-10-04T13:00:00Z", 24.0)];
    check("day", "Australia/Lord_Howe", "2026-10-02T13:30:00Z", &spring);
    let autumn = [("2026-04-03T13:00:00Z", 24.0), ("2026-04-04T13:00:00Z", 24.5), ("2026-04-05T13:30:00Z", 24.0)];
    check("day", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", &autumn);
}

#[test]
fn a_day_whose_midnight_is_skipped_begins_when_the_clocks_move() {
    let spring = [("2018-11-03T03:00:00Z", 24.0), ("2018-11-04T03:00:00Z", 23.0), ("2018-11-05T02:00:00Z", 24.0)];
    check("day", "America/Sao_Paulo", "2018-11-03T12:00:00Z", &spring);
    let spring = [("2026-04-22T22:00:00Z", 24.0), ("2026-04-23T22:00:00Z", 23.0), ("2026-04-24T21:00:00Z", 24.0)];
    check("day", "Africa/Cairo", "2026-04-23T00:00:00Z", &spring);
}

#[test]
fn a_date_that_is_skipped_is_no_bucket_and_one_that_comes_twice_is_one() {
    // Samoa crossed the date line: no 30 December 2011.
    let skipped = [("2011-12-29T10:00:00Z", 24.0), ("2011-12-30T10:00:00Z", 24.0), ("2011-12-31T10:00:00Z", 24.0)];
    check("day", "Pacific/Apia", "2011-12-29T10:00:00Z", &skipped);
    // Newfoundland's clocks went back from 00:01 to 23:01: 29 October 2006 began at its first midnight.
    let twice = [("2006-10-28T02:30:00Z", 24.0), ("2006-10-29T02:30:00Z", 25.0), ("2006-10-30T03:30:00Z", 24.0)];
    check("day", "America/St_Johns", "2006-10-28T02:30:00Z", &twice);
    assert_eq!(step("day", "America/St_Johns").floor(time("2006-10-29T03:00:00Z")), time("2006-10-29T02:30:00Z"));
}

#[test]
fn weeks_begin_on_monday_and_months_on_their_first() {
    check("week", "UTC", "2026-01-01T00:00:00Z", &[("2025-12-29T00:00:00Z", 168.0), ("2026-01-05T00:00:00Z", 168.0)]);
    check("week", "Europe/Berlin", "2026-03-29T21:00:00Z", &[("2026-03-22T23:00:00Z", 167.0)]);
    let months = [("2024-01-31T23:00:00Z", 696.0), ("2024-02-29T23:00:00Z", 743.0), ("2024-03-31T22:00:00Z", 720.0)];
    check("month", "Europe/Berlin", "2024-02-15T00:00:00Z", &months);
}

#[test]
fn steps_and_zones_are_read_or_refused_with_what_would_do() {
    for text in ["15m", "24h", "7d", "day", "week", "month"] {
        assert_eq!(step(text, "Europe/Berlin").to_string(), text);
    }
    for text in ["", "0s", "year", "Day", "1", "-1h"] {
        let error = Step::parse(text, &Zone::UTC).unwrap_err();
        assert!(error.to_string().contains("15m"), "{error}");
    }
    assert!("Mars/Olympus".parse::<Zone>().unwrap_err().to_string().contains("Mars/Olympus"));
}

#[test]
fn the_grain_is_what_all_borders_are_multiples_of() {
    let year = TimeRange { from: time("2026-01-01T00:00:00Z"), to: time("2027-01-01T00:00:00Z") };
    let grain = |text, zone| step(text, zone).grain(year).map(|grain| grain.to_string());
    assert_eq!(grain("month", "UTC").as_deref(), Some("24h"));
    assert_eq!(grain("day", "Europe/Berlin").as_deref(), Some("1h"));
    assert_eq!(grain("day", "Asia/Kolkata"), None);
    assert_eq!(grain("day", "Australia/Lord_Howe"), None);
    assert_eq!(grain("6h", "Asia/Kolkata").as_deref(), Some("6h"));
    assert_eq!(grain("90m", "UTC"), None);
}

#[test]
fn the_ends_of_time_end_the_buckets() {
    let all = step("month", "Europe/Berlin").buckets(TimeRange::ALL).count();
    assert!((119_000..120_100).contains(&all), "{all}");
    let last = TimeRange { from: Timestamp::MAX, to: Timestamp::MAX };
    assert_eq!(step("1h", "UTC").buckets(last).count(), 0);
}

const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/St_Johns",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn buckets_tile_the_range_without_gap_or_overlap(
        from in 0i64..2_000_000_000_000, days in 1i64..120, millis in 0i64..86_400_000,
        zone in proptest::sample::select(&ZONES[..]), text in proptest::sample::select(&["day", "week", "month", "7h"][..]),
    ) {
        let step = step(text, zone);
        let range = TimeRange {
            from: Timestamp::from_millis(from),
            to: Timestamp::from_millis(from + days * MILLIS_PER_DAY + millis),
        };
        let buckets: Vec<TimeRange> = step.buckets(range).collect();
        prop_assert!(buckets[0].from <= range.from && range.from < buckets[0].to);
        let last = buckets[buckets.len() - 1];
        prop_assert!(last.from < range.to && range.to <= last.to);
        prop_assert!(buckets.windows(2).all(|pair| pair[0].to == pair[1].from));
        for bucket in &buckets {
            let inside = Timestamp::from_millis((bucket.from.millis() + bucket.to.millis()) / 2);
            prop_assert_eq!(step.floor(inside), bucket.from);
            prop_assert_eq!(step.ceil(inside), bucket.to);
            prop_assert_eq!(step.floor(bucket.from), bucket.from);
        }
    }
}
