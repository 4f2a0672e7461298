//! The house rules that a machine can check: which crate may use which, where versions stand, how files open, that links lead
//! somewhere. The table of crates is read from `docs/ARCHITECTURE.md`, so that the page cannot say anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use harbinger_tests::{files, manifest, members, workspace_root};

/// Names of public data sets. Code that knows the data it is judged on has learnt nothing.
const DATA_SETS: [&str; 9] =
    ["azure", "backblaze", "cmapss", "c-mapss", "ai4i", "alibaba", "jumpstarter", "skab", "nasa"];

/// Keys of a manifest that hold dependencies.
const DEPENDENCY_TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

/// A path as a reader of the failure would type it.
fn shown(path: &Path) -> String {
    path.strip_prefix(workspace_root()).unwrap_or(path).display().to_string()
}

#[track_caller]
fn assert_none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

fn member_manifests() -> BTreeMap<String, toml::Table> {
    let root = workspace_root();
    let parse = |member: String| {
        let parsed = manifest(&root.join(&member).join("Cargo.toml")).unwrap();
        (member, parsed)
    };
    members().unwrap().into_iter().map(parse).collect()
}

/// Names of the crates in one table of dependencies.
fn dependencies<'a>(manifest: &'a toml::Table, table: &str) -> impl Iterator<Item = (&'a String, &'a toml::Value)> {
    manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten()
}

/// Crates of this workspace, by folder, that one table of dependencies names.
fn edges(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    dependencies(manifest, table).filter_map(|(name, _)| name.strip_prefix("harbinger-")).map(str::to_owned).collect()
}

/// A row of the table of rooms in `docs/ARCHITECTURE.md`: `` | `folder/` | holds | uses | ``.
struct Room {
    folder: String,
    uses: BTreeSet<String>,
    uses_all: bool,
}

fn rooms() -> Vec<Room> {
    let text = read(&workspace_root().join("docs/ARCHITECTURE.md"));
    let rooms: Vec<Room> = text
        .lines()
        .skip_while(|line| !line.starts_with("| folder"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let (&first, &last) = (cells.first().unwrap(), cells.last().unwrap());
            let folder = first.split('`').nth(1).unwrap_or_else(|| panic!("no folder in {line:?}"));
            let uses = last.split(',').map(str::trim).filter(|word| !matches!(*word, "–" | "all")).map(str::to_owned);
            Room { folder: folder.trim_end_matches('/').to_owned(), uses: uses.collect(), uses_all: last == "all" }
        })
        .collect();
    assert!(rooms.len() > 10, "the table of rooms in docs/ARCHITECTURE.md was not found");
    rooms
}

#[test]
fn crates_use_exactly_the_crates_that_the_architecture_says() {
    let manifests = member_manifests();
    let rooms = rooms();
    let every_crate: BTreeSet<String> = manifests.keys().cloned().collect();
    let mut wrong = Vec::new();
    for (member, manifest) in &manifests {
        let Some(room) = rooms.iter().find(|room| room.folder == *member) else {
            wrong.push(format!("{member} is a crate without a row in the table"));
            continue;
        };
        let (used, used_by_tests) = (edges(manifest, "dependencies"), edges(manifest, "dev-dependencies"));
        let allowed = if room.uses_all { &every_crate } else { &room.uses };
        for edge in used.union(&used_by_tests).filter(|edge| !allowed.contains(*edge)) {
            wrong.push(format!("{member} uses {edge}, which the table does not allow"));
        }
        for edge in room.uses.difference(&used) {
            wrong.push(format!("the table says that {member} uses {edge}, but its manifest does not"));
        }
    }
    assert_none(wrong, "crate edges differ from docs/ARCHITECTURE.md");
}

#[test]
fn every_room_of_the_table_is_furnished() {
    let empty = |room: &Room| {
        let folder = workspace_root().join(&room.folder);
        !folder.is_dir() || files(&folder, "").unwrap().iter().all(|file| read_bytes(file).is_empty())
    };
    assert_none(rooms().iter().filter(|room| empty(room)).map(|room| room.folder.clone()).collect(), "empty folders");
}

fn read_bytes(path: &Path) -> Vec<u8> {
    fs_err::read(path).unwrap()
}

fn sources() -> Vec<PathBuf> {
    let root = workspace_root();
    members().unwrap().iter().flat_map(|member| files(&root.join(member), ".rs").unwrap()).collect()
}

#[test]
fn every_source_file_opens_by_saying_what_it_is() {
    let says = |path: &PathBuf| {
        let text = read(path);
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_some_and(|words| words.split_whitespace().count() >= 3)
    };
    let silent = sources().iter().filter(|path| !says(path)).map(|path| shown(path)).collect();
    assert_none(silent, "the first line of a source file is `//!` and at least three words");
}

#[test]
fn versions_stand_only_in_the_root_manifest() {
    let mut wrong = Vec::new();
    for (member, manifest) in member_manifests() {
        for table in DEPENDENCY_TABLES {
            for (name, entry) in dependencies(&manifest, table) {
                let inherited = entry.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                if !inherited {
                    wrong.push(format!("{member}/Cargo.toml [{table}] {name}"));
                }
            }
        }
        if manifest.contains_key("target") {
            wrong.push(format!("{member}/Cargo.toml has dependencies by target, which this test does not read"));
        }
    }
    assert_none(wrong, "write `name.workspace = true` and the version in [workspace.dependencies]");
}

