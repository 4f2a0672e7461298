-- Days after which a new piece may no longer be used; null where it keeps.
ALTER TABLE parts ADD COLUMN shelf_life_days DOUBLE PRECISION;
-- Most pieces that a depot holds, and that one shipment of a lane takes; null where there is no bound.
ALTER TABLE depots ADD COLUMN capacity BIGINT;
ALTER TABLE lanes ADD COLUMN capacity BIGINT;
