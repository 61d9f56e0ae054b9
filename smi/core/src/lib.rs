//! Directory and membership: Viewstamped Replication and the directory table (sans-IO).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
