//! Ledgers for tests: every test of the ledger runs on SQLite and on a real PostgreSQL.
//!
//! One server serves a test binary, a database of its own each test. Where PostgreSQL is not installed, its half says that
//! it is left out.

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::{Ledger, Url};

// The helper of the workspace's end-to-end tests: that crate leans on this one, so it is included and not depended on.
#[path = "../../../tests/src/postgres.rs"]
#[expect(unreachable_pub, reason = "it is public where it is at home")]
mod postgres;

pub(crate) use postgres::Postgres;

static SERVER: LazyLock<Option<Postgres>> = LazyLock::new(|| Postgres::start().unwrap());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The server of this test binary.
pub(crate) fn server() -> Option<&'static Postgres> {
    SERVER.as_ref()
}

/// The URL of an empty database.
pub(crate) fn database() -> Option<Url> {
    let name = format!("ledger_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    Some(Url::from(server()?.database(&name).unwrap().as_str()))
}

/// A ledger that nothing was written to.
pub(crate) struct Fresh {
    /// The ledger.
    pub(crate) ledger: Ledger,
    /// Where it lies; goes with it.
    _folder: Option<TempDir>,
}

/// A fresh ledger on disk.
pub(crate) async fn sqlite() -> Option<Fresh> {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("ledger.db")).await.unwrap();
    Some(Fresh { ledger, _folder: Some(folder) })
}

/// A fresh ledger on the server.
pub(crate) async fn postgres() -> Option<Fresh> {
    let ledger = Ledger::connect(&database()?).await.unwrap();
    Some(Fresh { ledger, _folder: None })
}

/// Makes tests of functions that take a fresh [`Ledger`]: each runs once for each engine.
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => {
        $crate::ledger::fixture::on_both_engines!(@engine sqlite $($test)+);
        $crate::ledger::fixture::on_both_engines!(@engine postgres $($test)+);
    };
    (@engine $engine:ident $($test:ident)+) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(fresh) = $crate::ledger::fixture::$engine().await {
                        super::$test(fresh.ledger.clone()).await;
                    }
                }
            )+
        }
    };
}
pub(crate) use on_both_engines;
