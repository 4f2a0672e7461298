//! Migrations that are killed. Files of older formats lie in `store/tests/formats`.

use std::{path::Path, time::Instant};

use harbinger_core::{DeviceEvent, DeviceKey, TimeRange};
use harbinger_store::telemetry::{QuarantineEntry, TelemetryStore};
use harbinger_tests::{files, workspace_root};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{PATIENCE, kill_after, open, rounds, start};

/// Everything that a file holds. Readings are told as text, where a value that is missing equals itself.
type Everything = (Vec<(DeviceKey, String, Vec<DeviceEvent>)>, Vec<QuarantineEntry>);

async fn everything(file: &Path) -> Everything {
    let store = open(file);
    let mut devices = Vec::new();
    for tenant in store.tenants().await.unwrap() {
        for extent in store.extents(&tenant).await.unwrap() {
            let key = DeviceKey::new(tenant.clone(), extent.device);
            let readings = store.scan(&key, TimeRange::ALL, None).await.unwrap();
            let events = store.events(&tenant, Some(&key.device), TimeRange::ALL).await.unwrap();
            devices.push((key, format!("{readings:?}"), events));
        }
    }
    let quarantine = store.quarantine(None, 0, usize::MAX).await.unwrap();
    store.close().await.unwrap();
    (devices, quarantine)
}

/// Each file is migrated in one go, and again by a process that is killed on the way. Both must hold the same in the end.
#[test]
fn a_migration_that_is_killed_is_finished_by_the_next_start() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut formats = files(&workspace_root().join("store/tests/formats"), "").unwrap();
    formats.retain(|file| file.file_name().unwrap().to_string_lossy().starts_with("telemetry.format-"));
    assert!(!formats.is_empty(), "no files of older formats");
    for original in formats {
        let folder = tempfile::tempdir().unwrap();
        let copy = |name: &str| {
            let copy = folder.path().join(name);
            fs_err::copy(&original, &copy).unwrap();
            copy
        };
        let whole = copy("whole.db");
        let begun = Instant::now();
        assert!(start(&["open", whole.to_str().unwrap()]).wait_for_end(PATIENCE).unwrap().success());
        let takes = begun.elapsed();
        let expected = runtime.block_on(everything(&whole));
        assert!(!expected.0.is_empty(), "{} holds nothing", original.display());
        for round in 0..rounds() {
            let killed = copy(&format!("killed-{round}.db"));
            let mut process = start(&["open", killed.to_str().unwrap()]);
            kill_after(takes.mul_f64(random.random_range(0.0..1.0)), &mut process);
            assert_eq!(runtime.block_on(everything(&killed)), expected, "{} round {round}", original.display());
        }
    }
}
