//! Boosts trees on a matrix from a file and says how long it took: `scripts/boosting-beside` runs it in turn with LightGBM.
//!
//! The file holds little-endian numbers of 64 bits: rows, features, rows to learn from, 1 for two classes or 0 for a number,
//! then the cells row by row, missing ones NaN, then the labels. The scores of the rows that were not learnt from are
//! written in the same form.

use std::{env, error::Error, fs, time::Instant};

use harbinger_analytics::boosting::{Boosting, BoostingOptions, Objective, Table};

fn main() -> Result<(), Box<dyn Error>> {
    let [matrix, scores] = <[String; 2]>::try_from(env::args().skip(1).collect::<Vec<_>>())
        .map_err(|_| "usage: boosting_bench MATRIX SCORES")?;
    let bytes = fs::read(matrix)?;
    let numbers: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let [rows, width, learnt, classes] = numbers[..4] else { return Err("the matrix has no head".into()) };
    let (rows, width, learnt) = (rows as usize, width as usize, learnt as usize);
    let (cells, labels) = numbers[4..].split_at(rows * width);
    let cells: Vec<&[f64]> = cells.chunks(width).collect();
    let objective = if classes == 1.0 { Objective::Logistic } else { Objective::Squared };
    let options = BoostingOptions { objective, ..BoostingOptions::default() };

    let start = Instant::now();
    let table = Table { rows: &cells[..learnt], labels: &labels[..learnt], weights: &vec![1.0; learnt] };
    let fitted = Boosting::fit(table, None, &[], &options)?;
    println!("fit_seconds {}", start.elapsed().as_secs_f64());

    let unseen = &cells[learnt..];
    let per_row = |start: Instant, rows: usize| start.elapsed().as_secs_f64() * 1e6 / rows as f64;
    let start = Instant::now();
    let batch = fitted.scores(unseen);
    println!("batch_microseconds {}", per_row(start, unseen.len()));
    let start = Instant::now();
    let alone: f64 = unseen.iter().map(|row| fitted.score(row)).sum();
    println!("row_microseconds {}", per_row(start, unseen.len()));
    let start = Instant::now();
    let mut contributions = Vec::new();
    let few = &unseen[..unseen.len().min(500)];
    let bases: f64 = few.iter().map(|row| fitted.contributions(row, &mut contributions)).sum();
    println!("contributions_microseconds {}", per_row(start, few.len()));
    eprintln!("{} trees; {alone:.3} {bases:.3}", fitted.trees());
    fs::write(scores, batch.iter().flat_map(|score| score.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(())
}
