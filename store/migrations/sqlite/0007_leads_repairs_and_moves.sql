-- 95 % quantile of a supplier's lead time; null where it is certain.
ALTER TABLE parts ADD COLUMN supplier_lead_days_p95 DOUBLE PRECISION;
-- Pieces that are repaired at the same time; null where there is no bound.
ALTER TABLE parts ADD COLUMN repair_places BIGINT;
-- The depot that will serve a device once it has moved, and when; null where it stays.
ALTER TABLE devices ADD COLUMN moves_to TEXT;
ALTER TABLE devices ADD COLUMN moves_at BIGINT;
-- The place of a piece may now be device, too (held_by: the use that put it there).
