//! Results of a span: how replacements were served, what stock cost, whether plans came true; as a whole or by tenant, month, region
//! or class of parts.

use std::collections::{BTreeMap, HashMap};

use harbinger_core::{
    DepotId, Duration, PartId, TenantId, TimeRange, Timestamp,
    calendar::{CalendarUnit, Step, Zone},
};

use super::{
    Churn, Class, DeadStock, Facts, Forecast, Moved, Service, Stock, churn, classes, dead, forecasts, service,
};
use crate::ledger::words::words;

/// What results are told for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The whole.
    Whole,
    /// The whole, named after the tenant, so that results of several can be put together.
    Tenant,
    /// Each month, as UTC counts them.
    Month,
    /// Each region of depots: that of the depot that serves the device, holds the piece or gets it.
    Region,
    /// Each class of parts ([`Class`]) of the span.
    Class,
}

words!(By, "a grouping", Whole = "none", Tenant = "tenant", Month = "month", Region = "region", Class = "class");

/// Results of a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The time in it of which the ledger knows: from its first row to event time; `None` without any.
    pub known: Option<TimeRange>,
    /// In order of their names.
    pub groups: Vec<Group>,
}

/// Results of a group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// A tenant, `2026-01`, a region, or a class such as `AX`; `None` for the whole and for depots without a region.
    pub name: Option<String>,
    /// Replacements that were foreseen.
    pub predicted: Service,
    /// Those that were not.
    pub not_predicted: Service,
    /// All of them.
    pub all: Service,
    /// Stock.
    pub stock: Stock,
    /// Dead stock, now; `None` for months, and where no plan says what is needed.
    pub dead: Option<DeadStock>,
    /// Plans of the span whose windows have passed; by the month in which they begin.
    pub forecast: Forecast,
    /// Transfers that left in the span.
    pub churn: Churn,
}

/// Reckons the results of `facts`.
#[must_use]
pub fn results(facts: &Facts, by: By) -> Results {
    let known = known(facts);
    let grouping = Grouping::new(facts, by, known);
    let mut groups: BTreeMap<Key<'_>, Group> = grouping.empty_groups();
    add_service(facts, &grouping, &mut groups);
    add_stock(facts, &grouping, known, &mut groups);
    if by != By::Month {
        add_dead(facts, &grouping, &mut groups);
    }
    add_forecasts(facts, &grouping, &mut groups);
    add_churn(facts, &grouping, &mut groups);
    let named = |(key, group): (Key<'_>, Group)| Group { name: key.name(), ..group };
    Results { known, groups: groups.into_iter().map(named).collect() }
}

/// The time of the span from the first row that tells of it to event time.
fn known(facts: &Facts) -> Option<TimeRange> {
    let used = facts.uses.iter().map(|used| used.ts);
    let moved = facts.movements.iter().map(|moved| moved.ts);
    let shipped = facts.shipments.iter().map(|shipment| shipment.shipped_at);
    let expected = facts.expected.iter().map(|expected| expected.as_of);
    let consumed = facts.consumption.iter().map(|row| row.ts);
    let first = used.chain(moved).chain(shipped).chain(expected).chain(consumed).min()?;
    let known = TimeRange { from: facts.range.from.max(first), to: facts.range.to.min(facts.now) };
    (known.from <= known.to).then_some(known)
}

/// What a group is named after; whole, by time, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Whole,
    Tenant(&'a TenantId),
    Month(Timestamp),
    Region(Option<&'a str>),
    Class(Class),
}

impl Key<'_> {
    fn name(self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Tenant(tenant) => Some(tenant.to_string()),
            // 2026-01-01T00:00:00Z begins with the month.
            Self::Month(from) => from.to_string().get(..7).map(str::to_owned),
            Self::Region(region) => region.map(str::to_owned),
            Self::Class(class) => Some(class.to_string()),
        }
    }
}

