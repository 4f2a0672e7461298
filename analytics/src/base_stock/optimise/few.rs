//! Few items: one piece of one of them moves the whole, so all ways to join their best points are looked at.
//!
//! Joined item by item, ways that cost no less than another and give no more are dropped (Nemhauser and Ullmann 1969,
//! *Discrete dynamic programming and capital allocation*, Management Science 15).

use super::{Efficient, Frontier};

/// Ways that are kept at most; beyond that steps by gain for the money are good enough.
const MOST_WAYS: usize = 200_000;

/// A way to stock the items so far.
#[derive(Debug, Clone, Copy)]
struct Way {
    cost: f64,
    value: f64,
    /// Place of the way that it continues.
    before: usize,
    /// Point of the last item.
    point: usize,
}

/// All ways that no other beats, for items with these points and a cost of at most `most`.
pub(super) struct Ways<'a> {
    frontiers: &'a [Frontier],
    /// After each item, by rising cost and value.
    layers: Vec<Vec<Way>>,
}

impl<'a> Ways<'a> {
    /// Joins; `None` where there are too many ways.
    pub(super) fn join(frontiers: &'a [Frontier], most: f64) -> Option<Self> {
        let mut layers = vec![vec![Way { cost: 0.0, value: 0.0, before: 0, point: 0 }]];
        for frontier in frontiers {
            let known = layers.last()?;
            let (mut ways, mut looked_at) = (Vec::new(), 0);
            for (point, of) in frontier.all.iter().enumerate() {
                let cost = frontier.cost * f64::from(of.pieces);
                let within = known.partition_point(|way| way.cost + cost <= most);
                looked_at += within;
                if looked_at > 16 * MOST_WAYS {
                    return None;
                }
                let longer = known[..within].iter().enumerate().map(|(before, way)| Way {
                    cost: way.cost + cost,
                    value: way.value + of.value,
                    before,
                    point,
                });
                ways = unbeaten(&ways, longer);
            }
            if ways.len() > MOST_WAYS {
                return None;
            }
            layers.push(ways);
        }
        Some(Self { frontiers, layers })
    }

    /// The cheapest way that reaches `value`: one point for each item, what they cost and what they give.
    pub(super) fn cheapest(&self, value: f64) -> Option<(Vec<Efficient>, f64, f64)> {
        let place = self.layers.last()?.iter().position(|way| way.value >= value)?;
        self.follow(place)
    }

    /// The way of greatest value.
    pub(super) fn best(&self) -> Option<(Vec<Efficient>, f64, f64)> {
        self.follow(self.layers.last()?.len().checked_sub(1)?)
    }

    fn follow(&self, last: usize) -> Option<(Vec<Efficient>, f64, f64)> {
        let end = self.layers.last()?.get(last)?;
        let mut place = last;
        let mut points = Vec::with_capacity(self.frontiers.len());
        for (frontier, layer) in self.frontiers.iter().zip(&self.layers[1..]).rev() {
            points.push(frontier.all[layer[place].point]);
            place = layer[place].before;
        }
        points.reverse();
        Some((points, end.cost, end.value))
    }
}

/// Of ways in two orders of rising cost those that no other beats: each gives more than all that cost no more.
fn unbeaten(ways: &[Way], others: impl Iterator<Item = Way>) -> Vec<Way> {
    let (mut ways, mut others) = (ways.iter().copied().peekable(), others.peekable());
    let mut merged: Vec<Way> = Vec::with_capacity(ways.len());
    loop {
        let is_first = match (ways.peek(), others.peek()) {
            (None, None) => return merged,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // Of two that cost the same the one that gives more, then the one with fewer pieces of the last item.
            (Some(a), Some(b)) => a.cost.total_cmp(&b.cost).then(b.value.total_cmp(&a.value)).is_le(),
        };
        let Some(next) = (if is_first { ways.next() } else { others.next() }) else { return merged };
        if merged.last().is_none_or(|last| next.value > last.value) {
            merged.push(next);
        }
    }
}
