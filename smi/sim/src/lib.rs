//! Deterministic simulator of whole clusters.
