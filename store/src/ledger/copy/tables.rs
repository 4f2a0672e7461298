//! The tables of a ledger and their columns, in the order in which they are copied.

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many columns its primary key has.
    pub keys: usize,
    /// Its columns, those of the primary key first.
    pub columns: &'static [&'static str],
}

impl Table {
    /// The columns of its primary key.
    #[must_use]
    pub fn key(&self) -> &'static [&'static str] {
        self.columns.split_at(self.keys.min(self.columns.len())).0
    }
}

/// Left out: who does what at this moment, and the databases' own books.
#[cfg(test)]
pub(super) const LEFT_OUT: &[&str] = &["leases", "_sqlx_migrations", "sqlite_sequence"];

/// A table by its name, the columns of its primary key, and its other columns.
macro_rules! table {
    ($name:ident [$($key:ident)+] $($column:ident)*) => {
        Table {
            name: stringify!($name),
            keys: [$(stringify!($key)),+].len(),
            columns: &[$(stringify!($key),)+ $(stringify!($column)),*],
        }
    };
}

/// All others.
pub(super) const TABLES: &[Table] = &[
    table!(tenants [tenant] created_wall),
    table!(api_keys [key_id] tenant name hash scopes created_wall expires_wall last_used_wall revoked_wall),
    table!(hardware_models [tenant model] kind description),
    table!(signals [tenant model signal] unit description low_limit high_limit),
    table!(components [tenant model component] part quantity description),
    table!(parts [tenant part] unit_cost description supplier_lead_days repairable repair_days repair_yield pack_size
        minimum_order successor shelf_life_days supplier_lead_days_p95 repair_places),
    table!(depots [tenant depot] echelon region latitude longitude timezone capacity),
    table!(lanes [tenant from_depot to_depot] days days_p95 cost_per_piece fixed_cost capacity),
    table!(contracts [tenant contract] respond_hours resolve_hours downtime_cost_per_day miss_penalty),
    table!(devices [tenant device] model depot serial site contract installed_at observed_from observed_until moves_to
        moves_at),
    table!(maintenance [tenant device ts component action] reason),
    table!(consumption [consumption_id] tenant ts part depot quantity),
    table!(stock [tenant part depot] on_hand in_transit),
    table!(stock_movements [movement_id] tenant ts part depot quantity kind reference),
    table!(transfers [transfer_id] tenant plan_id part from_depot to_depot quantity state worth cost reasons
        proposed_at approved_at approved_by shipped_at due_at received_at received_quantity cancelled_at consumed
        picked_at overdue_told_at),
    table!(purchases [purchase_id] tenant plan_id part depot quantity state worth cost reasons proposed_at approved_at
        approved_by shipped_at due_at received_at received_quantity cancelled_at overdue_told_at),
    table!(part_uses [use_id] tenant ts device component part depot quantity from_stock transfer_id predicted),
    table!(returns [order_id] tenant leg part from_depot to_depot quantity state cause opened_at shipped_at due_at
        received_at received_quantity cancelled_at overdue_told_at),
    table!(pieces [tenant part serial] place held_by since),
    table!(work_orders [work_order_id] tenant device component part depot quantity due_at state reserved alert_id note
        opened_at opened_by done_at cancelled_at),
    table!(statistical_models [tenant version] state trained_until trained_wall horizons summary),
    table!(predictions [tenant ts device component] probabilities score alarm rul_mean rul_p05 rul_p50 rul_p95
        top_signals model_version),
    table!(shadow_predictions [tenant model_version ts device component] probability alarm),
    table!(decisions [tenant prediction_id] model_version body),
    table!(plans [plan_id] tenant as_of degraded body created_wall),
    table!(progress [tenant name] value),
    table!(alerts [alert_id] tenant device component failure_mode state severity summary reasons probability
        peak_probability prediction_id raised_at updated_at below_since acknowledged_at acknowledged_by resolved_at
        closed_at closed_by outcome outcome_component comment),
    table!(alert_history [alert_id step] tenant at at_wall state actor comment),
    table!(webhooks [webhook_id] tenant url secret previous_secret previous_until_wall event_types state
        disabled_reason created_wall),
    table!(deliveries [delivery_id] tenant webhook_id message_id event_type body state attempts next_attempt_wall
        created_wall delivered_wall last_status last_error),
    table!(changes [seq] tenant kind subject at at_wall body),
    table!(idempotency_keys [tenant idempotency_key] request_hash status body created_wall),
    table!(audit [audit_id] tenant at_wall actor action subject detail),
];
