//! How good predictions are: scores by time split and by unseen devices, beside the base rate.
