//! The frontier of one item: the best that so many pieces can do, over all ways to part them between hub and depots
//! (section 3.6).

use super::{
    Error, Item, Levels,
    steps::{Prepared, Step},
};

/// The best use of a number of pieces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Efficient {
    /// Pieces at hub and depots together.
    pub pieces: u32,
    /// S_0.
    pub hub: u32,
    /// Sum of weight times measure.
    pub value: f64,
}

/// The best use of 0, 1, ..., `most` pieces where every claim is of backorders and of group 0, so that it is known for each number.
///
/// # Errors
/// [`Error`] naming what cannot be true.
pub fn efficient_points(item: &Item, most: u32) -> Result<Vec<(Efficient, Levels)>, Error> {
    item.check(1)?;
    let prepared = Prepared::new(item, &[1.0], f64::MIN_POSITIVE)?;
    let best = best_by_pieces(&prepared, Some(most))?;
    best.iter().take(most as usize + 1).flatten().map(|&point| Ok((point, levels(&prepared, &point)?))).collect()
}

/// For each number of pieces the best that is found; none where no steps end there.
fn best_by_pieces(prepared: &Prepared<'_>, most: Option<u32>) -> Result<Vec<Option<Efficient>>, Error> {
    let mut best: Vec<Option<Efficient>> = Vec::new();
    let (mut steps, mut gains) = (Vec::new(), Vec::new());
    let most = most.unwrap_or(u32::MAX);
    let mut note = |pieces: u32, hub: u32, value: f64| {
        let place = pieces as usize;
        if best.len() <= place {
            best.resize(place + 1, None);
        }
        // Of equals the first, which has less at the hub.
        if best[place].is_none_or(|known| value > known.value) {
            best[place] = Some(Efficient { pieces, hub, value });
        }
    };
    for hub in prepared.hub_levels().take_while(|&hub| hub <= most) {
        let mut value = prepared.steps(hub, &mut steps, &mut gains)?;
        let mut pieces = hub;
        note(pieces, hub, value);
        for step in &steps {
            pieces += step.pieces;
            value += step.slope * f64::from(step.pieces);
            if pieces > most {
                break;
            }
            note(pieces, hub, value);
        }
    }
    Ok(best)
}

/// The best that is found for each number of pieces, where one more piece gives anything.
pub(super) fn efficient(prepared: &Prepared<'_>) -> Result<Vec<Efficient>, Error> {
    let mut best = f64::NEG_INFINITY;
    let mut points: Vec<Efficient> = best_by_pieces(prepared, None)?.into_iter().flatten().collect();
    points.retain(|point| {
        let rises = point.value > best;
        best = best.max(point.value);
        rises
    });
    Ok(points)
}

/// The upper concave hull of efficient points, from no pieces on, as far as a piece gives at least `least`.
pub(super) fn hull(points: &[Efficient], least: f64) -> Vec<Efficient> {
    let slope = |a: &Efficient, b: &Efficient| (b.value - a.value) / f64::from(b.pieces - a.pieces);
    let mut hull: Vec<Efficient> = Vec::new();
    for &point in points {
        while let [.., before, last] = hull.as_slice() {
            if slope(before, last) > slope(last, &point) {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    let worth = hull.windows(2).take_while(|pair| slope(&pair[0], &pair[1]) >= least).count();
    hull.truncate(worth + 1);
    hull
}

/// The levels behind a point of the frontier.
pub(super) fn levels(prepared: &Prepared<'_>, point: &Efficient) -> Result<Levels, Error> {
    let (mut steps, mut gains) = (Vec::new(), Vec::new());
    prepared.steps(point.hub, &mut steps, &mut gains)?;
    let mut cells = vec![0; prepared.item.cells.len()];
    for step in taken(&steps, point) {
        cells[step.cell as usize] += step.pieces;
    }
    Ok(Levels { hub: point.hub, cells })
}

/// The steps that make up a point.
fn taken<'s>(steps: &'s [Step], point: &Efficient) -> impl Iterator<Item = &'s Step> {
    let mut left = point.pieces - point.hub;
    steps.iter().take_while(move |step| {
        let fits = step.pieces <= left;
        left -= if fits { step.pieces } else { left };
        fits
    })
}

/// What each point of a hull counts for each group, point by point.
pub(super) fn group_values(prepared: &Prepared<'_>, hull: &[Efficient], groups: usize) -> Result<Vec<f64>, Error> {
    let mut values = vec![0.0; hull.len() * groups];
    let mut order: Vec<usize> = (0..hull.len()).collect();
    order.sort_by_key(|&place| (hull[place].hub, hull[place].pieces));
    let (mut steps, mut gains) = (Vec::new(), Vec::new());
    for of_level in order.chunk_by(|&a, &b| hull[a].hub == hull[b].hub) {
        let hub = hull[of_level[0]].hub;
        prepared.steps(hub, &mut steps, &mut gains)?;
        let (mut totals, of_claims) = prepared.claims(hub, groups)?;
        let mut cells = vec![0_usize; prepared.item.cells.len()];
        let mut left = steps.iter();
        let mut pieces = hub;
        for &place in of_level {
            while pieces < hull[place].pieces {
                let Some(step) = left.next() else { break };
                let cell = step.cell as usize;
                let range = cells[cell]..cells[cell] + step.pieces as usize;
                for (group, gains) in &of_claims[cell] {
                    totals[*group] += gains.iter().take(range.end).skip(range.start).sum::<f64>();
                }
                cells[cell] = range.end;
                pieces += step.pieces;
            }
            values[place * groups..(place + 1) * groups].copy_from_slice(&totals);
        }
    }
    Ok(values)
}
