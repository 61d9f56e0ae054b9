//! Builds boot images and node disks from TOML.
