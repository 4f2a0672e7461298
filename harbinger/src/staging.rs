//! A folder that appears whole or not at all: filled beside its place under another name, synced, then renamed.
//!
//! Whoever is killed on the way leaves a hidden folder `.NAME.partial-XXXXXX`, which nothing takes for what it was to become
//! and which may be deleted.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::TempDir;

/// A folder under way. Dropping it deletes it.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: TempDir,
    target: PathBuf,
}

impl Staged {
    /// Begins the folder that will be `target`, where there must be nothing or an empty folder.
    pub(crate) fn beside(target: &Path) -> anyhow::Result<Self> {
        let in_the_way = match fs_err::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        anyhow::ensure!(!in_the_way, "{} is not empty: give a new folder", target.display());
        let target = std::path::absolute(target)?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            anyhow::bail!("{} cannot be made: give a folder inside it", target.display());
        };
        fs_err::create_dir_all(parent)?;
        let prefix = format!(".{}.partial-", name.to_string_lossy());
        // What the process's umask leaves, as for a folder that is made under its own name.
        let permissions = PermissionsExt::from_mode(0o777);
        let folder = tempfile::Builder::new().prefix(&prefix).permissions(permissions).tempdir_in(parent);
        let folder = folder.with_context(|| format!("failed to begin a folder in {}", parent.display()))?;
        Ok(Self { folder, target })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Syncs all that was written so far, so that nothing is left to [`Staged::keep`] but the name.
    pub(crate) fn sync(&self) -> io::Result<()> {
        sync_tree(self.folder.path())
    }

    /// Syncs all that was written and gives it its name, in one step.
    pub(crate) fn keep(self) -> anyhow::Result<()> {
        self.sync()?;
        fs_err::rename(self.folder.path(), &self.target)?;
        // It has another name now: there is nothing left to delete.
        let _moved = self.folder.keep();
        if let Some(parent) = self.target.parent() {
            fs_err::File::open(parent)?.sync_all()?;
        }
        Ok(())
    }
}

/// Syncs every file and folder in `folder`, and itself.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            fs_err::File::open(entry.path())?.sync_all()?;
        }
    }
    fs_err::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_folder_has_its_name_only_when_it_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("deep/whole");
        let staged = Staged::beside(&target).unwrap();
        fs_err::create_dir(staged.path().join("inner")).unwrap();
        fs_err::write(staged.path().join("inner/file"), "text").unwrap();
        assert!(!target.exists());
        staged.keep().unwrap();
        assert_eq!(fs_err::read_to_string(target.join("inner/file")).unwrap(), "text");
        assert_eq!(names(target.parent().unwrap()), ["whole"]);

        let refused = Staged::beside(&target).unwrap_err().to_string();
        assert!(refused.contains("not empty"), "{refused}");
        drop(Staged::beside(&place.path().join("given up")).unwrap());
        assert_eq!(names(place.path()), ["deep"]);
    }

    #[test]
    fn an_empty_folder_may_be_there_already() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("empty");
        fs_err::create_dir(&target).unwrap();
        let staged = Staged::beside(&target).unwrap();
        fs_err::write(staged.path().join("file"), "text").unwrap();
        staged.keep().unwrap();
        assert_eq!(names(&target), ["file"]);
    }
}
