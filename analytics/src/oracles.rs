//! Values that independent libraries computed, read from `../shared/oracles` beside the workspace where it is there.
//!
//! Only tests use this. The worked examples stand in the tests themselves too, so leaving a file out loses breadth, not
//! the check.

use std::path::Path;

/// The text of an oracle file; `None`, said on the terminal, where it is not there.
pub(crate) fn text(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracles").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!("left out: {} is not there", path.display());
    }
    text
}

/// The same, parsed.
pub(crate) fn json(name: &str) -> Option<serde_json::Value> {
    text(name).map(|text| serde_json::from_str(&text).expect("oracle files are JSON"))
}
