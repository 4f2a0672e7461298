//! `manifest.json`: what a backup holds. It is written last, so a folder without a sound one is no backup.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use anyhow::Context;
use harbinger_core::Timestamp;
use harbinger_store::telemetry::Finding;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The file's name in a backup.
pub(crate) const FILE: &str = "manifest.json";
/// The format that this version writes and reads.
const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The version of Harbinger that wrote it.
    version: String,
    /// When the copying began, wall clock.
    pub(crate) created: Timestamp,
    /// The data folder that was copied.
    source: String,
    /// Every file beside this one.
    pub(crate) files: Vec<CopiedFile>,
    /// How much was copied.
    pub(crate) counts: Counts,
}

/// A file of a backup.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CopiedFile {
    /// Its path inside the backup, with `/` between the levels.
    pub(crate) path: String,
    bytes: u64,
    sha256: String,
}

/// How much a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Rows of the ledger.
    pub(crate) ledger_rows: u64,
    /// Samples in chunks.
    pub(crate) samples: u64,
    /// Group commits that are not in chunks yet.
    pub(crate) log_rows: u64,
    /// Device events.
    pub(crate) events: u64,
    /// Damaged rows of telemetry that stayed behind.
    pub(crate) damaged_rows: u64,
}

impl Manifest {
    /// Of everything in `folder`.
    pub(crate) fn of(folder: &Path, source: &Path, created: Timestamp, counts: Counts) -> io::Result<Self> {
        let mut files = Vec::new();
        list(folder, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let (version, source) = (env!("CARGO_PKG_VERSION").to_owned(), source.display().to_string());
        Ok(Self { format: FORMAT, version, created, source, files, counts })
    }

    /// Writes it into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(fs_err::write(folder.join(FILE), text)?)
    }

    /// Reads that of a backup.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let no_backup = || format!("{} is no backup: it has no sound {FILE}", folder.display());
        let text = fs_err::read(folder.join(FILE)).with_context(no_backup)?;
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let Head { format } = serde_json::from_slice(&text).with_context(no_backup)?;
        anyhow::ensure!(
            format == FORMAT,
            "{} has format {format}, and this version reads {FORMAT}: restore it with the version that wrote it",
            folder.display()
        );
        let manifest: Self = serde_json::from_slice(&text).with_context(no_backup)?;
        let inside = |file: &CopiedFile| file.path.split('/').all(|level| !matches!(level, "" | "." | ".."));
        anyhow::ensure!(manifest.files.iter().all(inside), "{}: a file lies outside of it", no_backup());
        Ok(manifest)
    }

    /// The files of the backup in `folder` that are not what was written.
    pub(crate) fn verify(&self, folder: &Path, progress: &dyn Fn(u64, u64)) -> Vec<Finding> {
        let all = self.files.len() as u64;
        let mut findings = Vec::new();
        for (done, file) in (0..).zip(&self.files) {
            progress(done, all);
            let found = digest(&folder.join(&file.path), &mut io::sink());
            findings.extend(file.judge(folder, found));
        }
        progress(all, all);
        findings
    }
}

impl CopiedFile {
    /// Copies the file from `folder` to `target`, judging the very bytes that are written.
    pub(crate) fn copy(&self, folder: &Path, target: &Path) -> anyhow::Result<()> {
        let path = target.join(&self.path);
        path.parent().map_or(Ok(()), fs_err::create_dir_all)?;
        let found = digest(&folder.join(&self.path), &mut fs_err::File::create(path)?);
        match self.judge(folder, found) {
            None => Ok(()),
            Some(Finding { place, problem, .. }) => anyhow::bail!("{place}: {problem}"),
        }
    }

    fn judge(&self, folder: &Path, found: io::Result<(u64, String)>) -> Option<Finding> {
        let problem = match found {
            Ok(found) if found == (self.bytes, self.sha256.clone()) => return None,
            Ok((bytes, _)) if bytes != self.bytes => format!("it has {bytes} bytes, and {} were written", self.bytes),
            Ok(_) => "its checksum is not that of what was written".to_owned(),
            Err(error) => error.to_string(),
        };
        let place = folder.join(&self.path).display().to_string();
        Some(Finding { place, problem, remedy: "take another backup of the same data".to_owned() })
    }
}

fn list(folder: &Path, inside: &str, files: &mut Vec<CopiedFile>) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{inside}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{path}/"), files)?;
        } else {
            let (bytes, sha256) = digest(&entry.path(), &mut io::sink())?;
            files.push(CopiedFile { path, bytes, sha256 });
        }
    }
    Ok(())
}

/// Bytes and SHA-256 of a file, which is written to `copy` on the way.
fn digest(path: &Path, copy: &mut dyn Write) -> io::Result<(u64, String)> {
    let mut file = fs_err::File::open(path)?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut piece)?;
        let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        copy.write_all(read)?;
        bytes += read.len() as u64;
    }
    Ok((bytes, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(folder: &Path) -> Manifest {
        fs_err::create_dir(folder.join("inner")).unwrap();
        fs_err::write(folder.join("inner/file"), "text").unwrap();
        let manifest = Manifest::of(folder, Path::new("data"), Timestamp::MIN, Counts::default()).unwrap();
        manifest.write(folder).unwrap();
        manifest
    }

    #[test]
    fn a_changed_a_cut_and_a_missing_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        sample(folder.path());
        let problems = || {
            let read = Manifest::read(folder.path()).unwrap();
            read.verify(folder.path(), &|_, _| ()).into_iter().map(|found| found.problem).collect::<Vec<_>>()
        };
        let file = folder.path().join("inner/file");
        assert_eq!(problems(), [""; 0]);
        fs_err::write(&file, "tExt").unwrap();
        assert!(problems()[0].contains("checksum"));
        fs_err::write(&file, "tex").unwrap();
        assert!(problems()[0].contains("3 bytes"));
        fs_err::remove_file(&file).unwrap();
        assert_eq!(problems().len(), 1);
    }

    #[test]
    fn a_folder_without_a_sound_manifest_is_no_backup() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || format!("{:#}", Manifest::read(folder.path()).unwrap_err());
        assert!(refused().contains("is no backup"));
        let manifest = sample(folder.path());
        let path = folder.path().join(FILE);
        let text = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(refused().contains("is no backup"));
        fs_err::write(&path, text.replace("inner/file", "../file")).unwrap();
        assert!(refused().contains("outside"));
        Manifest { format: 9, ..manifest }.write(folder.path()).unwrap();
        assert!(refused().contains("format 9"));
    }
}
