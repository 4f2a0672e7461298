//! The page of `--report`: a template, and the data of a back-test in it.

use std::path::Path;

use harbinger_analytics::evaluate::{Report, pictures::Pictures};
use serde::Serialize;

use crate::commands::page;

const TEMPLATE: &str = include_str!("report.html");

#[derive(Serialize)]
struct Data<'a> {
    about: &'a str,
    report: &'a Report,
    pictures: &'a Pictures,
}

/// Writes the page, whole or not at all.
///
/// * `about`: what was evaluated, in a line.
pub(super) fn write(path: &Path, about: &str, report: &Report, pictures: &Pictures) -> anyhow::Result<()> {
    page::write(path, TEMPLATE, &Data { about, report, pictures })
}

#[cfg(test)]
mod tests {
    use harbinger_analytics::evaluate::{
        Span, Truth, evaluate,
        pictures::{SignalShare, pictures},
    };
    use harbinger_core::{Duration, Timestamp};

    use super::*;

    #[test]
    fn no_name_ends_the_element_that_holds_the_data() {
        let time = Timestamp::from_millis(0);
        let span = Span { from: time, to: time, horizon: Duration::from_hours(1), rul_cap: None };
        let report = evaluate(&[], &Truth::new(), span);
        let mut made = pictures(&[], &Truth::new(), span, |_| None);
        made.curves.top_signals.push(SignalShare { name: "</script><script>alert(1)".to_owned(), share: 1.0 });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.html");
        write(&file, "<b>", &report, &made).unwrap();
        let page = std::fs::read_to_string(&file).unwrap();
        assert_eq!(page.matches("</script>").count(), TEMPLATE.matches("</script>").count());
        assert!(!page.contains("<b>") && !page.contains("HARBINGER_"));
        let from = page.find("application/json\">").unwrap() + "application/json\">".len();
        let json = &page[from..from + page[from..].find("</script>").unwrap()];
        let data: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(data["pictures"]["top_signals"][0]["name"], "</script><script>alert(1)");
    }
}