/// Which group a row belongs to.
struct Grouping<'a> {
    by: By,
    tenant: &'a TenantId,
    months: Vec<TimeRange>,
    regions: HashMap<&'a DepotId, Option<&'a str>>,
    classes: HashMap<&'a PartId, Class>,
}

impl<'a> Grouping<'a> {
    fn new(facts: &'a Facts, by: By, known: Option<TimeRange>) -> Self {
        let months = known.map(months).unwrap_or_default();
        let regions = facts.depots.iter().map(|depot| (&depot.depot, depot.region.as_deref())).collect();
        let classes = match (by, known) {
            (By::Class, Some(known)) => {
                let whole: Vec<TimeRange> =
                    months.iter().filter(|month| known.from <= month.from && month.to <= known.to).copied().collect();
                classes::classes(&facts.parts, used_in(facts), &whole)
            }
            _ => HashMap::new(),
        };
        Self { by, tenant: &facts.tenant, months, regions, classes }
    }

    /// The group of what happened at `ts` with a part at a depot; `None` for a time or a part that has none.
    fn key(&self, ts: Timestamp, part: &PartId, depot: &DepotId) -> Option<Key<'a>> {
        match self.by {
            By::Whole => Some(Key::Whole),
            By::Tenant => Some(Key::Tenant(self.tenant)),
            By::Month => {
                let place = self.months.partition_point(|month| month.to <= ts);
                self.months.get(place).filter(|month| month.contains(ts)).map(|month| Key::Month(month.from))
            }
            By::Region => Some(Key::Region(self.regions.get(depot).copied().flatten())),
            By::Class => self.classes.get(part).copied().map(Key::Class),
        }
    }

    /// The groups that there are, whether anything happened in them or not.
    fn empty_groups(&self) -> BTreeMap<Key<'a>, Group> {
        let keys: Vec<Key<'a>> = match self.by {
            By::Whole => vec![Key::Whole],
            By::Tenant => vec![Key::Tenant(self.tenant)],
            By::Month => self.months.iter().map(|month| Key::Month(month.from)).collect(),
            By::Region => self.regions.values().copied().map(Key::Region).collect(),
            By::Class => self.classes.values().copied().map(Key::Class).collect(),
        };
        keys.into_iter().map(|key| (key, Group::default())).collect()
    }
}

/// The months in UTC that hold a time, its last instant included.
fn months(known: TimeRange) -> Vec<TimeRange> {
    let step = Step::Calendar { unit: CalendarUnit::Month, zone: Zone::UTC };
    let covered = TimeRange { to: known.to + Duration::from_millis(1), ..known };
    step.buckets(covered).collect()
}

/// What was used in the span: part, when, pieces.
fn used_in(facts: &Facts) -> impl Iterator<Item = (&PartId, Timestamp, f64)> {
    let replaced = facts.uses.iter().map(|used| (&used.part, used.ts, f64::from(used.quantity)));
    let consumed = facts.consumption.iter().map(|row| (&row.part, row.ts, row.quantity));
    replaced.chain(consumed).filter(|(_, ts, _)| facts.range.contains(*ts))
}

fn unit_costs(facts: &Facts) -> HashMap<&PartId, f64> {
    facts.parts.iter().map(|part| (&part.part, part.unit_cost)).collect()
}

fn add_service<'a>(facts: &'a Facts, grouping: &Grouping<'a>, groups: &mut BTreeMap<Key<'a>, Group>) {
    let costs = unit_costs(facts);
    let answers = service::answers(&facts.uses, &facts.shipments);
    for (used, answer) in facts.uses.iter().zip(answers).filter(|(used, _)| facts.range.contains(used.ts)) {
        let Some(key) = grouping.key(used.ts, &used.part, &used.depot) else { continue };
        let group = groups.entry(key).or_default();
        let half = if used.predicted { &mut group.predicted } else { &mut group.not_predicted };
        let unit_cost = costs.get(&used.part).copied().unwrap_or(0.0);
        for service in [half, &mut group.all] {
            service.add(used, answer, unit_cost, facts.now);
        }
    }
}

