//! A prediction at *t* knows nothing later than *t*, nothing of the truth it is judged by, and not how many threads made it.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use harbinger_core::{Duration, Timestamp};
use harbinger_tests::server::{harbinger, harbinger_with};

use crate::fleet;

/// Runs the command, which must succeed.
fn run(arguments: &[&str], variables: &[(&str, &str)]) {
    let ended = harbinger_with(arguments, variables).unwrap();
    assert!(ended.status.success(), "{arguments:?}: {} {}", ended.status, String::from_utf8_lossy(&ended.stderr));
}

fn score(bundle: &Path, models: &Path, out: &Path, variables: &[(&str, &str)]) -> String {
    let [bundle, models, out_text] = [bundle, models, out].map(|path| path.to_str().unwrap());
    run(&["score", bundle, "--models", models, "--out", out_text, "--every", "6h"], variables);
    std::fs::read_to_string(out).unwrap()
}

/// A file of a bundle, which may be gzipped.
fn text_of(path: &Path) -> String {
    if path.extension().is_none_or(|ending| ending != "gz") {
        return std::fs::read_to_string(path).unwrap();
    }
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// The file's name without the gzip.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().trim_end_matches(".gz").to_owned()
}

/// Copies a bundle without the rows that are later than `until`, file by file, as text.
fn cut(bundle: &Path, until: Timestamp) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut shorter = 0;
    for entry in std::fs::read_dir(bundle).unwrap() {
        let path = entry.unwrap().path();
        let text = text_of(&path);
        let mut lines = text.lines();
        let header = lines.next().unwrap();
        let timed = header.split(',').next() == Some("ts");
        let known = |line: &&str| !timed || line.split(',').next().unwrap().parse::<Timestamp>().unwrap() <= until;
        let kept: Vec<&str> = std::iter::once(header).chain(lines.filter(known)).collect();
        shorter += usize::from(kept.len() < text.lines().count());
        std::fs::write(folder.path().join(name_of(&path)), kept.join("\n") + "\n").unwrap();
    }
    assert!(shorter >= 3, "only {shorter} files have rows after {until}");
    folder
}

#[test]
fn predictions_know_nothing_later_and_nothing_of_the_truth() {
    let fleet = fleet::small("acme", 2, 30);
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { work.path().join(name) };
    let models = at("model");
    let middle = fleet.bundle.last_time().unwrap() - Duration::from_days(10);
    let until = middle.to_string();
    run(&["train", fleet.argument(), "--until", &until, "--out", models.to_str().unwrap()], &[]);
    let whole = score(fleet.path(), &models, &at("whole.csv"), &[]);

    let cut_at = middle + Duration::from_days(5);
    let before = |text: &str| -> Vec<String> {
        let mut lines = text.lines();
        let header = lines.next().unwrap().to_owned();
        let early = lines.filter(|line| line.split(',').next().unwrap().parse::<Timestamp>().unwrap() <= cut_at);
        std::iter::once(header).chain(early.map(str::to_owned)).collect()
    };
    let shorter = score(cut(fleet.path(), cut_at).path(), &models, &at("cut.csv"), &[]);
    let (expected, found) = (before(&whole), before(&shorter));
    assert!(expected.len() > 1_000 && expected.len() < whole.lines().count());
    let different = expected.iter().zip(&found).find(|(a, b)| a != b);
    assert!(expected == found, "{} rows against {}; first {different:?}", expected.len(), found.len());

    // A model trained until T is the same model when nothing after T is there.
    let trained_on_less = at("model-of-cut");
    let less = cut(fleet.path(), middle);
    let folder = less.path().to_str().unwrap();
    run(&["train", folder, "--until", &until, "--out", trained_on_less.to_str().unwrap()], &[]);
    let file = |folder: &Path| std::fs::read(folder.join("model.json")).unwrap();
    assert!(file(&models) == file(&trained_on_less), "training until {until} saw what came later");

    for threads in ["1", "2"] {
        let again = score(fleet.path(), &models, &at("threads.csv"), &[("RAYON_NUM_THREADS", threads)]);
        assert!(again == whole, "the rows differ with {threads} threads");
    }
    let truth = std::fs::read_dir(fleet.path()).unwrap().map(|entry| entry.unwrap().path());
    let truth: Vec<PathBuf> = truth.filter(|path| name_of(path) == "failures.csv").collect();
    assert_eq!(truth.len(), 1);
    std::fs::remove_file(&truth[0]).unwrap();
    assert!(score(fleet.path(), &models, &at("blind.csv"), &[]) == whole, "the truth was looked at");
}

