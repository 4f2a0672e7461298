//! Pages of `--report`: a template that asks for nothing from elsewhere, what all pages share, and the data as JSON.

use std::path::Path;

use harbinger_bundle::results::write_text;
use serde::Serialize;

/// Where the data go.
const DATA: &str = "HARBINGER_REPORT";
/// Where what all pages look like goes, and what they draw with.
const SHARED: [(&str, &str); 2] =
    [("HARBINGER_STYLE", include_str!("page/style.css")), ("HARBINGER_DRAWING", include_str!("page/drawing.js"))];

/// Writes a page, whole or not at all.
pub(crate) fn write(path: &Path, template: &str, data: &impl Serialize) -> anyhow::Result<()> {
    Ok(write_text(path, &page(template, data)?)?)
}

fn page(template: &str, data: &impl Serialize) -> anyhow::Result<String> {
    // Names come from data: none may end the script element that they lie in.
    let json = serde_json::to_string(data)?.replace('<', "\\u003c");
    let with_shared = SHARED.iter().fold(template.to_owned(), |page, (place, shared)| page.replacen(place, shared, 1));
    Ok(with_shared.replacen(DATA, &json, 1))
}
