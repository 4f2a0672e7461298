//! What a request asks for: parameters of the URL, and of a form where it comes by POST, as Grafana sends long ones.

use axum::{
    extract::{Form, FromRequest, Query, Request},
    http::Method,
};
use harbinger_core::Timestamp;

use super::{answer::Failure, evaluate::Steps};

/// Most steps of a range: what a screen can show.
const STEPS_MAX: i64 = 11_000;
/// The latest instant in seconds since 1970, and the longest length: what RFC 3339 can write.
const SECONDS_MAX: f64 = 253_402_207_200.0;

/// Names and values in the order in which they came; those of a form before those of the URL.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let url: Query<Vec<(String, String)>> =
            Query::try_from_uri(request.uri()).map_err(|error| Failure::BadData(error.body_text()))?;
        let mut all = Vec::new();
        if request.method() == Method::POST {
            let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
            all = form.map_err(|error| Failure::BadData(error.body_text()))?.0;
        }
        all.extend(url.0);
        Ok(Self(all))
    }
}

impl Parameters {
    /// The first value of a parameter; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.get(name).ok_or_else(|| invalid(name, "it is missing"))
    }

    /// An instant in milliseconds.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.get(name).map(|text| time(text).ok_or_else(|| not_a(name, text, "timestamp"))).transpose()
    }

    /// A length of time in milliseconds.
    pub(super) fn length(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.get(name).map(|text| length(text).ok_or_else(|| not_a(name, text, "duration"))).transpose()
    }

    /// The steps of a range query.
    pub(super) fn steps(&self) -> Result<Steps, Failure> {
        let instant = |name| self.time(name)?.ok_or_else(|| invalid(name, "it is missing"));
        let (start, end) = (instant("start")?, instant("end")?);
        let step = self.length("step")?.ok_or_else(|| invalid("step", "it is missing"))?;
        if end < start {
            return Err(invalid("end", "end timestamp must not be before start time"));
        }
        if step < 1 {
            return Err(invalid("step", "zero or negative query resolution step widths are not accepted"));
        }
        if (end - start) / step > STEPS_MAX {
            let text = "exceeded maximum resolution of 11,000 points per timeseries: take a longer step";
            return Err(Failure::BadData(text.to_owned()));
        }
        Ok(Steps { start, end, step })
    }

    /// Most items of an answer; 0 is no bound.
    pub(super) fn limit(&self) -> Result<usize, Failure> {
        let text = self.get("limit").unwrap_or("0");
        let limit: usize = text.parse().map_err(|_| not_a("limit", text, "number"))?;
        Ok(if limit == 0 { usize::MAX } else { limit })
    }
}

fn invalid(name: &str, reason: &str) -> Failure {
    Failure::BadData(format!("invalid parameter {name:?}: {reason}"))
}

fn not_a(name: &str, text: &str, kind: &str) -> Failure {
    invalid(name, &format!("cannot parse {text:?} to a valid {kind}"))
}

/// Seconds since 1970, with a fraction or without, or RFC 3339.
fn time(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => millis(seconds),
        Err(_) => text.parse::<Timestamp>().ok().map(Timestamp::millis),
    }
}

/// Seconds, with a fraction or without, or `1h30m`.
fn length(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => millis(seconds),
        Err(_) => promql_parser::util::parse_duration(text).ok().and_then(|length| millis(length.as_secs_f64())),
    }
}

fn millis(seconds: f64) -> Option<i64> {
    (seconds.abs() <= SECONDS_MAX).then(|| (seconds * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_lengths_are_read_as_clients_write_them() {
        let minute = 1_435_781_460_000;
        for text in
            ["1435781460", "1435781460.000", "1.43578146e9", "2015-07-01T20:11:00Z", "2015-07-01T22:11:00+02:00"]
        {
            assert_eq!(time(text), Some(minute), "{text}");
        }
        assert_eq!(time("1435781451.7814"), Some(1_435_781_451_781));
        for text in ["", "yesterday", "NaN", "Inf", "-1e300", "2015-07-01"] {
            assert_eq!(time(text), None, "{text}");
        }
        assert_eq!(
            (length("15"), length("0.5"), length("1h30m"), length("-1")),
            (Some(15_000), Some(500), Some(5_400_000), Some(-1000))
        );
        for text in ["", "5 m", "1e300", "nan", "m"] {
            assert_eq!(length(text), None, "{text}");
        }
    }

    #[test]
    fn steps_are_bounded() {
        let steps = |start: &str, end: &str, step: &str| {
            let of = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            Parameters([("start", start), ("end", end), ("step", step)].map(of).to_vec()).steps()
        };
        assert_eq!(steps("0", "11000", "1").unwrap().count(), 11_001);
        for (start, end, step, says) in [
            ("0", "11001", "1", "11,000"),
            ("1", "0", "1", "before start"),
            ("0", "1", "0", "zero or negative"),
            ("0", "1", "-5", "zero or negative"),
            ("0", "1", "", "missing"),
            ("x", "1", "1", "\"start\": cannot parse \"x\" to a valid timestamp"),
        ] {
            let Err(Failure::BadData(text)) = steps(start, end, step) else { panic!("{says}") };
            assert!(text.contains(says), "{text}");
        }
    }
}
