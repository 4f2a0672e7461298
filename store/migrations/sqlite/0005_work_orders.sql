-- Planned replacements. state: open, done, cancelled. reserved: pieces on the depot's shelf that are kept for it.
CREATE TABLE work_orders (
    work_order_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, device TEXT NOT NULL, component TEXT NOT NULL, part TEXT NOT NULL, depot TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0), due_at BIGINT NOT NULL, state TEXT NOT NULL, reserved BIGINT NOT NULL,
    alert_id TEXT, note TEXT, opened_at BIGINT NOT NULL, opened_by TEXT NOT NULL, done_at BIGINT, cancelled_at BIGINT
);
-- Never two open ones for the same slot.
CREATE UNIQUE INDEX work_orders_of_slot ON work_orders (tenant, device, component) WHERE state = 'open';
CREATE INDEX work_orders_of_shelf ON work_orders (tenant, part, depot) WHERE state = 'open';
