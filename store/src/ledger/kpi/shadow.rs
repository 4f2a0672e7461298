//! What plans in shadow would have done: which replacements would have found their piece, and what that would have cost.
//!
//! A plan in shadow moves nothing, so the next one sees the same shelves and asks for the same pieces again. What plans ask for is
//! therefore taken as a level: of a part at a depot only what exceeds the pieces that earlier plans would have sent there, and that
//! nobody has used since, is sent.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt as _;
use harbinger_core::{DepotId, Duration, PartId, TenantId, TimeRange, Timestamp, fleet::Lane};
use serde::Deserialize;

use super::{
    UseFact,
    facts::{MADE_LAST, uses},
};
use crate::ledger::{Connection, Error, column, registry};

/// What a plan in shadow asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowPlan {
    /// Instant that it was for.
    pub as_of: Timestamp,
    /// Pieces that it wanted sent from the hub to a depot.
    pub sends: Vec<Asked>,
    /// Pieces that it wanted bought for a hub.
    pub buys: Vec<Asked>,
}

/// Pieces that a plan asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Which part.
    pub part: PartId,
    /// Where they would have gone.
    pub to: DepotId,
    /// Pieces, above zero.
    pub quantity: u32,
    /// When they would have been there; of a purchase, when it was asked for.
    pub arrives: Timestamp,
    /// What all of them cost: transport, or the pieces themselves.
    pub cost: f64,
}

/// What plans in shadow would have done, beside what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WouldHaveBeen {
    /// Plans in shadow.
    pub plans: u64,
    /// Replacements that took a part, from the first of these plans on.
    pub replacements: u64,
    /// Replacements whose pieces all lay on the shelf of the device's own depot.
    pub at_once: u64,
    /// Replacements that lacked pieces, all of which would have lain there.
    pub more_at_once: u64,
    /// Pieces that would have been sent from hubs.
    pub sent: u64,
    /// Pieces of them that no replacement would have used by the end.
    pub unused: u64,
    /// What sending them would have cost.
    pub transport_cost: f64,
    /// Pieces that would have been bought.
    pub bought: u64,
    /// What they would have cost.
    pub purchase_cost: f64,
}

/// Pieces that would lie at a depot or be on the way there, by when they arrive.
type Sent = BTreeMap<Timestamp, u32>;

/// What the plans of a span would have done to its replacements. Plans and uses in order of time.
#[must_use]
pub fn would_have_been(plans: &[ShadowPlan], uses: &[UseFact]) -> WouldHaveBeen {
    let mut told = WouldHaveBeen::default();
    let mut sent: HashMap<(&PartId, &DepotId), Sent> = HashMap::new();
    let mut bought: HashMap<(&PartId, &DepotId), u32> = HashMap::new();
    let mut plans = plans.iter().peekable();
    for used in uses {
        while let Some(plan) = plans.next_if(|plan| plan.as_of <= used.ts) {
            told.add_plan(plan, &mut sent, &mut bought);
        }
        if told.plans > 0 {
            told.add_use(used, sent.get_mut(&(&used.part, &used.depot)));
        }
    }
    plans.for_each(|plan| told.add_plan(plan, &mut sent, &mut bought));
    told.unused = sent.values().flat_map(BTreeMap::values).map(|&pieces| u64::from(pieces)).sum();
    told
}

impl WouldHaveBeen {
    fn add_plan<'a>(
        &mut self,
        plan: &'a ShadowPlan,
        sent: &mut HashMap<(&'a PartId, &'a DepotId), Sent>,
        bought: &mut HashMap<(&'a PartId, &'a DepotId), u32>,
    ) {
        self.plans += 1;
        for asked in &plan.sends {
            let there = sent.entry((&asked.part, &asked.to)).or_default();
            let more = asked.quantity.saturating_sub(there.values().sum());
            if more > 0 {
                *there.entry(asked.arrives).or_default() += more;
                self.sent += u64::from(more);
                self.transport_cost += asked.cost_of(more);
            }
        }
        for asked in &plan.buys {
            let ordered = bought.entry((&asked.part, &asked.to)).or_default();
            let more = asked.quantity.saturating_sub(*ordered);
            *ordered += more;
            self.bought += u64::from(more);
            self.purchase_cost += asked.cost_of(more);
        }
    }

    fn add_use(&mut self, used: &UseFact, sent: Option<&mut Sent>) {
        self.replacements += 1;
        let mut lacking = used.quantity.saturating_sub(used.on_shelf);
        if lacking == 0 {
            self.at_once += 1;
            return;
        }
        for pieces in sent.into_iter().flat_map(|sent| sent.range_mut(..=used.ts)).map(|(_, pieces)| pieces) {
            let taken = lacking.min(*pieces);
            *pieces -= taken;
            lacking -= taken;
        }
        self.more_at_once += u64::from(lacking == 0);
    }
}

