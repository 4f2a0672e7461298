//! A simulated past survives the way out to CSV and back: nothing of it is lost, rounded or put in another order.

use harbinger_bundle::Bundle;
use harbinger_core::Duration;
use harbinger_sim::{Options, history};

#[test]
fn a_simulated_past_written_as_a_bundle_reads_back_the_same() {
    let options = Options {
        servers: 6,
        refrigerators: 4,
        air_conditioners: 4,
        cadence: Duration::from_hours(1),
        wear_acceleration: 60.0,
        ..Options::default()
    };
    let past = history(options, 17, 40).unwrap();
    assert!(past.histories.values().any(|known| !known.failures.is_empty()), "nothing failed, so nothing is tested");
    let written = Bundle {
        fleet: past.fleet,
        histories: past.histories,
        has_failures_file: true,
        consumption: Vec::new(),
        warnings: Vec::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    harbinger_bundle::write::write(&written, folder.path()).unwrap();
    let read = harbinger_bundle::read(folder.path()).unwrap();
    assert_eq!(read.warnings, [""; 0]);
    assert!(read.fleet == written.fleet, "the fleet came back changed: {:#?}", read.fleet);
    assert_eq!(read.histories.keys().collect::<Vec<_>>(), written.histories.keys().collect::<Vec<_>>());
    for (device, known) in &written.histories {
        let again = &read.histories[device];
        assert_eq!(again.readings.times, known.readings.times, "{device}");
        for (signal, column) in &known.readings.columns {
            let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(again.readings.column(signal).unwrap().iter().zip(column).all(same), "{device} {signal}");
        }
        assert_eq!(again.events, known.events, "{device}");
        assert_eq!(again.maintenance, known.maintenance, "{device}");
        assert_eq!(again.failures, known.failures, "{device}");
    }
}