#[test]
fn every_dependency_of_the_workspace_is_used_by_a_crate() {
    let root = manifest(&workspace_root().join("Cargo.toml")).unwrap();
    let named: BTreeSet<String> = member_manifests()
        .values()
        .flat_map(|manifest| {
            DEPENDENCY_TABLES
                .map(|table| dependencies(manifest, table).map(|(name, _)| name.clone()).collect::<Vec<_>>())
        })
        .flatten()
        .collect();
    let listed = root["workspace"]["dependencies"].as_table().unwrap().keys();
    let unused = listed.filter(|name| !named.contains(*name) && !name.starts_with("harbinger-")).cloned().collect();
    assert_none(unused, "listed in [workspace.dependencies] and used nowhere");
}

#[test]
fn every_crate_follows_the_lints_of_the_workspace() {
    let follows = |manifest: &toml::Table| {
        manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool()) == Some(true)
    };
    let deaf = member_manifests().into_iter().filter(|(_, manifest)| !follows(manifest)).map(|(member, _)| member);
    assert_none(deaf.collect(), "write `[lints] workspace = true`");
}

#[test]
fn product_code_names_no_data_set() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| path.components().any(|part| part.as_os_str() == "src")) {
        let text = read(path).to_lowercase();
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        let tests_crate = shown(path).starts_with("tests/");
        for name in DATA_SETS.iter().filter(|name| !tests_crate && product.contains(*name)) {
            wrong.push(format!("{}: {name}", shown(path)));
        }
    }
    assert_none(wrong, "no data set is named in code");
}

/// Targets of the links `[text](target)` in a page, code blocks left out.
fn links(markdown: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            links.extend(rest.split_once(')').map(|(target, _)| target.to_owned()));
        }
    }
    links
}

#[test]
fn links_in_the_documents_lead_to_files() {
    let root = workspace_root();
    let mut pages = files(&root.join("docs"), ".md").unwrap();
    pages.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|page| root.join(page)));
    let mut wrong = Vec::new();
    for page in &pages {
        for link in links(&read(page)) {
            let elsewhere = ["http://", "https://", "mailto:", "#"].iter().any(|start| link.starts_with(start));
            let target = link.split('#').next().unwrap_or_default();
            if !elsewhere && !page.parent().unwrap().join(target).exists() {
                wrong.push(format!("{}: {link}", shown(page)));
            }
        }
    }
    assert_none(wrong, "dead links");
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let pages = files(&workspace_root().join("docs/adr"), ".md").unwrap();
    let numbers: Vec<String> =
        pages.iter().map(|page| page.file_name().unwrap().to_string_lossy().chars().take(4).collect()).collect();
    let expected: Vec<String> = (0..numbers.len()).map(|n| format!("{n:03}-")).collect();
    assert_eq!(numbers, expected);
}

/// Words of a text that follow `before`, each up to the first character that `of` refuses.
fn words_after<'a>(text: &'a str, before: &str, of: impl Fn(char) -> bool) -> BTreeSet<&'a str> {
    let cut = |rest: &'a str| rest.split(|c| !of(c)).next().unwrap_or_default();
    text.split(before).skip(1).map(cut).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_make_target_that_a_page_names_exists() {
    let root = workspace_root();
    let makefile = read(&root.join("Makefile"));
    let mut pages = files(&root.join("docs"), ".md").unwrap();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(|page| root.join(page)));
    let mut wrong = Vec::new();
    for page in pages {
        let text = read(&page).replace("\nmake ", "`make ");
        for target in words_after(&text, "`make ", |c| c.is_ascii_lowercase()) {
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                wrong.push(format!("{}: make {target}", shown(&page)));
            }
        }
    }
    assert_none(wrong, "no such target in the Makefile");
}

#[test]
fn deployment_files_name_the_version_of_the_workspace() {
    let root = workspace_root();
    let version = manifest(&root.join("Cargo.toml")).unwrap()["workspace"]["package"]["version"].clone();
    let version = version.as_str().unwrap();
    let places = [
        ("deploy/helm/harbinger/Chart.yaml", format!("\nappVersion: \"{version}\"\n")),
        ("deploy/compose.yaml", format!("image: harbinger:{version}\n")),
    ];
    let stale = places.into_iter().filter(|(file, expected)| !read(&root.join(file)).contains(expected));
    assert_none(stale.map(|(file, expected)| format!("{file}: {}", expected.trim())).collect(), "expected in the file");
}

/// A counter is shown with `_total`, which its registration leaves out; a crate may register below a common prefix.
#[test]
fn the_dashboard_asks_only_for_metrics_that_are_registered() {
    let root = workspace_root();
    let dashboard = read(&root.join("deploy/grafana/dashboards/harbinger.json"));
    let code: String =
        sources().iter().filter(|path| path.ends_with("src/metrics.rs")).map(|path| read(path)).collect();
    let registered = |metric: &str| {
        let name = metric.trim_end_matches("_total");
        let below_prefix = name.split_once('_').is_some_and(|(area, rest)| {
            code.contains(&format!("\"harbinger_{area}\"")) && code.contains(&format!("\"{rest}\""))
        });
        below_prefix || code.contains(&format!("\"harbinger_{name}\""))
    };
    let metrics = words_after(&dashboard, "harbinger_", |c| c.is_ascii_lowercase() || c == '_');
    assert!(metrics.len() > 4, "the dashboard's metrics were not found");
    let unknown = metrics.into_iter().filter(|metric| !registered(metric)).map(|metric| format!("harbinger_{metric}"));
    assert_none(unknown.collect(), "not registered in any metrics.rs");
}
