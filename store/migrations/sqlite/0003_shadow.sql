-- What a challenger said beside the champion, main horizon only; gone when it is decided which of the two goes on. A model's
-- state may now be challenger, too.
CREATE TABLE shadow_predictions (
    tenant TEXT NOT NULL, model_version TEXT NOT NULL, ts BIGINT NOT NULL, device TEXT NOT NULL, component TEXT NOT NULL,
    probability DOUBLE PRECISION NOT NULL, alarm BIGINT NOT NULL,
    PRIMARY KEY (tenant, model_version, ts, device, component)
);
