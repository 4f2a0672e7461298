//! What long work shows: a bar or a spinner on a terminal, plain lines elsewhere.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Something that is under way until it is dropped or [`Step::done`].
pub(crate) struct Step {
    bar: Option<ProgressBar>,
}

impl Step {
    /// Says what begins.
    pub(crate) fn begin(what: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        if bar.is_hidden() {
            eprintln!("{what} ...");
            return Self { bar: None };
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar: Some(bar) }
    }

    /// Says what came of it.
    pub(crate) fn done(self, what: &str) {
        match &self.bar {
            Some(bar) => bar.finish_with_message(what.to_owned()),
            None => eprintln!("{what}"),
        }
    }
}

/// A bar over a known amount of work.
pub(crate) fn bar(total: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// A known amount of work under way: a bar on a terminal, a line every ten seconds elsewhere.
pub(crate) struct Meter {
    bar: ProgressBar,
    total: u64,
    what: &'static str,
    next_line: Instant,
}

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Meter {
    /// Says what begins.
    pub(crate) fn begin(total: u64, what: &'static str) -> Self {
        Self { bar: bar(total, what), total, what, next_line: Instant::now() + LINE_EVERY }
    }

    /// Says how much is done.
    pub(crate) fn reach(&mut self, position: u64) {
        self.bar.set_position(position);
        if self.bar.is_hidden() && Instant::now() >= self.next_line {
            eprintln!("{}: {position} of {}", self.what, self.total);
            self.next_line = Instant::now() + LINE_EVERY;
        }
    }

    /// Takes the bar away, for the lines that say what came of it.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Does work that tells how much of how much is done.
pub(crate) fn watched<T>(what: &'static str, work: impl FnOnce(&dyn Fn(u64, u64)) -> T) -> T {
    let meter = RefCell::new(None);
    let done = work(&|position, total| {
        meter.borrow_mut().get_or_insert_with(|| Meter::begin(total, what)).reach(position);
    });
    meter.into_inner().iter().for_each(Meter::clear);
    done
}
