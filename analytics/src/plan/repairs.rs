//! What comes back from repair while a purchase is on its way (section 4.5).

use super::part::{Group, Member};
use crate::demand::{self, DemandLaw, Trial, poisson_binomial};

/// Returns count as certain where repair condemns no more than this share of them.
const CONDEMNED_SELDOM: f64 = 0.05;

/// Pieces that are due from repair.
pub(super) struct Expected {
    /// How many are in repair.
    pub(super) pieces: u32,
    /// The law of how many of them will be condemned. Demand less usable returns is demand and what is condemned, less all pieces
    /// that are in repair.
    pub(super) condemned: DemandLaw,
}

impl Group<'_, '_> {
    /// Pieces at the hub whose repair is due within so many days; those that are overdue count no more.
    pub(super) fn repaired_within(&self, member: &Member<'_, '_>, within_days: f64) -> Result<Expected, demand::Error> {
        let as_of = self.input.as_of;
        let stock = member.known.positions.and_then(|positions| positions.get(self.reach.hub));
        let due = stock.map_or(&[][..], |stock| &stock.in_repair).iter();
        let due = due.filter(|lot| (0.0..=within_days).contains(&lot.due_at.days_since(as_of)));
        let pieces = due.fold(0_u32, |sum, lot| sum.saturating_add(lot.quantity));
        let share = 1.0 - member.part.repair_yield.unwrap_or(1.0);
        let trial = Trial::one(if share < CONDEMNED_SELDOM { 0.0 } else { share });
        Ok(Expected { pieces, condemned: poisson_binomial(&vec![trial; pieces as usize])? })
    }
}
