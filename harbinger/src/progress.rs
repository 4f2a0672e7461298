//! What long work shows: a bar or a spinner on a terminal, plain lines elsewhere.

use std::time::Duration;

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
