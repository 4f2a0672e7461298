//! Forecasts intermittent series from a file by Teunter, Syntetos and Babai and says how long it took:
//! `scripts/forecasts-beside` runs it in turn with statsforecast.
//!
//! The file holds little-endian numbers of 64 bits: series, periods, then the demand series by series. The forecasts are written in
//! the same form, without a head.

use std::{env, error::Error, fs, time::Instant};

use harbinger_analytics::demand::teunter_syntetos_babai;
use rayon::prelude::*;

const ALPHA: f64 = 0.1;

fn main() -> Result<(), Box<dyn Error>> {
    let [demand, forecasts] = <[String; 2]>::try_from(env::args().skip(1).collect::<Vec<_>>())
        .map_err(|_| "usage: forecast_bench DEMAND FORECASTS")?;
    let bytes = fs::read(demand)?;
    let numbers: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let [series, periods] = numbers[..2] else { return Err("the file has no head".into()) };
    let start = Instant::now();
    let forecast: Vec<f64> =
        numbers[2..].par_chunks(periods as usize).map(|one| teunter_syntetos_babai(one, ALPHA, ALPHA)).collect();
    let seconds = start.elapsed().as_secs_f64();
    println!("seconds {seconds}");
    println!("series_per_second {}", series / seconds);
    fs::write(forecasts, forecast.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(())
}
