-- Days after which a new piece may no longer be used; null where it keeps.
ALTER TABLE parts ADD COLUMN shelf_life_days DOUBLE PRECISION;
