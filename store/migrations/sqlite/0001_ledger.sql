-- The ledger: what Harbinger knows of fleets, what it decided and what it promised.
-- Every row belongs to a tenant. Times are milliseconds since 1970: event time, except columns that end in _wall.
-- Only BIGINT, DOUBLE PRECISION and TEXT are used, and queries number their parameters ($1), so that the same
-- statements run on SQLite and PostgreSQL. Truth values are BIGINT 0 or 1; documents are JSON in TEXT.

CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY,
    created_wall BIGINT NOT NULL
);

-- Scopes: a space-separated subset of "ingest read operate admin". The key itself is not kept, only its SHA-256.
CREATE TABLE api_keys (
    key_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_wall BIGINT NOT NULL,
    expires_wall BIGINT,
    last_used_wall BIGINT,
    revoked_wall BIGINT
);

-- ---- registry: one table a file of the fleet bundle

CREATE TABLE hardware_models (
    tenant TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL, description TEXT,
    PRIMARY KEY (tenant, model)
);
CREATE TABLE signals (
    tenant TEXT NOT NULL, model TEXT NOT NULL, signal TEXT NOT NULL, unit TEXT NOT NULL, description TEXT,
    low_limit DOUBLE PRECISION, high_limit DOUBLE PRECISION,
    PRIMARY KEY (tenant, model, signal)
);
CREATE TABLE components (
    tenant TEXT NOT NULL, model TEXT NOT NULL, component TEXT NOT NULL, part TEXT NOT NULL,
    quantity BIGINT NOT NULL, description TEXT,
    PRIMARY KEY (tenant, model, component)
);
CREATE TABLE parts (
    tenant TEXT NOT NULL, part TEXT NOT NULL, unit_cost DOUBLE PRECISION NOT NULL, description TEXT,
    supplier_lead_days DOUBLE PRECISION, repairable BIGINT NOT NULL, repair_days DOUBLE PRECISION,
    repair_yield DOUBLE PRECISION, pack_size BIGINT, minimum_order BIGINT, successor TEXT,
    PRIMARY KEY (tenant, part)
);
CREATE TABLE depots (
    tenant TEXT NOT NULL, depot TEXT NOT NULL, echelon TEXT NOT NULL, region TEXT,
    latitude DOUBLE PRECISION, longitude DOUBLE PRECISION, timezone TEXT,
    PRIMARY KEY (tenant, depot)
);
CREATE TABLE lanes (
    tenant TEXT NOT NULL, from_depot TEXT NOT NULL, to_depot TEXT NOT NULL, days DOUBLE PRECISION NOT NULL,
    days_p95 DOUBLE PRECISION, cost_per_piece DOUBLE PRECISION, fixed_cost DOUBLE PRECISION,
    PRIMARY KEY (tenant, from_depot, to_depot)
);
CREATE TABLE contracts (
    tenant TEXT NOT NULL, contract TEXT NOT NULL, respond_hours DOUBLE PRECISION NOT NULL,
    resolve_hours DOUBLE PRECISION NOT NULL, downtime_cost_per_day DOUBLE PRECISION, miss_penalty DOUBLE PRECISION,
    PRIMARY KEY (tenant, contract)
);
CREATE TABLE devices (
    tenant TEXT NOT NULL, device TEXT NOT NULL, model TEXT NOT NULL, depot TEXT NOT NULL, serial TEXT, site TEXT,
    contract TEXT, installed_at BIGINT, observed_from BIGINT, observed_until BIGINT,
    PRIMARY KEY (tenant, device)
);
CREATE TABLE maintenance (
    tenant TEXT NOT NULL, device TEXT NOT NULL, ts BIGINT NOT NULL, component TEXT NOT NULL, action TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (tenant, device, ts, component, action)
);
CREATE TABLE consumption (
    consumption_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, ts BIGINT NOT NULL, part TEXT NOT NULL, depot TEXT NOT NULL,
    quantity DOUBLE PRECISION NOT NULL
);
CREATE INDEX consumption_by_part ON consumption (tenant, part, depot, ts);

