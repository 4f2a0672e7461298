//! Steps of time that a range is cut into: a fixed length, or days, weeks and months as a calendar in some zone counts them.
//!
//! A step is a set of borders. Those of a fixed length are its multiples since 1970; those of a calendar are the first
//! instants of its days, Mondays (ISO 8601) or first days of months in an IANA zone. A day is what lies between two of them:
//! 23 or 25 hours where clocks change, and it begins at 01:00 where they skip midnight. The database of zones is compiled in.

use std::{fmt, str::FromStr};

use jiff::{ToSpan as _, civil::Date, tz::TimeZone};

use crate::time::{Duration, MILLIS_PER_DAY, MILLIS_PER_HOUR, TimeRange, Timestamp};

/// Why a text is no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStep {
    /// Neither a length nor a word of the calendar.
    #[error("{text:?} is no step: take a length such as 15m or 24h, or day, week or month")]
    Text {
        /// What was given.
        text: String,
    },
    /// No zone of that name.
    #[error("{name:?} is no IANA time zone such as Europe/Berlin or UTC")]
    Zone {
        /// What was given.
        name: String,
    },
}

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(TimeZone::UTC);

    fn date(&self, ts: Timestamp) -> Option<Date> {
        let instant = jiff::Timestamp::from_millisecond(ts.millis()).ok()?;
        Some(self.0.to_datetime(instant).date())
    }

    /// The first instant of a date: its midnight, or where clocks skip that, the instant at which they do.
    fn start(&self, date: Date) -> Option<Timestamp> {
        let start = date.to_zoned(self.0.clone()).ok()?;
        Some(Timestamp::from_millis(start.timestamp().as_millisecond()))
    }
}

impl FromStr for Zone {
    type Err = InvalidStep;
    fn from_str(name: &str) -> Result<Self, InvalidStep> {
        TimeZone::get(name).map(Self).map_err(|_| InvalidStep::Zone { name: name.to_owned() })
    }
}

/// What a calendar counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalendarUnit {
    /// From one first instant of a date to the next.
    Day,
    /// From Monday to Monday.
    Week,
    /// From one first of a month to the next.
    Month,
}

impl CalendarUnit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The first date of the unit that holds `date`.
    fn first(self, date: Date) -> Option<Date> {
        match self {
            Self::Day => Some(date),
            Self::Week => date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days()).ok(),
            Self::Month => Some(date.first_of_month()),
        }
    }

    /// The first date of the next unit.
    fn next(self, first: Date) -> Option<Date> {
        let length = match self {
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
        };
        first.checked_add(length).ok()
    }
}

/// What a range is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Buckets of one length, more than zero, whose borders are multiples of it since 1970.
    Fixed(Duration),
    /// Days, weeks or months of a zone.
    Calendar {
        /// Which.
        unit: CalendarUnit,
        /// Where.
        zone: Zone,
    },
}

impl Step {
    /// Reads `15m`, `24h`, or `day`, `week`, `month`, which are those of `zone`.
    ///
    /// # Errors
    /// [`InvalidStep::Text`], also for a length of zero.
    pub fn parse(text: &str, zone: &Zone) -> Result<Self, InvalidStep> {
        let unit =
            [CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month].into_iter().find(|u| u.as_str() == text);
        if let Some(unit) = unit {
            return Ok(Self::Calendar { unit, zone: zone.clone() });
        }
        let length = text.parse().ok().filter(|&length: &Duration| length > Duration::ZERO);
        length.map(Self::Fixed).ok_or_else(|| InvalidStep::Text { text: text.to_owned() })
    }

    /// The last border that is not after `ts`; before the first date of the calendar, [`Timestamp::MIN`].
    #[must_use]
    pub fn floor(&self, ts: Timestamp) -> Timestamp {
        match self {
            Self::Fixed(length) => Timestamp::from_millis(ts.floor_to(*length).millis()),
            Self::Calendar { unit, zone } => {
                let first = zone.date(ts).and_then(|date| unit.first(date));
                let mut border = first.and_then(|date| zone.start(date)).filter(|&b| b <= ts).unwrap_or(Timestamp::MIN);
                // Where clocks go back over midnight, a date comes, ends, and comes again: the later date has begun already.
                loop {
                    match self.after(border) {
                        next if border < next && next <= ts => border = next,
                        _ => return border,
                    }
                }
            }
        }
    }

    /// The first border that is not before `ts`.
    #[must_use]
    pub fn ceil(&self, ts: Timestamp) -> Timestamp {
        let floor = self.floor(ts);
        if floor == ts { ts } else { self.after(floor) }
    }

    /// The border that follows `border`; [`Timestamp::MAX`] at the end of time.
    #[must_use]
    pub fn after(&self, border: Timestamp) -> Timestamp {
        match self {
            Self::Fixed(length) => border + *length,
            Self::Calendar { unit, zone } => {
                let mut first = zone.date(border).and_then(|date| unit.first(date));
                // A date that clocks skip as a whole begins when the next one does: it is no border of its own.
                while let Some(next) = first.and_then(|first| unit.next(first)) {
                    match zone.start(next) {
                        Some(start) if start > border => return start,
                        Some(_) => first = Some(next),
                        None => break,
                    }
                }
                Timestamp::MAX
            }
        }
    }

    /// The buckets that cover `range`, in order: they touch each other, the first holds `range.from`, the last one ends at
    /// or after `range.to`.
    pub fn buckets(&self, range: TimeRange) -> impl Iterator<Item = TimeRange> + use<'_> {
        let mut from = self.floor(range.from);
        std::iter::from_fn(move || {
            let bucket = TimeRange { from, to: self.after(from) };
            from = bucket.to;
            (bucket.from < range.to && bucket.from < bucket.to).then_some(bucket)
        })
    }

    /// About how many buckets cover `range`: exact to some in a hundred, without counting them.
    #[must_use]
    pub fn count(&self, range: TimeRange) -> i64 {
        let length = match self {
            Self::Fixed(length) => length.millis().max(1),
            Self::Calendar { unit: CalendarUnit::Day, .. } => MILLIS_PER_DAY,
            Self::Calendar { unit: CalendarUnit::Week, .. } => 7 * MILLIS_PER_DAY,
            Self::Calendar { unit: CalendarUnit::Month, .. } => 30 * MILLIS_PER_DAY,
        };
        range.to.millis().saturating_sub(range.from.millis()) / length + 1
    }

    /// The longest of a step of its own, a day and an hour of whose multiples since 1970 all borders of the buckets that cover
    /// `range` are; `None` where there is no such: in zones that are half an hour off, and for steps of minutes.
    #[must_use]
    pub fn grain(&self, range: TimeRange) -> Option<Duration> {
        let multiples = |of: i64, ts: Timestamp| ts.millis() % of == 0;
        match self {
            Self::Fixed(length) => (length.millis() % MILLIS_PER_HOUR == 0).then_some(*length),
            Self::Calendar { .. } => {
                let mut borders = self.buckets(range).flat_map(|bucket| [bucket.from, bucket.to]);
                let of_hours = borders.try_fold(true, |of_days, border| {
                    multiples(MILLIS_PER_HOUR, border).then(|| of_days && multiples(MILLIS_PER_DAY, border))
                });
                of_hours.map(|of_days| if of_days { Duration::from_days(1) } else { Duration::from_hours(1) })
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => length.fmt(f),
            Self::Calendar { unit, .. } => f.write_str(unit.as_str()),
        }
    }
}

#[cfg(test)]
mod tests;
