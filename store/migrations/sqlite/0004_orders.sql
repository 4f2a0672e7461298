-- Orders with a whole life. state of a transfer may now be picked, too: its pieces are set aside on the shelf that they leave.
-- received_quantity counts what has come so far, of a shipped order whose rest follows, too; overdue_told_at: when somebody was
-- told, once, that it should have come.
ALTER TABLE transfers ADD COLUMN picked_at BIGINT;
ALTER TABLE transfers ADD COLUMN overdue_told_at BIGINT;
ALTER TABLE purchases ADD COLUMN overdue_told_at BIGINT;
