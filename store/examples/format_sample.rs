//! Writes the sample of the present file format: `cargo run --release -p harbinger-store --example format_sample FILE`.
//!
//! To be run once a format, at its release; the file is kept in `store/tests/formats/` and must open for ever.

use harbinger_store::telemetry::{EmbeddedStore, Options, TelemetryStore};

#[path = "../tests/formats/fill.rs"]
mod fill;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name the file to write")?;
    let store = EmbeddedStore::open(Options::at(path))?;
    fill::fill(&*store).await;
    store.close().await?;
    Ok(())
}
