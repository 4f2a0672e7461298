//! Lifetime models: Weibull with right censoring and left truncation, Kaplan-Meier.