-- ---- stock and orders

-- on_hand is changed only together with a row in stock_movements.
CREATE TABLE stock (
    tenant TEXT NOT NULL, part TEXT NOT NULL, depot TEXT NOT NULL, on_hand BIGINT NOT NULL CHECK (on_hand >= 0),
    in_transit BIGINT NOT NULL CHECK (in_transit >= 0),
    PRIMARY KEY (tenant, part, depot)
);
-- kind: import, ship, receive, consume, adjust. (reference, kind, depot) once: a movement is booked exactly once.
CREATE TABLE stock_movements (
    movement_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, ts BIGINT NOT NULL, part TEXT NOT NULL, depot TEXT NOT NULL, quantity BIGINT NOT NULL,
    kind TEXT NOT NULL, reference TEXT NOT NULL,
    UNIQUE (tenant, reference, kind, part, depot)
);
-- state: proposed, approved, shipped, received, cancelled. consumed counts pieces of a received order that were used.
CREATE TABLE transfers (
    transfer_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, plan_id TEXT NOT NULL, part TEXT NOT NULL, from_depot TEXT NOT NULL, to_depot TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0), state TEXT NOT NULL,
    worth DOUBLE PRECISION NOT NULL, cost DOUBLE PRECISION NOT NULL, reasons TEXT NOT NULL,
    proposed_at BIGINT NOT NULL, approved_at BIGINT, approved_by TEXT, shipped_at BIGINT, due_at BIGINT,
    received_at BIGINT, received_quantity BIGINT, cancelled_at BIGINT, consumed BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX transfers_by_state ON transfers (tenant, state, transfer_id);
CREATE TABLE purchases (
    purchase_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, plan_id TEXT NOT NULL, part TEXT NOT NULL, depot TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0), state TEXT NOT NULL,
    worth DOUBLE PRECISION NOT NULL, cost DOUBLE PRECISION NOT NULL, reasons TEXT NOT NULL,
    proposed_at BIGINT NOT NULL, approved_at BIGINT, approved_by TEXT, shipped_at BIGINT, due_at BIGINT,
    received_at BIGINT, received_quantity BIGINT, cancelled_at BIGINT
);
CREATE INDEX purchases_by_state ON purchases (tenant, state, purchase_id);
-- What met a replacement: from local stock or not, and which transfer had brought the piece.
CREATE TABLE part_uses (
    use_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, ts BIGINT NOT NULL, device TEXT NOT NULL, component TEXT NOT NULL, part TEXT NOT NULL,
    depot TEXT NOT NULL, quantity BIGINT NOT NULL, from_stock BIGINT NOT NULL, transfer_id TEXT, predicted BIGINT NOT NULL,
    UNIQUE (tenant, device, component, ts)
);

-- ---- predictions, models, plans

