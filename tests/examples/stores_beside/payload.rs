//! The same readings as each server wants them.

use std::fmt::Write;

use harbinger_core::Reading;

use crate::contestant::{Contestant, Dialect, Table};

/// Samples of a payload, which is a commit; to the next whole reading below.
pub(crate) const SAMPLES: usize = 10_000;

/// Readings in the form that a contestant takes.
pub(crate) fn encode(contestant: Contestant, readings: &[Reading]) -> Vec<u8> {
    let line = match contestant {
        Contestant::Harbinger(Dialect::Native) => native_line,
        Contestant::Harbinger(Dialect::LineProtocol) | Contestant::VictoriaMetrics => influx_line,
        Contestant::Postgres(Table::Wide | Table::WideIndexed) => wide_row,
        Contestant::Postgres(Table::NarrowIndexed) => narrow_rows,
    };
    let mut text = String::with_capacity(readings.len() * 160);
    for reading in readings {
        line(&mut text, reading);
    }
    text.into_bytes()
}

/// Appends to a text, which cannot fail.
macro_rules! append {
    ($text:expr, $($format:tt)*) => {
        write!($text, $($format)*).expect("a String takes everything")
    };
}

fn native_line(text: &mut String, reading: &Reading) {
    append!(text, "{{\"device\":\"{}\",\"ts\":{},\"values\":{{", reading.key.device, reading.ts.millis());
    for (place, (signal, value)) in reading.values.iter().enumerate() {
        append!(text, "{}\"{signal}\":{value}", if place > 0 { "," } else { "" });
    }
    text.push_str("}}\n");
}

fn influx_line(text: &mut String, reading: &Reading) {
    append!(text, "harbinger,device={} ", reading.key.device.as_str().replace([' ', ',', '='], "_"));
    for (place, (signal, value)) in reading.values.iter().enumerate() {
        append!(text, "{}{signal}={value}", if place > 0 { "," } else { "" });
    }
    append!(text, " {}\n", reading.ts.millis());
}

fn wide_row(text: &mut String, reading: &Reading) {
    append!(text, "{}\t{}", reading.key.device, reading.ts);
    for (_, value) in &reading.values {
        append!(text, "\t{value}");
    }
    text.push('\n');
}

fn narrow_rows(text: &mut String, reading: &Reading) {
    for (signal, value) in &reading.values {
        append!(text, "{}\t{}\t{signal}\t{value}\n", reading.key.device, reading.ts);
    }
}
