//! Alerts as rows: one open alert per device, component and failure mode, and its history.