-- state: champion, candidate, retired. The model files lie in the data directory under models/{version}.
CREATE TABLE statistical_models (
    tenant TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL, trained_until BIGINT NOT NULL,
    trained_wall BIGINT NOT NULL, horizons TEXT NOT NULL, summary TEXT NOT NULL,
    PRIMARY KEY (tenant, version)
);
-- probabilities: JSON array, one a horizon of the model. top_signals: JSON array of [name, contribution], strongest first. Quantiles and mean of remaining useful life in hours.
CREATE TABLE predictions (
    tenant TEXT NOT NULL, ts BIGINT NOT NULL, device TEXT NOT NULL, component TEXT NOT NULL,
    probabilities TEXT NOT NULL, score DOUBLE PRECISION NOT NULL, alarm BIGINT NOT NULL,
    rul_mean DOUBLE PRECISION NOT NULL, rul_p05 DOUBLE PRECISION NOT NULL, rul_p50 DOUBLE PRECISION NOT NULL,
    rul_p95 DOUBLE PRECISION NOT NULL, top_signals TEXT NOT NULL, model_version TEXT NOT NULL,
    PRIMARY KEY (tenant, ts, device, component)
);
CREATE INDEX predictions_by_device ON predictions (tenant, device, component, ts);
-- What a decision was made from: feature values, contributions, normal ranges. For rows that alarmed or fed a plan.
CREATE TABLE decisions (
    tenant TEXT NOT NULL, prediction_id TEXT NOT NULL, model_version TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (tenant, prediction_id)
);
CREATE TABLE plans (
    plan_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, as_of BIGINT NOT NULL, degraded BIGINT NOT NULL, body TEXT NOT NULL,
    created_wall BIGINT NOT NULL
);
CREATE INDEX plans_by_time ON plans (tenant, as_of);
-- How far each piece of background work has come: scored_until, trained_until, planned_until.
CREATE TABLE progress (
    tenant TEXT NOT NULL, name TEXT NOT NULL, value BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- ---- alerts

-- state: open, acknowledged, in_progress, resolved, closed. outcome: confirmed, no_fault_found, other_component.
CREATE TABLE alerts (
    alert_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, device TEXT NOT NULL, component TEXT NOT NULL, failure_mode TEXT NOT NULL,
    state TEXT NOT NULL, severity TEXT NOT NULL, summary TEXT NOT NULL, reasons TEXT NOT NULL,
    probability DOUBLE PRECISION NOT NULL, peak_probability DOUBLE PRECISION NOT NULL, prediction_id TEXT,
    raised_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, below_since BIGINT,
    acknowledged_at BIGINT, acknowledged_by TEXT, resolved_at BIGINT, closed_at BIGINT, closed_by TEXT,
    outcome TEXT, outcome_component TEXT, comment TEXT
);
-- One open alert per device, component and failure mode.
CREATE UNIQUE INDEX alerts_one_open ON alerts (tenant, device, component, failure_mode)
    WHERE state IN ('open', 'acknowledged', 'in_progress');
CREATE INDEX alerts_by_state ON alerts (tenant, state, alert_id);
CREATE TABLE alert_history (
    tenant TEXT NOT NULL, alert_id TEXT NOT NULL, step BIGINT NOT NULL, at BIGINT NOT NULL, at_wall BIGINT NOT NULL,
    state TEXT NOT NULL, actor TEXT NOT NULL, comment TEXT,
    PRIMARY KEY (alert_id, step)
);

-- ---- delivery

-- state: active, disabled. event_types: JSON array, empty for all. body_format: native, cloudevents, alertmanager.
CREATE TABLE webhooks (
    webhook_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, url TEXT NOT NULL, secret TEXT NOT NULL, previous_secret TEXT, previous_until_wall BIGINT,
    event_types TEXT NOT NULL, state TEXT NOT NULL, disabled_reason TEXT, created_wall BIGINT NOT NULL
);
-- The outbox. Written in the transaction that changed what it tells of. state: pending, delivered, dead.
CREATE TABLE deliveries (
    delivery_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, webhook_id TEXT NOT NULL, message_id TEXT NOT NULL, event_type TEXT NOT NULL, body TEXT NOT NULL,
    state TEXT NOT NULL, attempts BIGINT NOT NULL, next_attempt_wall BIGINT NOT NULL, created_wall BIGINT NOT NULL,
    delivered_wall BIGINT, last_status BIGINT, last_error TEXT
);
CREATE INDEX deliveries_due ON deliveries (state, next_attempt_wall);
-- What an endpoint still has to be sent, found without reading what it was sent before.
CREATE INDEX deliveries_pending ON deliveries (webhook_id, delivery_id) WHERE state = 'pending';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, delivery_id);

-- Everything that happened, in order: what the live stream sends and Last-Event-ID resumes from.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, at BIGINT NOT NULL, at_wall BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX changes_by_tenant ON changes (tenant, seq);

CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL, idempotency_key TEXT NOT NULL, request_hash TEXT NOT NULL, status BIGINT NOT NULL,
    body TEXT NOT NULL, created_wall BIGINT NOT NULL,
    PRIMARY KEY (tenant, idempotency_key)
);
CREATE TABLE audit (
    audit_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, at_wall BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant, at_wall);
