//! What the workspace's own tests share: where the tree is, what is in it, public data that may lie beside it, and real
//! processes under test.

pub mod browser;
pub mod http;
pub mod keep_alive;
pub mod kill_nine;
pub mod mqtt;
pub mod postgres;
pub mod process;
pub mod server;
pub mod victoria_metrics;

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The folder that holds the workspace's `Cargo.toml`.
///
/// # Panics
/// Where this crate is not a folder of the workspace.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("this crate is a folder of the workspace").to_owned()
}

/// A file or folder of public data beside the workspace (`../shared/...`). Where it is absent, says on standard error what
/// is left out, and the caller returns.
#[must_use]
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = workspace_root().join("..").join("shared").join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("left out: {} is not there", found.display());
    None
}

/// A manifest, parsed.
///
/// # Errors
/// Where the file cannot be read or is no TOML.
pub fn manifest(path: &Path) -> anyhow::Result<toml::Table> {
    let text = fs_err::read_to_string(path)?;
    text.parse().with_context(|| format!("failed to parse {}", path.display()))
}

/// The folders of the workspace's member crates, in the order of the manifest.
///
/// # Errors
/// Where the root manifest cannot be read or lists no members.
pub fn members() -> anyhow::Result<Vec<String>> {
    let root = manifest(&workspace_root().join("Cargo.toml"))?;
    let members = root.get("workspace").and_then(|workspace| workspace.get("members")?.as_array());
    let members = members.context("the root manifest lists no members")?;
    Ok(members.iter().filter_map(|member| member.as_str().map(str::to_owned)).collect())
}

/// All files beneath `folder` whose name ends in `ending`, in order of path; build output and hidden folders left out.
///
/// # Errors
/// Where a folder cannot be read.
pub fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && !matches!(name.as_str(), "target" | "node_modules") {
                    folders.push(entry.path());
                }
            } else if name.ends_with(ending) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
