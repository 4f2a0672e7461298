//! The registry: models, signals, components, parts, depots, lanes, contracts, devices, maintenance, consumption.
