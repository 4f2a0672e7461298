//! A checksum in every page of a SQLite ledger, verified at every read: SQLite's own
//! [checksum VFS](https://sqlite.org/cksumvfs.html), from `vendor/`.
//!
//! A page that is not what was written answers `SQLITE_IOERR_DATA`: what lies in it is never served, and what lies elsewhere
//! is. The VFS works on files whose header, at byte 20, reserves eight bytes a page; on others it does nothing, and says
//! nothing. So the header's `user_version` tells what a file should be, and one that claims checksums and has none is
//! damaged: no single flipped bit turns verification off.

#![expect(unsafe_code, reason = "registering a VFS is a call into SQLite")]

use std::{
    ffi::{c_char, c_int},
    ptr,
    sync::OnceLock,
};

use libsqlite3_sys as ffi;

use super::Connection;

/// What the VFS calls itself.
pub(super) const VFS: &str = "cksmvfs";

/// `user_version` of a ledger without checksums, from before there were any, and of a new file.
const NONE: i32 = 0;
/// `user_version` while checksums are being put in.
const BEGUN: i32 = 1;
/// `user_version` of a ledger of which every page has its checksum.
const COMPLETE: i32 = 2;

unsafe extern "C" {
    fn sqlite3_register_cksumvfs(unused: *const c_char) -> c_int;
}

/// Makes the VFS known to SQLite, once a process.
pub(super) fn register() {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        // SAFETY: SQLite's calls on its list of VFSs may come from any thread; the pointers are SQLite's own, of VFSs that
        // are never taken off the list.
        let registered = unsafe {
            let default = ffi::sqlite3_vfs_find(ptr::null());
            // It makes itself the default. The telemetry files have checksums of their own, in their rows.
            sqlite3_register_cksumvfs(ptr::null()) == ffi::SQLITE_OK
                && ffi::sqlite3_vfs_register(default, 1) == ffi::SQLITE_OK
        };
        assert!(registered, "SQLite takes no further VFS: it has no default one");
    });
}

/// What a file says of itself and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Every page that is read is verified.
    Verified,
    /// A file from before there were checksums, a new one, or one on its way.
    Missing,
    /// It claims checksums and has none, or has some that it does not claim: its header is damaged.
    Contradicted,
}

/// Reads the state of the file that a connection is open on.
pub(super) async fn state(connection: &mut Connection) -> Result<State, sqlx::Error> {
    // The version first: that reads the header, from which the VFS knows what to do.
    let (version,): (i32,) = sqlx::query_as("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let verifies: Option<(String,)> =
        sqlx::query_as("PRAGMA checksum_verification").fetch_optional(&mut *connection).await?;
    Ok(match (version, verifies.is_some_and(|(answer,)| answer == "1")) {
        (COMPLETE, true) => State::Verified,
        (NONE, false) | (BEGUN, _) => State::Missing,
        _ => State::Contradicted,
    })
}

/// What puts a checksum into every page. Not in a write-ahead log: what lies there has none until it is copied into the file.
const STATEMENTS: [&str; 9] = [
    // For a file that was interrupted between the two that move rows.
    "PRAGMA checksum_verification=OFF",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA user_version=1",
    "SELECT reserve_checksums('main')",
    // Moves every row to pages with room for a checksum. Those written before the header, as they are where the cache
    // overflows, have none yet; so all are written once more.
    "VACUUM",
    "PRAGMA checksum_verification=OFF",
    "VACUUM",
    "PRAGMA checksum_verification=ON",
    "PRAGMA user_version=2",
];

/// Puts a checksum into every page of a file that lacks them. May be interrupted anywhere and is then done again.
///
/// # Errors
/// SQLite's, "database is locked" while another process has the file open among them.
pub(super) async fn put_in(connection: &mut Connection) -> Result<(), sqlx::Error> {
    for statement in STATEMENTS {
        sqlx::query(statement).fetch_all(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