impl Asked {
    fn cost_of(&self, pieces: u32) -> f64 {
        self.cost * f64::from(pieces) / f64::from(self.quantity.max(1))
    }
}

/// The part of a plan's document that says what it asks for.
#[derive(Debug, Deserialize)]
struct Body {
    #[serde(default)]
    shadow: bool,
    #[serde(default)]
    transfers: Vec<Move>,
    #[serde(default)]
    purchases: Vec<Buy>,
}

#[derive(Debug, Deserialize)]
struct Move {
    part: PartId,
    kind: String,
    from: DepotId,
    to: DepotId,
    quantity: u32,
    cost: f64,
}

#[derive(Debug, Deserialize)]
struct Buy {
    part: PartId,
    to: DepotId,
    quantity: u32,
    cost: f64,
}

/// The plans in shadow of a span, and its replacements; each in order of time. A plan that was made again for the same instant counts
/// once.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Database`].
pub async fn shadow_plans(
    connection: &mut Connection,
    tenant: &TenantId,
    range: TimeRange,
) -> Result<(Vec<ShadowPlan>, Vec<UseFact>), Error> {
    let lanes: Vec<Lane> = registry::list(connection, tenant, None, usize::MAX).await?;
    let days: HashMap<(&DepotId, &DepotId), f64> =
        lanes.iter().map(|lane| ((&lane.from, &lane.to), lane.days)).collect();
    let mut used = uses(connection, tenant).await?;
    used.retain(|used| range.contains(used.ts));
    let mut rows = sqlx::query(MADE_LAST)
        .bind(tenant.as_str())
        .bind(range.from.millis())
        .bind(range.to.millis())
        .fetch(connection);
    let mut plans = Vec::new();
    // Plans are large documents: they are read one after another.
    while let Some(row) = rows.try_next().await? {
        let body: Body = column::json(&row, "body")?;
        if !body.shadow {
            continue;
        }
        let as_of = column::time(&row, "as_of")?;
        let forward = body.transfers.into_iter().filter(|one| one.kind == "forward" && one.quantity > 0);
        let sends = forward.map(|one| {
            let days = days.get(&(&one.from, &one.to)).copied().unwrap_or(0.0);
            // `as` saturates, and so does the sum.
            let arrives = as_of + Duration::from_millis((days * 86_400_000.0).round() as i64);
            Asked { part: one.part, to: one.to, quantity: one.quantity, arrives, cost: one.cost }
        });
        let bought = body.purchases.into_iter().filter(|one| one.quantity > 0);
        let buys = bought.map(|one| {
            let Buy { part, to, quantity, cost } = one;
            Asked { part, to, quantity, arrives: as_of, cost }
        });
        plans.push(ShadowPlan { as_of, sends: sends.collect(), buys: buys.collect() });
    }
    Ok((plans, used))
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{day, depot, part, used},
        *,
    };

    fn asked(to: &str, quantity: u32, arrives: i64) -> Asked {
        Asked { part: part(), to: depot(to), quantity, arrives: day(arrives), cost: 8.0 * f64::from(quantity) }
    }

    fn plan(as_of: i64, sends: Vec<Asked>, buys: Vec<Asked>) -> ShadowPlan {
        ShadowPlan { as_of: day(as_of), sends, buys }
    }

    /// Asked for on three days, sent once; there on day 3: the replacement of day 2 comes too early, that of day 4 finds it, that of
    /// day 5 does not, and the piece asked for then lies there at the end.
    #[test]
    fn what_is_asked_for_again_is_sent_once_and_serves_once() {
        let daily = |as_of: i64| plan(as_of, vec![asked("north", 1, as_of + 2)], vec![asked("hub", 3, as_of)]);
        let plans = [daily(1), daily(2), daily(3), daily(6)];
        let uses = [used(0, "north", 1, 0), used(2, "north", 1, 0), used(4, "north", 1, 0), used(5, "north", 1, 0)];
        let expected = WouldHaveBeen {
            plans: 4,
            replacements: 3,
            at_once: 0,
            more_at_once: 1,
            sent: 2,
            unused: 1,
            transport_cost: 16.0,
            bought: 3,
            purchase_cost: 24.0,
        };
        assert_eq!(would_have_been(&plans, &uses), expected);
    }

    #[test]
    fn a_shelf_that_had_a_piece_takes_none_and_half_a_set_does_not_serve() {
        let plans = [plan(0, vec![asked("north", 2, 1)], Vec::new()), plan(3, vec![asked("south", 1, 4)], Vec::new())];
        let uses = [used(2, "north", 1, 1), used(3, "north", 3, 1), used(5, "south", 2, 0)];
        let told = would_have_been(&plans, &uses);
        assert_eq!((told.replacements, told.at_once, told.more_at_once), (3, 1, 1));
        assert_eq!((told.sent, told.unused), (3, 0));
        assert_eq!(would_have_been(&[], &uses), WouldHaveBeen::default());
    }
}
