//! Walks the README: what it tells a newcomer to type is typed, in order, on a machine where nothing is set up.
//!
//! The rules, all of them:
//! - Walked are the fenced blocks marked `sh`. A block after the line `<!-- not walked: reason -->` is left out, and said so.
//! - The lines of a block are commands, one after the other, by `bash` with unset variables an error; a line that ends in a
//!   backslash goes on in the next. Variables that a line sets are there in all later lines and blocks.
//! - `harbinger run` is started and stays until the end; it must become ready. Every other command must end with success;
//!   for `curl` that is a status below 400 (`fail-with-body` stands in its configuration file).
//! - `make` is passed over: its targets are what runs this test. Any command besides those, `harbinger`, `mosquitto_pub`,
//!   `curl` and the setting of a variable must be in a block that is left out.
//! - The commands stand as they are printed. They run in an empty folder in which `target/release/harbinger` is the binary,
//!   which is also in the path; `../shared` is the public data, and a line that names it is left out where that is absent.
//!   Ports are those of the README; where somebody else listens there, the whole is left out.

use std::{
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harbinger_tests::{
    process::{Process, harbinger_binary},
    shared, workspace_root,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Ports that the README takes for granted.
const PORTS: [u16; 2] = [8080, 1883];

/// A block of commands with the number of its first line.
#[derive(Debug, PartialEq)]
struct Block {
    first_line: usize,
    commands: Vec<String>,
    left_out: Option<String>,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines().enumerate();
    let mut reason = None;
    while let Some((number, line)) = lines.next() {
        if let Some(said) = line.trim().strip_prefix("<!-- not walked:") {
            reason = Some(said.trim_end_matches("-->").trim().to_owned());
        } else if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let left_out = reason.take();
            if language == "sh" {
                let joined = inside.join("\n").replace("\\\n", "");
                let commands = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                blocks.push(Block {
                    first_line: number + 2,
                    commands: commands.map(str::to_owned).collect(),
                    left_out,
                });
            }
        } else if !line.trim().is_empty() {
            reason = None;
        }
    }
    blocks
}

/// The program that a command starts; empty for the setting of a variable.
fn program(command: &str) -> &str {
    let first = command.split_whitespace().next().unwrap_or_default();
    let name = first.split('=').next().unwrap_or_default();
    let sets = first.contains('=') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    if sets { "" } else { first.trim_start_matches("target/release/") }
}

/// The folder that commands run in, and what they share.
struct Walk {
    folder: PathBuf,
    path: String,
    services: Vec<Process>,
}

impl Walk {
    fn begin(root: &Path, data: Option<&Path>) -> Self {
        let binary = harbinger_binary().unwrap();
        let folder = root.join("harbinger");
        std::fs::create_dir_all(folder.join("target/release")).unwrap();
        symlink(&binary, folder.join("target/release/harbinger")).unwrap();
        if let Some(data) = data {
            symlink(data, root.join("shared")).unwrap();
        }
        std::fs::write(root.join(".curlrc"), "fail-with-body\nsilent\nshow-error\n").unwrap();
        std::fs::write(root.join("variables"), "").unwrap();
        let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
        Self { folder, path, services: Vec::new() }
    }

    fn bash(&self, script: &str) -> Command {
        let mut bash = Command::new("bash");
        let root = self.folder.parent().unwrap();
        bash.args(["-c", script]).current_dir(&self.folder).env("PATH", &self.path).env("CURL_HOME", root);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HARBINGER_")) {
            bash.env_remove(name);
        }
        bash
    }

    fn run(&mut self, place: usize, command: &str) {
        let command_line = command.trim_end_matches('&').trim();
        if program(command) == "harbinger" && command.split_whitespace().nth(1) == Some("run") {
            let mut service =
                Process::start(&mut self.bash(&format!("set -eu; . ../variables; exec {command_line}"))).unwrap();
            service.wait_for_line(PATIENCE, |line| (line == "ready").then_some(())).unwrap();
            self.services.push(service);
            return;
        }
        let script = format!("set -aeu; . ../variables; {command}\nexport -p >../variables");
        let ended = self.bash(&script).output().unwrap();
        let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(ended.status.success(), "README block at line {place}: {command}\n{} {said}", ended.status);
    }
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let taken = PORTS.into_iter().find(|&port| TcpListener::bind(("127.0.0.1", port)).is_err());
    if let Some(port) = taken {
        eprintln!("left out: somebody listens on port {port}");
        return;
    }
    for needed in ["curl", "mosquitto_pub"] {
        if Command::new(needed).arg("--help").output().is_err() {
            eprintln!("left out: {needed} is not installed");
            return;
        }
    }
    let root = tempfile::tempdir().unwrap();
    let data = shared("data");
    let mut walk = Walk::begin(root.path(), data.as_ref().and_then(|data| data.parent()));
    let readme = std::fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let mut walked = 0;
    for block in blocks(&readme) {
        if let Some(reason) = block.left_out {
            eprintln!("left out: README block at line {}: {reason}", block.first_line);
            continue;
        }
        for command in &block.commands {
            match program(command) {
                "make" => continue,
                "" | "harbinger" | "mosquitto_pub" | "curl" => {}
                other => panic!("README block at line {}: {other} is neither walked nor left out", block.first_line),
            }
            if command.contains("../shared") && data.is_none() {
                eprintln!("left out: {command}: ../shared is not there");
                continue;
            }
            walk.run(block.first_line, command);
            walked += 1;
        }
    }
    assert!(walked >= 3, "{walked} commands: is this the README?");
}

#[test]
fn blocks_are_found_with_their_marks() {
    let text = "a\n```sh\nmake run   # now\n# a word\nA=1 \\\n  b\n```\n\n<!-- not walked: takes an hour -->\n\n```sh\nx\n```\n```\ny\n```\n";
    let block = |first_line, commands: &[&str], left_out: Option<&str>| Block {
        first_line,
        commands: commands.iter().map(|&command| command.to_owned()).collect(),
        left_out: left_out.map(str::to_owned),
    };
    let expected = [block(3, &["make run   # now", "A=1   b"], None), block(12, &["x"], Some("takes an hour"))];
    assert_eq!(blocks(text), expected);
    let programs = ["KEY=$(harbinger keys)", "target/release/harbinger run", "curl -H 'a=b'"].map(program);
    assert_eq!(programs, ["", "harbinger", "curl"]);
}