fn add_stock<'a>(
    facts: &'a Facts,
    grouping: &Grouping<'a>,
    known: Option<TimeRange>,
    groups: &mut BTreeMap<Key<'a>, Group>,
) {
    let (Some(known), Some(first)) = (known, facts.movements.first()) else { return };
    let costs = unit_costs(facts);
    let covered = TimeRange { from: known.from.max(first.ts).min(known.to), to: known.to };
    let mut used: BTreeMap<Key<'a>, f64> = BTreeMap::new();
    let in_it = |ts: Timestamp| covered.from <= ts && facts.range.contains(ts);
    for row in facts.uses.iter().filter(|row| in_it(row.ts)) {
        let Some(key) = grouping.key(row.ts, &row.part, &row.depot) else { continue };
        *used.entry(key).or_default() += f64::from(row.quantity) * costs.get(&row.part).copied().unwrap_or(0.0);
    }
    let used = |key: &Key<'a>| used.get(key).copied().unwrap_or(0.0);
    if grouping.by == By::Month {
        for month in &grouping.months {
            let part = TimeRange { from: month.from.max(covered.from), to: month.to.min(covered.to) };
            let key = Key::Month(month.from);
            let stock = Stock::of(&facts.movements, &costs, month.to.min(facts.range.to), part, used(&key));
            groups.entry(key).or_default().stock = stock;
        }
        return;
    }
    let mut movements: BTreeMap<Key<'a>, Vec<&Moved>> = groups.keys().map(|&key| (key, Vec::new())).collect();
    for moved in &facts.movements {
        let Some(key) = grouping.key(moved.ts, &moved.part, &moved.depot) else { continue };
        movements.entry(key).or_default().push(moved);
    }
    for (key, moved) in movements {
        groups.entry(key).or_default().stock = Stock::of(moved, &costs, facts.range.to, covered, used(&key));
    }
}

fn add_dead<'a>(facts: &'a Facts, grouping: &Grouping<'a>, groups: &mut BTreeMap<Key<'a>, Group>) {
    let Some(latest) = &facts.latest else { return };
    groups.values_mut().for_each(|group| group.dead = Some(DeadStock::default()));
    let costs = unit_costs(facts);
    let network = (facts.depots.as_slice(), facts.lanes.as_slice());
    for (level, pieces) in dead::dead(&facts.levels, latest, &facts.uses, &facts.consumption, network, facts.now) {
        let Some(key) = grouping.key(facts.now, &level.part, &level.depot) else { continue };
        let dead = groups.entry(key).or_default().dead.get_or_insert_default();
        dead.pieces += u64::from(pieces);
        dead.value += f64::from(pieces) * costs.get(&level.part).copied().unwrap_or(0.0);
    }
}

fn add_forecasts<'a>(facts: &'a Facts, grouping: &Grouping<'a>, groups: &mut BTreeMap<Key<'a>, Group>) {
    let until = facts.range.to.min(facts.now);
    for (expected, used) in forecasts::judged(&facts.expected, &facts.uses, &facts.consumption, until) {
        let Some(key) = grouping.key(expected.as_of, &expected.part, &expected.depot) else { continue };
        groups.entry(key).or_default().forecast.add(expected, used);
    }
}

fn add_churn<'a>(facts: &'a Facts, grouping: &Grouping<'a>, groups: &mut BTreeMap<Key<'a>, Group>) {
    let moves = churn::moved_back(&facts.shipments);
    for (moved, back) in moves.into_iter().filter(|(moved, _)| facts.range.contains(moved.shipped_at)) {
        let Some(key) = grouping.key(moved.shipped_at, &moved.part, &moved.to) else { continue };
        groups.entry(key).or_default().churn.add(moved, back);
    }
}
