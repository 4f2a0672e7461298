-- Orders with a whole life. state of a transfer may now be picked, too: its pieces are set aside on the shelf that they leave.
-- received_quantity counts what has come so far, of a shipped order whose rest follows, too; overdue_told_at: when somebody was
-- told, once, that it should have come.
ALTER TABLE transfers ADD COLUMN picked_at BIGINT;
ALTER TABLE transfers ADD COLUMN overdue_told_at BIGINT;
ALTER TABLE purchases ADD COLUMN overdue_told_at BIGINT;

-- The way of failed pieces back: leg return (to the hub; cause: the use) and repair (there; cause: the return). state: approved,
-- shipped, received, cancelled. Of a repair, received_quantity counts the usable pieces.
CREATE TABLE returns (
    order_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL, leg TEXT NOT NULL, part TEXT NOT NULL, from_depot TEXT NOT NULL, to_depot TEXT NOT NULL,
    quantity BIGINT NOT NULL CHECK (quantity > 0), state TEXT NOT NULL, cause TEXT NOT NULL, opened_at BIGINT NOT NULL,
    shipped_at BIGINT, due_at BIGINT, received_at BIGINT, received_quantity BIGINT, cancelled_at BIGINT,
    overdue_told_at BIGINT,
    UNIQUE (tenant, leg, cause)
);
CREATE INDEX returns_by_state ON returns (tenant, leg, state, order_id);

-- Pieces that orders have named by their serial; each is at one place. place: depot (held_by: which), order (on the way or in repair;
-- held_by: its id), gone (held_by is empty).
CREATE TABLE pieces (
    tenant TEXT NOT NULL, part TEXT NOT NULL, serial TEXT NOT NULL, place TEXT NOT NULL, held_by TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (tenant, part, serial)
);
CREATE INDEX pieces_by_holder ON pieces (tenant, place, held_by);
