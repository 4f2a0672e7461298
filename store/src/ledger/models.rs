//! Statistical models by version: which is champion, what it was trained on.