#[test]
fn anomalies_know_nothing_later_and_not_how_many_threads_found_them() {
    let fleet = fleet::small("acme", 1, 20);
    let last = fleet.bundle.last_time().unwrap();
    let fit_until = (last - Duration::from_days(10)).to_string();
    let out = fleet.path().join("anomalies.out");
    let screen = |bundle: &str, threads: &str| -> Vec<String> {
        let arguments = ["screen", bundle, "--fit-until", &fit_until, "--out", out.to_str().unwrap()];
        run(&arguments, &[("RAYON_NUM_THREADS", threads)]);
        std::fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect()
    };
    let whole = screen(fleet.argument(), "2");
    assert!(whole.len() > 12 * 200 && whole[0] == "ts,device,score,alarm,top_signals", "{} rows", whole.len());
    assert!(whole == screen(fleet.argument(), "1"), "the rows differ with one thread");
    let cut_at = last - Duration::from_days(4);
    let early = |line: &&String| line.split(',').next().unwrap().parse::<Timestamp>().is_ok_and(|ts| ts <= cut_at);
    let expected: Vec<&String> = whole.iter().filter(early).collect();
    let shorter = screen(cut(fleet.path(), cut_at).path().to_str().unwrap(), "2");
    assert!(expected.len() > 12 * 100 && expected == shorter.iter().skip(1).collect::<Vec<_>>());

    // A time for each device, from a file: the one that it does not name is left out.
    let times = fleet.path().join("fit.txt");
    let device = &fleet.bundle.fleet.devices[0].device;
    std::fs::write(&times, format!("device,ts\n{device},{fit_until}\n")).unwrap();
    let arguments =
        ["screen", fleet.argument(), "--fit-until", times.to_str().unwrap(), "--out", out.to_str().unwrap()];
    run(&arguments, &[]);
    let of_one = std::fs::read_to_string(&out).unwrap();
    let own: Vec<&str> =
        whole.iter().map(String::as_str).filter(|line| line.split(',').nth(1) == Some(device.as_str())).collect();
    assert_eq!(of_one.lines().skip(1).collect::<Vec<_>>(), own);
    for (content, complaint) in [
        ("device,ts\nnobody,2026-01-01T00:00:00Z\n", "nobody"),
        ("device,ts\nserver-001,soon\n", "line 2 column ts"),
        ("device\nserver-001\n", "required column \"ts\""),
    ] {
        std::fs::write(&times, content).unwrap();
        let ended = harbinger(&arguments).unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(1) && said.contains(complaint), "{content:?}: {said}");
    }
}

#[test]
fn a_bad_bundle_is_told_with_file_line_and_column() {
    let fleet = fleet::small("acme", 1, 2);
    let zipped = fleet.path().join("telemetry.csv.gz");
    let text = text_of(&zipped);
    std::fs::remove_file(&zipped).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let signal = lines[0].split(',').nth(2).unwrap().to_owned();
    let mut cells: Vec<&str> = lines[6].split(',').collect();
    cells[2] = "warm";
    lines[6] = cells.join(",");
    std::fs::write(fleet.path().join("telemetry.csv"), lines.join("\n")).unwrap();
    let out = fleet.path().join("out");
    let [out, bundle] = [out.to_str().unwrap(), fleet.argument()];
    for arguments in [
        vec!["train", bundle, "--out", out],
        vec!["evaluate", bundle, "--folds", "2"],
        vec!["import", bundle],
        vec!["replay", bundle],
    ] {
        let ended = harbinger(&arguments).unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(&format!("telemetry.csv line 7 column {signal}")), "{arguments:?}: {said}");
        assert!(!Path::new(out).exists(), "something was written");
    }
}
