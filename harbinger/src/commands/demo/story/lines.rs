//! Lines that wait for their turn, and how times, shares and reasons are written in them.

use harbinger_analytics::failure::TopSignal;
use harbinger_core::Timestamp;

/// Something to tell.
#[derive(Debug)]
struct Line {
    at: Timestamp,
    /// What kind of thing; empty for a block that stands by itself.
    what: &'static str,
    /// What happened, and to which of several.
    head: String,
    items: Vec<String>,
    /// Why, a line each.
    because: Vec<String>,
}

impl Line {
    fn text(&self) -> String {
        let items = self.items.join(", ");
        let mut text = match self.what {
            "" => return format!("\n{items}\n"),
            what => format!("{}  {what:<8}  {}{items}", minute(self.at), self.head),
        };
        for why in &self.because {
            text.push_str(&format!("\n{:28}{why}", ""));
        }
        text
    }
}

/// Lines that wait until their time has come.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// A line: event time, what kind of thing, what.
    pub(super) fn add(&mut self, at: Timestamp, what: &'static str, text: String) {
        self.explain(at, what, text, Vec::new());
    }

    /// A line with reasons under it.
    pub(super) fn explain(&mut self, at: Timestamp, what: &'static str, text: String, because: Vec<String>) {
        self.0.push(Line { at, what, head: String::new(), items: vec![text], because });
    }

    /// One of several things to which the same happened at once: they share a line.
    pub(super) fn gather(&mut self, at: Timestamp, what: &'static str, head: &str, item: String) {
        let shared = |line: &&mut Line| line.at == at && line.what == what && line.head == head && !head.is_empty();
        match self.0.iter_mut().find(shared) {
            Some(line) => line.items.push(item),
            None => {
                let head = head.to_owned();
                self.0.push(Line { at, what, head, items: vec![item], because: Vec::new() });
            }
        }
    }

    /// Lines that stand together, set off from the others.
    pub(super) fn block(&mut self, at: Timestamp, lines: &[String]) {
        let items = vec![lines.join("\n")];
        self.0.push(Line { at, what: "", head: String::new(), items, because: Vec::new() });
    }

    /// Takes out the lines up to `until`, in order of time; of equal times in the order in which they were added.
    fn due(&mut self, until: Timestamp) -> Vec<String> {
        let (mut due, rest): (Vec<Line>, Vec<Line>) = self.0.drain(..).partition(|line| line.at <= until);
        self.0 = rest;
        due.sort_by_key(|line| line.at);
        due.iter().map(Line::text).collect()
    }

    /// Prints the lines up to `until`.
    pub(super) fn print_until(&mut self, until: Timestamp) {
        for text in self.due(until) {
            println!("{text}");
        }
    }
}

/// A time to the minute: `2026-03-04 06:00`.
pub(super) fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..16).map_or(text.clone(), |minute| minute.replace('T', " "))
}

/// A probability as `41 %`.
pub(super) fn percent(probability: f64) -> String {
    format!("{:.0} %", probability * 100.0)
}

/// The `most` strongest reasons, in words.
pub(super) fn reasons(signals: &[TopSignal], most: usize) -> Vec<String> {
    let words = |signal: &TopSignal| match signal.value {
        Some(value) => format!("{}: {}", signal.because, short(value)),
        None => format!("{}: missing", signal.because),
    };
    signals.iter().take(most).map(words).collect()
}

/// A number with as many decimals as its size leaves of interest.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_millis(1_772_582_400_000 + hour * 3_600_000)
    }

    #[test]
    fn lines_wait_for_their_time_and_come_in_its_order() {
        let mut lines = Lines::default();
        lines.add(at(9), "failure", "later".to_owned());
        lines.add(at(6), "risk", "first".to_owned());
        lines.explain(at(6), "alert", "second".to_owned(), vec!["why".to_owned()]);
        assert_eq!(lines.due(at(5)), [""; 0]);
        let why = format!("2026-03-04 06:00  alert     second\n{:28}why", "");
        assert_eq!(lines.due(at(8)), ["2026-03-04 06:00  risk      first", why.as_str()]);
        assert_eq!(lines.due(at(9)), ["2026-03-04 09:00  failure   later"]);
    }

    #[test]
    fn what_happens_to_several_at_once_is_one_line() {
        let mut lines = Lines::default();
        for (hour, item) in [(6, "a"), (6, "b"), (7, "c")] {
            lines.gather(at(hour), "transfer", "received: ", item.to_owned());
        }
        let expected = ["2026-03-04 06:00  transfer  received: a, b", "2026-03-04 07:00  transfer  received: c"];
        assert_eq!(lines.due(at(7)), expected);
    }

    #[test]
    fn reasons_are_few_and_short() {
        let signal = |because: &str, value| TopSignal {
            name: because.to_owned(),
            contribution: 1.0,
            because: because.to_owned(),
            value,
            usual: None,
        };
        let signals = [signal("newest fan_rpm", Some(812.3)), signal("newest x", None), signal("newest y", Some(0.1))];
        assert_eq!(reasons(&signals, 2), ["newest fan_rpm: 812", "newest x: missing"]);
        assert_eq!(reasons(&[], 2), [""; 0]);
        assert_eq!(percent(0.414), "41 %");
    }
}
