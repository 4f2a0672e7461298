//! Results of a span as they are shown: service, stock, forecasts and moves of each group.

use harbinger_core::Timestamp;
use harbinger_store::ledger::kpi::{Churn, DeadStock, Forecast, Group, Results, Service, Stock};
use serde::Serialize;
use utoipa::ToSchema;

/// What a manager of service parts is judged by. Costs and values are at today's cost of a piece.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultsView {
    /// What groups are: none, tenant, month, region or class.
    by: &'static str,
    /// The first instant of the span of which anything is known; null without any.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// The end of the span, or event time if that is earlier; null where nothing is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// One for the whole or the tenant, or one for each month, region or class.
    groups: Vec<GroupView>,
}

/// Results of a group.
#[derive(Debug, Serialize, ToSchema)]
struct GroupView {
    /// The tenant; a month such as 2026-01, in UTC; a region, null for depots without one; or a class of parts, AX to CZ: A is what makes up the
    /// first 80 % of the value of use in the span, B what makes up the next 15 %, C the rest; X is a coefficient of variation of monthly
    /// use of at most 0.5, Y of at most 1, Z more, or not known for want of two whole months. Null for the whole.
    group: Option<String>,
    /// How replacements were served.
    service: ServicesView,
    /// What lay on shelves.
    stock: StockView,
    /// Dead stock, now; null for months, and where there is no plan that says what is needed.
    dead_stock: Option<DeadStockView>,
    /// What plans expected beside what was used.
    forecast: ForecastView,
    /// Pieces moved between depots.
    moves: MovesView,
}

/// Service of all replacements, and by whether an alert stood for device and component, or a transfer had named them.
#[derive(Debug, Serialize, ToSchema)]
struct ServicesView {
    /// All replacements.
    all: ServiceView,
    /// Those that were foreseen.
    predicted: ServiceView,
    /// Those that were not.
    not_predicted: ServiceView,
}

/// Service of some replacements. Which piece ended a wait is not recorded: a missing piece is taken to be answered by the next that an
/// order brings to that depot, first come, first served, each once.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceView {
    /// Replacements.
    replacements: u64,
    /// Pieces that they needed.
    pieces: u64,
    /// What those cost.
    cost: f64,
    /// Replacements whose pieces all lay on the shelf of the device's own depot.
    at_once: u64,
    /// `at_once` over `replacements`; null without any.
    fill_rate: Option<f64>,
    /// Replacements on devices under contract of which is known whether the pieces were at the depot within the hours to resolve.
    with_limit: u64,
    /// Those of them whose pieces were. Travel from the depot to the device is not known and not counted.
    within_limit: u64,
    /// `within_limit` over `with_limit`; null without any.
    within_limit_share: Option<f64>,
    /// Mean hours until the pieces were at the depot, zero where they lay there, of replacements that do not wait still; null without
    /// any.
    mean_wait_hours: Option<f64>,
    /// Replacements whose pieces have not come yet.
    waiting: u64,
    /// Emergency shipments: replacements for which a piece had to be sent for, as it neither lay on the shelf nor was on its way there.
    emergencies: u64,
}

/// What lay on shelves.
#[derive(Debug, Serialize, ToSchema)]
struct StockView {
    /// Value at the end of the span or month.
    value: f64,
    /// Mean value over the part of it of which movements are known; null where there is none.
    mean_value: Option<f64>,
    /// That part, in days: from the first movement ever on.
    days: f64,
    /// Cost of the pieces that replacements needed in it, as of a year of 365.25 days, over `mean_value`; null where that is zero.
    turns: Option<f64>,
}

/// Pieces that no device in reach is likely to need: with a probability under 5 % within 365 days, where need is Poisson and its mean the
/// larger of what the newest plan expects at that depot, if it went on like that, and what was used there in the last 365 days. A hub
/// reaches the depots that it has a lane to, less what lies there for them already.
#[derive(Debug, Serialize, ToSchema)]
struct DeadStockView {
    /// Pieces.
    pieces: u64,
    /// Their value.
    value: f64,
}

/// What plans of the span expected, part by part and depot by depot, beside what was used there until the end of each plan's window.
/// Windows that overlap one before are left out, and those that have not passed.
#[derive(Debug, Serialize, ToSchema)]
struct ForecastView {
    /// Windows.
    windows: u64,
    /// Pieces expected in them.
    expected: f64,
    /// Pieces used in them, by replacements and as consumption.
    used: f64,
    /// Pieces expected less pieces used, for each window; null without windows.
    bias: Option<f64>,
    /// Mean absolute difference, in pieces for each window; null without windows.
    mean_absolute_error: Option<f64>,
    /// Share of the windows that used no more than the 95 % quantile of the plan; null without windows.
    within_p95: Option<f64>,
}

/// Plan churn.
#[derive(Debug, Serialize, ToSchema)]
struct MovesView {
    /// Pieces of transfers that left in the span.
    pieces: u64,
    /// Those of them that left for where they had come from within 30 days after they arrived.
    moved_back: u64,
    /// `moved_back` over `pieces`; null where nothing moved.
    churn: Option<f64>,
}

impl ResultsView {
    pub(super) fn of(results: Results, by: &'static str) -> Self {
        let Results { known, groups } = results;
        let groups = groups.into_iter().map(GroupView::from).collect();
        Self { by, from: known.map(|known| known.from), to: known.map(|known| known.to), groups }
    }
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        let Group { name, predicted, not_predicted, all, stock, dead, forecast, churn } = group;
        let Stock { value, mean_value, days, turns } = stock;
        Self {
            group: name,
            service: ServicesView {
                all: (&all).into(),
                predicted: (&predicted).into(),
                not_predicted: (&not_predicted).into(),
            },
            stock: StockView { value, mean_value, days, turns },
            dead_stock: dead.map(|DeadStock { pieces, value }| DeadStockView { pieces, value }),
            forecast: (&forecast).into(),
            moves: churn.into(),
        }
    }
}

impl From<&Service> for ServiceView {
    fn from(service: &Service) -> Self {
        Self {
            replacements: service.uses,
            pieces: service.pieces,
            cost: service.cost,
            at_once: service.at_once,
            fill_rate: service.fill_rate(),
            with_limit: service.with_limit,
            within_limit: service.within_limit,
            within_limit_share: service.limit_kept(),
            mean_wait_hours: service.mean_wait_hours(),
            waiting: service.waiting,
            emergencies: service.emergencies,
        }
    }
}

impl From<&Forecast> for ForecastView {
    fn from(forecast: &Forecast) -> Self {
        Self {
            windows: forecast.windows,
            expected: forecast.expected,
            used: forecast.used,
            bias: forecast.bias(),
            mean_absolute_error: forecast.mean_absolute_error(),
            within_p95: forecast.p95_coverage(),
        }
    }
}

impl From<Churn> for MovesView {
    fn from(churn: Churn) -> Self {
        Self { pieces: churn.moved, moved_back: churn.moved_back, churn: churn.share() }
    }
}
